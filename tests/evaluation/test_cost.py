"""Latency, throughput and training time."""

from __future__ import annotations

import json
import threading
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


@pytest.mark.slow
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


def work(milliseconds: float, wait: float = 0.0):
    """Return a function that computes for so long for each image, and has to wait some seconds for the core before."""

    def predict(images: np.ndarray) -> None:
        time.sleep(wait)
        started = time.thread_time()
        while time.thread_time() < started + milliseconds / 1000 * len(images):
            pass

    return predict


@pytest.mark.slow
def test_two_functions_are_compared_by_what_they_compute(monkeypatch):
    """However long each has to wait while another program has the core, and whatever other threads of the process do."""
    monkeypatch.setattr(cost, "BATCH", 4)
    images, ended = np.zeros((4, 4, 4, 3), np.uint8), threading.Event()
    other = threading.Thread(target=lambda: [time.sleep(0) for _ in iter(ended.is_set, True)])
    other.start()
    slowed = cost.compare(work(1), work(2, 0.01), images)
    ended.set()
    other.join()
    assert slowed.single == pytest.approx(0.5, rel=0.3)
    assert slowed.batch == pytest.approx(0.5, rel=0.3)
    assert cost.compare(work(2), work(1, 0.01), images).batch == pytest.approx(2, rel=0.3)


def test_what_computes_on_one_thread_is_given_where_torch_does_not_decide(monkeypatch):
    """It is called where others use cores alone, and its processor time counts."""
    called = []

    def alone(images: np.ndarray) -> None:
        called.append(len(images))
        work(0.1)(images)

    images = np.zeros((4, 4, 4, 3), np.uint8)
    for busy in (0.0, 1.5):
        monkeypatch.setattr(cost._Load, "others", lambda self, busy=busy: busy)
        speed = cost.measure(work(0.5), images, alone=alone)
        assert bool(called) == bool(busy)
    assert 1000 / speed.images_per_second < 0.3


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
