"""What every model said of every test image, as a Parquet table.

Arrow arrays are made from their buffers: `pyarrow.array` imports pandas and Arrow's compute functions, which takes longer than
writing the table.
"""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

IMAGE = ("path", "sha256", "pixel_hash")


def write(path: Path, manifest: Path, answers: dict[str, np.ndarray], labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Write one row per model and test image: the image's path and hashes, its label, and what the model said.

    `answers` has for every model probabilities (N, classes), in the order of the manifest's test images, `labels` is (N,) int.
    """
    source = pq.ParquetFile(manifest).read([*IMAGE, "split", "status"]).to_pylist()
    images = [row for row in source if row["split"] == "test" and row["status"] == "accepted"]
    said = np.concatenate(list(answers.values())).astype(np.float64)
    columns = {
        "model": texts([name for name in answers for _ in images]),
        **{key: texts([row[key] for row in images] * len(answers)) for key in IMAGE},
        "label": texts([classes[label] for label in labels] * len(answers)),
        "predicted": texts([classes[index] for index in said.argmax(1)]),
        "confidence": numbers(said.max(1)),
        "probabilities": lists(said),
    }
    pq.write_table(pa.Table.from_arrays(list(columns.values()), list(columns)), path)


def texts(values: list[str]) -> Any:
    """Return an Arrow array of strings."""
    encoded = [value.encode() for value in values]
    ends = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
    return pa.Array.from_buffers(pa.large_string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def numbers(values: np.ndarray) -> Any:
    """Return (N,) numbers as an Arrow array of float64."""
    return pa.Array.from_buffers(pa.float64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values, np.float64))])


def lists(values: np.ndarray) -> Any:
    """Return (N, K) numbers as an Arrow array of N lists of float64."""
    count, width = values.shape
    starts = np.arange(count + 1, dtype=np.int64) * width
    return pa.Array.from_buffers(
        pa.large_list(pa.float64()), count, [None, pa.py_buffer(starts)], children=[numbers(values.ravel())]
    )
