"""predictions.parquet: predictions of every model for validation and test images, a row group per model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.core import json_files
from darkroom.core.errors import WorkspaceError
from darkroom.evaluation.metrics_io import REMEDY

SPLITS = ("val", "test")
IMAGE = ("path", "sha256", "pixel_hash")  # columns of the manifest that are copied


@dataclass(frozen=True)
class Prediction:
    """The prediction of one model for one image."""

    path: str
    pixel_hash: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class SplitPredictions:
    """The predictions of one model for one split: pixel hashes, labels, and probabilities (N, C)."""

    pixel_hashes: list[str] = field(repr=False)
    labels: list[str] = field(repr=False)
    probabilities: np.ndarray = field(repr=False)

    def of(self, pixel_hashes: Sequence[str]) -> np.ndarray | None:
        """Return the probabilities (M, C) for these images, or None where one of them has no prediction."""
        rows = {image: row for row, image in enumerate(self.pixel_hashes)}
        chosen = [rows.get(image, -1) for image in pixel_hashes]
        return None if -1 in chosen else self.probabilities[np.array(chosen, int)]


def write(
    path: Path,
    images: Mapping[str, Sequence[Mapping[str, Any]]],
    probabilities: Mapping[str, Mapping[str, np.ndarray]],
    labels: Mapping[str, np.ndarray],
    classes: tuple[str, ...],
) -> None:
    """Write one row per model and image: the image's split, path and hashes, its label, and the prediction.

    `images` has the rows of the manifest of every split, `probabilities` (N, C) those of every model and
    split, in the same order, `labels` (N,) int those of every split.
    """
    rows = [row for split in SPLITS for row in images[split]]
    texts = pa.large_string()
    shared = {
        "split": pa.array([split for split in SPLITS for _ in images[split]], texts),
        **{key: pa.array([row[key] for row in rows], texts) for key in IMAGE},
        "label": pa.array([classes[label] for split in SPLITS for label in labels[split]], texts),
    }
    writer = None
    for model, by_split in probabilities.items():
        values = np.concatenate([by_split[split] for split in SPLITS]).astype(np.float64)
        offsets = np.arange(len(values) + 1, dtype=np.int64) * values.shape[1]
        table = pa.table({
            "model": pa.array([model] * len(rows), texts),
            **shared,
            "predicted": pa.array([classes[index] for index in values.argmax(1)], texts),
            "confidence": pa.array(values.max(1)),
            "probabilities": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values.ravel())),
        })  # fmt: skip
        writer = writer or pq.ParquetWriter(path, table.schema, write_page_checksum=True)
        writer.write_table(table, row_group_size=max(1, len(rows)))
    if writer:
        writer.close()


def read(path: Path, model: str) -> dict[str, SplitPredictions]:
    """Return a model's predictions by split; WorkspaceError where the table or the model is missing."""
    rows = _rows(path, model, ["split", "pixel_hash", "label", "probabilities"])
    splits = {}
    for split in SPLITS:
        chosen = [row for row in rows if row["split"] == split]
        try:
            probabilities = np.array([row["probabilities"] for row in chosen], float)
        except (ValueError, TypeError) as error:  # rows of different lengths, or without numbers
            raise json_files.damaged(path, str(error), REMEDY) from error
        splits[split] = SplitPredictions([row["pixel_hash"] for row in chosen], [row["label"] for row in chosen], probabilities)
    return splits


def read_all(path: Path, models: Iterable[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return the probabilities (N, C) of each model by split; errors as of `read`."""
    return {model: {split: item.probabilities for split, item in read(path, model).items()} for model in models}


def of_test(path: Path, model: str) -> list[Prediction]:
    """Return the predictions of a model for the test images; errors as of `read`."""
    rows = _rows(path, model, ["split", "path", "pixel_hash", "label", "predicted", "confidence"])
    return [Prediction(**row) for row in rows if row.pop("split") == "test"]


def extract(path: Path, model: str, out: Path) -> None:
    """Write the rows of one model to a file of their own."""
    pq.write_table(_table(path, model), out, write_page_checksum=True)


def _rows(path: Path, model: str, columns: list[str]) -> list[dict[str, Any]]:
    return _table(path, model, columns).to_pylist()


def _table(path: Path, model: str, columns: list[str] | None = None) -> Any:
    """Return the rows of one model as an Arrow table."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        missing = {"model", *(columns or ())} - set(file.schema_arrow.names)
        if missing:
            raise json_files.damaged(path, f"it has no column {min(missing)}", REMEDY)
        for group in range(file.num_row_groups):  # Arrow's statistics of a damaged file would end the process
            names = file.read_row_group(group, ["model"], use_threads=False).column(0)
            if len(names) and names[0].as_py() == model:
                return file.read_row_group(group, columns, use_threads=False)
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} does not exist", REMEDY) from error
    except (pa.ArrowException, OSError, ValueError) as error:  # UnicodeDecodeError too
        raise json_files.damaged(path, str(error), REMEDY) from error
    raise WorkspaceError(f"{path} holds no predictions of {model}", REMEDY)
