"""The table of predictions."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom.core.errors import WorkspaceError
from darkroom.evaluation import predictions

CLASSES = ("", "2020-01-01")
ANSWERS = {
    "baseline": {"val": np.array([[0.5, 0.5]]), "test": np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)},
    "transfer/x": {"val": np.array([[0.0, 1.0]]), "test": np.array([[1, 0], [0, 1]], np.float32)},
}


@pytest.fixture
def table(tmp_path):
    manifest = {
        "path": ["é.png", "b.png", "c.png", "d.png", "e.png"], "sha256": ["1", "2", "3", "4", "5"],
        "pixel_hash": ["6", "7", "8", "9", "0"], "split": ["test", "train", "test", None, "val"],
        "status": ["accepted", "accepted", "accepted", "quarantined", "accepted"],
    }  # fmt: skip
    pq.write_table(pa.table(manifest), tmp_path / "manifest.parquet")
    labels = {"val": np.array([1]), "test": np.array([1, 0])}
    predictions.write(tmp_path / "made.parquet", tmp_path / "manifest.parquet", ANSWERS, labels, CLASSES)
    return tmp_path / "made.parquet"


def test_every_model_and_held_out_image_has_a_row(table):
    """Each accepted validation and test image has one row per model, in the manifest's order, with the model's answer to it."""
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


def test_what_a_model_said_is_found_again(table, tmp_path):
    """A model's answers are read back by split, also from a file of its own, and looked up by image."""
    predictions.extract(table, "transfer/x", tmp_path / "one.parquet")
    assert pq.read_table(tmp_path / "one.parquet").num_rows == 3
    for path in (table, tmp_path / "one.parquet"):
        said = predictions.read(path, "transfer/x")["test"]
        assert (said.images, said.labels) == (["6", "8"], ["2020-01-01", ""])
        assert said.of(["8", "6"]).tolist() == [[0, 1], [1, 0]]
        assert said.of(["8", "7"]) is None


def test_what_is_not_there_is_said(table, tmp_path):
    """A table that is missing, or without the model, is a mistake with a remedy."""
    with pytest.raises(WorkspaceError, match="no predictions of finetune/y"):
        predictions.read(table, "finetune/y")
    with pytest.raises(WorkspaceError, match="is not there"):
        predictions.read(tmp_path / "other.parquet", "baseline")


def test_reading_and_writing_import_no_pandas(table):
    """The table is read and written without pandas, whose import takes longer."""
    code = f"""
import sys
from pathlib import Path
import numpy as np
from darkroom.evaluation import predictions
table = Path({str(table)!r})
said = predictions.read(table, "baseline")
answers = {{"baseline": {{split: found.probabilities for split, found in said.items()}}}}
labels = {{"val": np.array([1]), "test": np.array([1, 0])}}
predictions.write(table, table.with_name("manifest.parquet"), answers, labels, ("a", "b"))
assert not {{"pandas", "pyarrow.compute", "pyarrow.dataset"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
