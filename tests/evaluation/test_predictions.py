"""The table of predictions."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.evaluation import predictions


def test_every_model_and_test_image_has_a_row(tmp_path):
    """Each accepted test image has one row per model, in the manifest's order, with the model's answer to it."""
    manifest = {
        "path": ["é.png", "b.png", "c.png", "d.png"], "sha256": ["1", "2", "3", "4"], "pixel_hash": ["5", "6", "7", "8"],
        "split": ["test", "train", "test", None], "status": ["accepted", "accepted", "accepted", "quarantined"],
    }  # fmt: skip
    pq.write_table(pa.table(manifest), tmp_path / "manifest.parquet")
    answers = {
        "baseline": np.array([[0.25, 0.75], [0.5, 0.5]], np.float32),
        "transfer/x": np.array([[1, 0], [0, 1]], np.float32),
    }
    predictions.write(tmp_path / "made.parquet", tmp_path / "manifest.parquet", answers, np.array([1, 0]), ("", "2020-01-01"))
    assert pq.read_table(tmp_path / "made.parquet").to_pylist() == [
        {
            "model": model, "path": path, "sha256": sha, "pixel_hash": pixels, "label": label, "predicted": predicted,
            "confidence": confidence, "probabilities": probabilities,
        }
        for model, path, sha, pixels, label, predicted, confidence, probabilities in (
            ("baseline", "é.png", "1", "5", "2020-01-01", "2020-01-01", 0.75, [0.25, 0.75]),
            ("baseline", "c.png", "3", "7", "", "", 0.5, [0.5, 0.5]),
            ("transfer/x", "é.png", "1", "5", "2020-01-01", "", 1.0, [1.0, 0.0]),
            ("transfer/x", "c.png", "3", "7", "", "2020-01-01", 1.0, [0.0, 1.0]),
        )
    ]  # fmt: skip
    pq.read_table(tmp_path / "made.parquet").validate(full=True)


def test_writing_imports_no_pandas(tmp_path):
    """A table is read and written without pandas, whose import takes longer."""
    pq.write_table(
        pa.table({name: ["test" if name == "split" else "accepted"] for name in (*predictions.IMAGE, "split", "status")}),
        tmp_path / "manifest.parquet",
    )
    code = f"""
import sys
from pathlib import Path
import numpy as np
from darkroom.evaluation import predictions
folder = Path({str(tmp_path)!r})
predictions.write(folder / "made.parquet", folder / "manifest.parquet", {{"baseline": np.ones((1, 2))}}, np.array([1]), ("a", "b"))
assert not {{"pandas", "pyarrow.compute", "pyarrow.dataset"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
