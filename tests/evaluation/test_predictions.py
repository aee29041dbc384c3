"""The table of predictions."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from darkroom.core.errors import WorkspaceError
from darkroom.evaluation import predictions
from darkroom.evaluation.predictions import Prediction

CLASSES = ("", "2020-01-01")
PROBABILITIES = {
    "baseline": {"val": np.array([[0.5, 0.5]]), "test": np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)},
    "transfer/x": {"val": np.array([[0.0, 1.0]]), "test": np.array([[1, 0], [0, 1]], np.float32)},
}


@pytest.fixture
def table(tmp_path):
    """Return a table of two models for one validation image and two test images."""
    images = {
        "val": [{"path": "e.png", "sha256": "5", "pixel_hash": "0", "group": "x"}],
        "test": [{"path": "é.png", "sha256": "1", "pixel_hash": "6"}, {"path": "c.png", "sha256": "3", "pixel_hash": "8"}],
    }
    labels = {"val": np.array([1]), "test": np.array([1, 0])}
    predictions.write(tmp_path / "predictions.parquet", images, PROBABILITIES, labels, CLASSES)
    return tmp_path / "predictions.parquet"


def test_every_model_and_held_out_image_has_a_row(table):
    """Each validation and test image has one row per model, in the order of the manifest, with the model's
    prediction."""
    pq.read_table(table).validate(full=True)
    assert pq.read_table(table).to_pylist() == [
        {
            "model": model, "split": split, "path": path, "sha256": sha, "pixel_hash": pixels, "label": label,
            "predicted": predicted, "confidence": confidence, "probabilities": probabilities,
        }
        for model, split, path, sha, pixels, label, predicted, confidence, probabilities in (
            ("baseline", "val", "e.png", "5", "0", "2020-01-01", "", 0.5, [0.5, 0.5]),
            ("baseline", "test", "é.png", "1", "6", "2020-01-01", "2020-01-01", 0.75, [0.25, 0.75]),
            ("baseline", "test", "c.png", "3", "8", "", "", 0.5, [0.5, 0.5]),
            ("transfer/x", "val", "e.png", "5", "0", "2020-01-01", "2020-01-01", 1.0, [0.0, 1.0]),
            ("transfer/x", "test", "é.png", "1", "6", "2020-01-01", "", 1.0, [1.0, 0.0]),
            ("transfer/x", "test", "c.png", "3", "8", "", "2020-01-01", 1.0, [0.0, 1.0]),
        )
    ]  # fmt: skip


def test_predictions_are_read_back(table, tmp_path):
    """A model's predictions are read by split, also from a file of its own, and looked up by image."""
    predictions.extract(table, "transfer/x", tmp_path / "one.parquet")
    assert pq.read_table(tmp_path / "one.parquet").num_rows == 3
    for path in (table, tmp_path / "one.parquet"):
        test = predictions.read(path, "transfer/x")["test"]
        assert (test.pixel_hashes, test.labels) == (["6", "8"], ["2020-01-01", ""])
        assert test.of(["8", "6"]).tolist() == [[0, 1], [1, 0]]
        assert test.of(["8", "7"]) is None
        assert predictions.of_test(path, "transfer/x")[0] == Prediction("é.png", "6", "2020-01-01", "", 1.0)


def test_a_missing_or_damaged_table_has_a_remedy(table, tmp_path):
    """A table that is missing, damaged, or without the model or a column is refused with the command that
    writes it."""
    (tmp_path / "damaged.parquet").write_text("junk")
    pq.write_table(pq.read_table(table, columns=["model", "split"]), tmp_path / "short.parquet")
    for path, model, fact in (
        (table, "finetune/y", "no predictions of finetune/y"), (tmp_path / "other.parquet", "baseline", "other.parquet"),
        (tmp_path / "damaged.parquet", "baseline", "damaged"), (tmp_path / "short.parquet", "baseline", "no column label"),
    ):  # fmt: skip
        with pytest.raises(WorkspaceError, match=f"{fact}.*\n.*dvc repro evaluate"):
            predictions.read(path, model)
