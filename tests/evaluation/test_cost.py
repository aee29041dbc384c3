"""Latency, throughput and training time."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from darkroom.evaluation import cost


@pytest.mark.parametrize("count", [1, 3, 50])
def test_single_images_and_whole_batches_are_timed(count):
    """Single images and batches of 32 are timed, however many images there are; a slower function takes
    longer."""
    sizes = []

    def predict(images: np.ndarray) -> None:
        sizes.append(len(images))
        time.sleep(0.0005 * len(images))

    speed = cost.measure(predict, np.zeros((count, 4, 4, 3), np.uint8))
    assert set(sizes) == {1, 32}
    assert 0.5 <= speed.ms_p50 <= speed.ms_p95
    assert 0 < speed.images_per_second <= 2000
    assert sizes.count(1) >= cost.LEAST


def test_stages_that_models_share_count_once(tmp_path):
    """The training time of several models has the embedding and the head of a backbone once; stages without a
    file take no time."""
    for number, part in enumerate(("baseline", "embed/x", "transfer/x", "finetune/x")):
        (tmp_path / f"{part}.json").parent.mkdir(exist_ok=True)
        (tmp_path / f"{part}.json").write_text(json.dumps({"seconds": 2**number}))
    assert cost.training_seconds(["baseline"], tmp_path) == 1
    assert cost.training_seconds(["transfer/x", "finetune/x"], tmp_path) == 2 + 4 + 8
    assert cost.training_seconds(["finetune/y"], tmp_path) == 0
