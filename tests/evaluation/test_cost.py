"""What answers cost."""

from __future__ import annotations

import csv
import time

import numpy as np
import pytest

from darkroom.evaluation import cost


@pytest.mark.parametrize("count", [1, 3, 50])
def test_single_images_and_whole_batches_are_timed(count):
    """One image at a time and batches of 32 are asked for, however many images there are; the slower answer costs more."""
    asked = []

    def answer(images: np.ndarray) -> None:
        asked.append(len(images))
        time.sleep(0.0005 * len(images))

    found = cost.measure(answer, np.zeros((count, 4, 4, 3), np.uint8))
    assert set(asked) == {1, 32}
    assert 0.5 <= found["ms_p50"] <= found["ms_p95"]
    assert 0 < found["images_per_second"] <= 2000
    assert asked.count(1) >= cost.LEAST


def test_costs_are_a_table(tmp_path):
    """The file has the promised columns, whatever else the rows have."""
    row = {"model": "a", "ms_p50": 1.23456789, "ms_p95": 2.0, "images_per_second": 3.0, "train_seconds": 4.0, "accuracy": 1.0}
    cost.write(tmp_path / "cost.csv", [row])
    with (tmp_path / "cost.csv").open() as file:
        (found,) = csv.DictReader(file)
    assert tuple(found) == cost.COLUMNS
    assert found["ms_p50"] == "1.2346"
