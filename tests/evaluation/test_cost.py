"""Latency, throughput and training time."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from darkroom.evaluation import cost


@pytest.mark.parametrize("count", [1, 3, 50])
def test_single_images_and_whole_batches_are_timed(count, monkeypatch):
    """Single images and batches of 32 are timed, however many images there are; a slower function takes
    longer."""
    monkeypatch.setattr(cost._Load, "others", lambda self: 0.0)
    sizes = []

    def predict(images: np.ndarray) -> None:
        sizes.append(len(images))
        time.sleep(0.0005 * len(images))

    speed = cost.measure(predict, np.zeros((count, 4, 4, 3), np.uint8))
    assert set(sizes) == {1, 32}
    assert 0.5 <= speed.ms_p50 <= speed.ms_p95
    assert 0 < speed.images_per_second <= 2000
    assert sizes.count(1) >= cost.LEAST


def test_other_programs_do_not_make_a_model_slow(monkeypatch):
    """Where others use cores, a batch counts with one thread's processor time: not the time in which a thread had to wait."""

    def predict(images: np.ndarray) -> None:
        time.sleep(0.02)  # as if another process ran
        started = time.process_time()
        while time.process_time() < started + 0.005:
            pass

    images = np.zeros((4, 4, 4, 3), np.uint8)
    seconds = {}
    for busy in (0.0, 1.5):
        monkeypatch.setattr(cost._Load, "others", lambda self, busy=busy: busy)
        speed = cost.measure(predict, images)
        seconds[busy] = cost.BATCH / speed.images_per_second
        assert speed.busy == busy
        assert bool(cost.busy_note([0.0, speed.busy])) == bool(busy)
    assert seconds[0.0] >= 0.025
    assert 0.004 <= seconds[1.5] < 0.02
    on_gpu = cost.measure(predict, images, on_cpu=False)
    assert cost.BATCH / on_gpu.images_per_second >= 0.025


def test_a_short_measurement_is_not_called_busy(monkeypatch):
    """The time of the machine comes in ticks: one more of each core than this process used is no other program."""
    times = iter([10.0, 10.0 + 2 * 0.01])
    monkeypatch.setattr(cost._Load, "_machine", staticmethod(lambda: next(times)))
    monkeypatch.setattr(cost.platforms, "usable_cores", lambda: 2)
    assert cost._Load().others() == 0.0
    times = iter([10.0, 20.0])
    assert cost._Load().others() > 1


def test_stages_that_models_share_count_once(tmp_path):
    """The training time of several models has the embedding and the head of a backbone once; stages without a
    file take no time."""
    for number, part in enumerate(("baseline", "embed/x", "transfer/x", "finetune/x")):
        (tmp_path / f"{part}.json").parent.mkdir(exist_ok=True)
        (tmp_path / f"{part}.json").write_text(json.dumps({"seconds": 2**number}))
    assert cost.training_seconds(["baseline"], tmp_path) == 1
    assert cost.training_seconds(["transfer/x", "finetune/x"], tmp_path) == 2 + 4 + 8
    assert cost.training_seconds(["finetune/y"], tmp_path) == 0
