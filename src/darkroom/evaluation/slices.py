"""Accuracy on slices of the test split: images with one value of a manifest column or image property."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from darkroom.evaluation.metrics_io import Slice
from darkroom.evaluation.significance import holm

MINIMUM = 20  # groups of images in a slice, and in the rest
BINS = 4
DISTINCT = 8  # distinct values up to which each number is a slice of its own
Z = 1.959964  # of the normal distribution, 95% between -Z and Z
NAMES = {"path", "sha256", "pixel_hash", "perceptual_hash", "group"}  # identify one image or one group
LABELS = {"label", "source_label", "split", "status", "reason", "detail"}  # constant, or by class


def columns(rows: Sequence[Mapping[str, Any]], brightness: Sequence[float]) -> dict[str, list[Any]]:
    """Return the values by which test images are sliced: manifest columns, and properties of pixels.

    `rows` are of the manifest, `brightness` is the mean of each image's pixels. Unknown columns are used
    unchanged.
    """
    values: dict[str, list[Any]] = {
        "size": [math.sqrt(row["width"] * row["height"]) for row in rows],
        "aspect": [row["width"] / row["height"] if row["height"] else math.nan for row in rows],
        "brightness": list(brightness),
        "folder": [row["path"].rpartition("/")[0] for row in rows],
    }
    for name in rows[0] if rows else ():
        if name == "flags":
            flags = sorted({flag for row in rows for flag in row["flags"]})
            values.update({f"flag {flag}": [flag in row["flags"] for row in rows] for flag in flags})
        elif name not in NAMES | LABELS | {"width", "height"}:
            values[name] = [row[name] for row in rows]
    return values


def measure(correct: np.ndarray, values: Mapping[str, Sequence[Any]], labels: np.ndarray, groups: np.ndarray) -> list[Slice]:
    """Return every slice's accuracy, worst first: `correct`, `labels`, `groups` (N,), `values` N a column.

    Numbers are cut at their quartiles (a value that is several of these is a slice), other columns by value.
    Slices of fewer than `MINIMUM` groups, and those that are all images of some classes, are left out. The
    interval is Wilson's (1927), 95%; p is of Fisher's exact test (1922) of the slice against all other
    images, `p_holm` is corrected for all slices that are returned (Holm 1979). Both count as many images as
    are `independent`.
    """
    rows: list[dict[str, Any]] = []
    members = np.unique(groups, return_inverse=True)[1]
    for column, column_values in values.items():
        for value, inside in _cut(column_values):
            parts = [np.bincount(members[part]) for part in (inside, ~inside)]
            if min(np.count_nonzero(sizes) for sizes in parts) < MINIMUM or _is_whole_classes(inside, labels):
                continue
            shares = [float(correct[part].mean()) for part in (inside, ~inside)]
            counts = [independent(sizes) for sizes in parts]
            low, high = wilson(shares[0], counts[0])
            table = [[round(share * count), round((1 - share) * count)] for share, count in zip(shares, counts, strict=True)]
            rows.append({
                "column": column, "value": value, "images": int(inside.sum()), "accuracy": shares[0], "low": low, "high": high,
                "rest": shares[1], "p": float(fisher_exact(table).pvalue),
            })  # fmt: skip
    corrected = holm([row["p"] for row in rows])
    slices = [Slice(**row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
    return sorted(slices, key=lambda item: (item.accuracy, item.p, item.column, item.value))


def independent(sizes: np.ndarray) -> float:
    """Return the effective number of images where those of a group (`sizes`) are all alike (Kish 1965)."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def wilson(share: float, count: float) -> tuple[float, float]:
    """Return the 95% interval of a share of `count`, any number (Wilson 1927); 0 to 1 for a count of 0."""
    if not count:
        return 0.0, 1.0
    square = Z * Z / count
    centre = (share + square / 2) / (1 + square)
    room = Z * math.sqrt((share * (1 - share) + square / 4) / count) / (1 + square)
    return max(0.0, centre - room), min(1.0, centre + room)


def _cut(values: Sequence[Any]) -> list[tuple[str, np.ndarray]]:
    """Return the slices of a column: their names, and masks (N,) of their images."""
    if any(isinstance(value, (str, bool)) for value in values):
        texts = np.array([_text(value) for value in values])
        names, counts = np.unique(texts, return_counts=True)
        return [(name, texts == name) for name in names[counts >= MINIMUM].tolist()]
    numbers = np.array([math.nan if value is None else value for value in values], np.float64)
    finite = numbers[np.isfinite(numbers)]
    distinct = np.unique(finite)
    if len(distinct) <= DISTINCT:
        return [(_number(value, 12), numbers == value) for value in distinct.tolist()]
    edges, times = np.unique(np.quantile(finite, np.arange(BINS + 1) / BINS), return_counts=True)
    frequent = set(edges[times > 1].tolist())  # values that so many images have are slices of their own
    bins = [(_number(value, 12), numbers == value) for value in sorted(frequent)]
    for low, high in pairwise(edges.tolist()):
        first, last = low == edges[0] and low not in frequent, high == edges[-1] and high not in frequent
        inside = ((numbers > low) if low in frequent else (numbers >= low)) & ((numbers <= high) if last else (numbers < high))
        start = f"above {_number(low)}" if low in frequent else _number(low)
        end = _number(high) if last else f"below {_number(high)}"
        bins.append((end if first and high in frequent else start if last and low in frequent else f"{start} to {end}", inside))
    return bins


def _number(value: float, digits: int = 4) -> str:
    """Return a number with this many significant digits and no exponent."""
    return f"{float(f'{value:.{digits}g}'):.6f}".rstrip("0").rstrip(".")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)


def _is_whole_classes(inside: np.ndarray, labels: np.ndarray) -> bool:
    """Tell whether a slice is all images of some classes, which the table of classes shows already."""
    return not set(labels[inside].tolist()) & set(labels[~inside].tolist())
