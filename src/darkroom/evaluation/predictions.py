"""predictions.parquet: predictions of every model for validation and test images, in row groups of one model each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.core import json_files, large_arrays
from darkroom.core.errors import WorkspaceError
from darkroom.data import image_rows
from darkroom.evaluation.metrics_io import REMEDY

HELD_OUT = ("val", "test")
CELLS = 2**24  # images times classes of a row group
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
    texts = pa.large_string()
    shared = {
        "split": pa.array([split for split in HELD_OUT for _ in images[split]], texts),
        **{key: pa.array([value for split in HELD_OUT for value in image_rows.column(images[split], key)], texts) for key in IMAGE},
        "label": pa.array([classes[label] for split in HELD_OUT for label in labels[split]], texts),
    }
    count, at_once = len(shared["label"]), max(1, CELLS // max(len(classes), 1))
    writer = None
    for model, by_split in probabilities.items():
        for start in range(0, max(count, 1), at_once):
            values = _rows([by_split[split] for split in HELD_OUT], start, start + at_once)
            offsets = np.arange(len(values) + 1, dtype=np.int64) * values.shape[1]
            table = pa.table({
                "model": pa.array([model] * len(values), texts),
                **{key: column.slice(start, at_once) for key, column in shared.items()},
                "predicted": pa.array([classes[index] for index in values.argmax(1)], texts),
                "confidence": pa.array(values.max(1)),
                "probabilities": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values.ravel())),
            })  # fmt: skip
            writer = writer or pq.ParquetWriter(path, table.schema, write_page_checksum=True)
            writer.write_table(table, row_group_size=max(1, len(values)))
    if writer:
        writer.close()


def _rows(parts: Sequence[np.ndarray], start: int, stop: int) -> np.ndarray:
    """Return the rows from `start` to `stop` of arrays (N, C) that follow each other, float64."""
    pieces = []
    for part in parts:
        pieces.append(part[max(start, 0) : max(stop, 0)])
        start, stop = start - len(part), stop - len(part)
    return np.concatenate(pieces).astype(np.float64)


def read(path: Path, model: str) -> dict[str, SplitPredictions]:
    """Return a model's predictions by split; WorkspaceError where the table or the model is missing."""
    table = _table(path, model, ["split", "pixel_hash", "label"])
    of, hashes, labels = (table.column(name).to_pylist() for name in ("split", "pixel_hash", "label"))
    places = {split: [i for i, name in enumerate(of) if name == split] for split in HELD_OUT}
    probabilities = _probabilities(path, model, {split: len(own) for split, own in places.items()})
    return {
        split: SplitPredictions([hashes[i] for i in own], [labels[i] for i in own], probabilities[split])
        for split, own in places.items()
    }


def _probabilities(path: Path, model: str, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return the probabilities (N, C) float64 of a model by split, of `counts` images; memory-mapped where they are large."""
    arrays: dict[str, np.ndarray] = {}
    done = dict.fromkeys(counts, 0)
    for group in _groups(path, model, ["split", "probabilities"]):
        try:
            lists = group.column("probabilities").combine_chunks()
            values = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.float64)
            values = values.reshape(len(lists), -1) if len(lists) else values.reshape(0, 0)
            if lists.null_count or (np.asarray(lists.value_lengths()) != values.shape[1]).any():
                raise ValueError("its rows have different numbers of probabilities")
        except (ValueError, TypeError, AttributeError, pa.ArrowException) as error:
            raise json_files.damaged(path, str(error), REMEDY) from error
        of = np.asarray(group.column("split").to_pylist(), object)
        for split, start in list(done.items()):
            own = values[of == split]
            if split not in arrays:
                arrays[split] = large_arrays.zeros((counts[split], values.shape[1]))
            array = arrays[split]
            if own.shape[1] != array.shape[1]:
                raise json_files.damaged(path, "its rows have different numbers of probabilities", REMEDY)
            array[start : start + len(own)] = own
            done[split] += len(own)
    return arrays


def read_all(path: Path, models: Iterable[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return the probabilities (N, C) of each model by split; errors as of `read`."""
    return {model: {split: item.probabilities for split, item in read(path, model).items()} for model in models}


def of_test(path: Path, model: str) -> list[Prediction]:
    """Return the predictions of a model for the test images; errors as of `read`."""
    rows = _table(path, model, ["split", "path", "pixel_hash", "label", "predicted", "confidence"]).to_pylist()
    return [Prediction(**row) for row in rows if row.pop("split") == "test"]


def extract(path: Path, model: str, out: Path) -> None:
    """Write the rows of one model to a file of their own."""
    writer = None
    for group in _groups(path, model):
        writer = writer or pq.ParquetWriter(out, group.schema, write_page_checksum=True)
        writer.write_table(group)
    assert writer is not None
    writer.close()


def _table(path: Path, model: str, columns: list[str]) -> Any:
    """Return the rows of one model as an Arrow table."""
    return pa.concat_tables(list(_groups(path, model, columns)))


def _groups(path: Path, model: str, columns: list[str] | None = None) -> Iterator[Any]:
    """Yield the row groups of one model as Arrow tables; there is one at least."""
    has_model = False
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        missing = {"model", *(columns or ())} - set(file.schema_arrow.names)
        if missing:
            raise json_files.damaged(path, f"it has no column {min(missing)}", REMEDY)
        for group in range(file.num_row_groups):  # Arrow's statistics of a damaged file would end the process
            names = file.read_row_group(group, ["model"], use_threads=False).column(0)
            if len(names) and names[0].as_py() == model:
                has_model = True
                yield file.read_row_group(group, columns, use_threads=False)
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} does not exist", REMEDY) from error
    except (pa.ArrowException, OSError, ValueError) as error:  # UnicodeDecodeError too
        raise json_files.damaged(path, str(error), REMEDY) from error
    if not has_model:
        raise WorkspaceError(f"{path} holds no predictions of {model}", REMEDY)
