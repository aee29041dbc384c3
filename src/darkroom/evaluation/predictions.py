"""What every model said of every validation and test image, as a Parquet table with a row group per model.

Arrow arrays are made from their buffers: `pyarrow.array` imports pandas and Arrow's compute functions, which takes longer than
writing the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.core.errors import WorkspaceError

SPLITS = ("val", "test")
IMAGE = ("path", "sha256", "pixel_hash")


@dataclass(frozen=True)
class Said:
    """What one model said of the images of one split: pixel hashes, labels, and probabilities (N, C)."""

    images: list[str] = field(repr=False)
    labels: list[str] = field(repr=False)
    probabilities: np.ndarray = field(repr=False)

    def of(self, images: Sequence[str]) -> np.ndarray | None:
        """Return the probabilities (M, C) for these images, or None where it has not seen all of them."""
        where = {image: row for row, image in enumerate(self.images)}
        rows = [where.get(image, -1) for image in images]
        return None if -1 in rows else self.probabilities[np.array(rows, int)]


def images(manifest: Path, columns: Sequence[str] | None = IMAGE) -> dict[str, list[dict[str, Any]]]:
    """Return the images of every split in the order of their arrays, each with columns of the manifest: None for all."""
    rows = pq.ParquetFile(manifest).read(None if columns is None else [*columns, "split", "status"]).to_pylist()
    accepted = [row for row in rows if row["status"] == "accepted"]
    return {split: [row for row in accepted if row["split"] == split] for split in ("train", *SPLITS)}


def groups(manifest: Path, split: str) -> np.ndarray:
    """Return the group (N,) of each image of a split, in the order of its arrays: copies of a picture have the same one, as do
    images that the source's table groups."""
    return np.array([row["group"] for row in images(manifest, ["group"])[split]])


def write(
    path: Path,
    manifest: Path,
    answers: Mapping[str, Mapping[str, np.ndarray]],
    labels: Mapping[str, np.ndarray],
    classes: tuple[str, ...],
) -> None:
    """Write one row per model and image: the image's split, path and hashes, its label, and what the model said.

    `answers` has for every model and split probabilities (N, C), in the order of the manifest, `labels` for every split (N,) int.
    """
    known = images(manifest)
    rows = [row for split in SPLITS for row in known[split]]
    same = {
        "split": _texts([split for split in SPLITS for _ in known[split]]),
        **{key: _texts([row[key] for row in rows]) for key in IMAGE},
        "label": _texts([classes[label] for split in SPLITS for label in labels[split]]),
    }
    writer = None
    for model, given in answers.items():
        said = np.concatenate([given[split] for split in SPLITS]).astype(np.float64)
        columns = {
            "model": _texts([model] * len(rows)),
            **same,
            "predicted": _texts([classes[index] for index in said.argmax(1)]),
            "confidence": _numbers(said.max(1)),
            "probabilities": _lists(said),
        }
        table = pa.Table.from_arrays(list(columns.values()), list(columns))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=max(1, len(rows)))
    if writer:
        writer.close()


def read(path: Path, model: str) -> dict[str, Said]:
    """Return what a model said of the images of both splits; WorkspaceError where the table is not there or without it."""
    rows = _rows(path, model, ["split", "pixel_hash", "label", "probabilities"]).to_pylist()
    found = {}
    for split in SPLITS:
        chosen = [row for row in rows if row["split"] == split]
        given = np.array([row["probabilities"] for row in chosen])
        found[split] = Said([row["pixel_hash"] for row in chosen], [row["label"] for row in chosen], given)
    return found


def lines(path: Path, model: str, split: str = "test") -> list[dict[str, Any]]:
    """Return for each image of a split `path`, `pixel_hash`, `label`, what a model said (`predicted`) and its `confidence`."""
    rows = _rows(path, model, ["split", "path", "pixel_hash", "label", "predicted", "confidence"]).to_pylist()
    return [row for row in rows if row["split"] == split]


def extract(path: Path, model: str, into: Path) -> None:
    """Write the rows of one model to a file of their own."""
    pq.write_table(_rows(path, model), into)


def _rows(path: Path, model: str, columns: list[str] | None = None) -> Any:
    """Return the rows of one model as an Arrow table."""
    remedy = "run `dvc repro evaluate`"
    try:
        file = pq.ParquetFile(path)
        lacking = {"model", *(columns or ())} - set(file.schema_arrow.names)
        if lacking:
            raise WorkspaceError(f"{path} is damaged: it has no column {min(lacking)}", remedy)
        for group in range(file.num_row_groups):
            if file.metadata.row_group(group).column(0).statistics.min == model:
                return file.read_row_group(group, columns)
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} is not there", remedy) from error
    except (pa.ArrowException, OSError) as error:
        raise WorkspaceError(f"{path} is damaged: {error}", remedy) from error
    raise WorkspaceError(f"{path} holds no predictions of {model}", remedy)


def _texts(values: list[str]) -> Any:
    """Return an Arrow array of strings."""
    encoded = [value.encode() for value in values]
    ends = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
    return pa.Array.from_buffers(pa.large_string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def _numbers(values: np.ndarray) -> Any:
    """Return (N,) numbers as an Arrow array of float64."""
    return pa.Array.from_buffers(pa.float64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values, np.float64))])


def _lists(values: np.ndarray) -> Any:
    """Return (N, K) numbers as an Arrow array of N lists of float64."""
    count, width = values.shape
    starts = np.arange(count + 1, dtype=np.int64) * width
    children = [_numbers(values.ravel())]
    return pa.Array.from_buffers(pa.large_list(pa.float64()), count, [None, pa.py_buffer(starts)], children=children)
