"""Where a model is worse than elsewhere: the test split cut by what is known of its images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from darkroom.evaluation.seed_comparison import holm

MINIMUM = 20  # groups of images in a slice, and in the rest
BINS = 4
DISTINCT = 8  # values of a number up to which each is a slice of its own
Z = 1.959964  # of the normal distribution, 95% between -Z and Z
NAMES = {"path", "sha256", "pixel_hash", "perceptual_hash", "group"}  # of an image, or of a few that are one to the figures
SAID = {"label", "source_label", "split", "status", "reason", "detail"}  # of every test image alike, or of its class


def columns(rows: Sequence[Mapping[str, Any]], brightness: Sequence[float]) -> dict[str, list[Any]]:
    """Return what test images can be cut by: columns of the manifest, and what follows from them and from the pixels.

    `rows` are of the manifest, `brightness` is the mean of each image's pixels. A column that is not known here is taken as it is.
    """
    found: dict[str, list[Any]] = {
        "size": [math.sqrt(row["width"] * row["height"]) for row in rows],
        "aspect": [row["width"] / row["height"] if row["height"] else math.nan for row in rows],
        "brightness": list(brightness),
        "folder": [row["path"].rpartition("/")[0] for row in rows],
    }
    for name in rows[0] if rows else ():
        if name == "flags":
            flags = sorted({flag for row in rows for flag in row["flags"].split()})
            found.update({f"flag {flag}": [flag in row["flags"].split() for row in rows] for flag in flags})
        elif name not in NAMES | SAID | {"width", "height"}:
            found[name] = [row[name] for row in rows]
    return found


def measure(right: np.ndarray, values: Mapping[str, Sequence[Any]], labels: np.ndarray, groups: np.ndarray) -> list[dict[str, Any]]:
    """Return the accuracy of every slice, the worst first: `right`, `labels` and `groups` are (N,), `values` N of each column.

    Numbers are cut at their quartiles (a value that is several of these is a slice), what is no number by value. Left out are
    slices of fewer than `MINIMUM` groups, and those that are all images of some classes. An interval is Wilson's (1927), 95%; p is
    of Fisher's exact test (1922) of the slice against all other images, `p_holm` corrected for all slices that are returned (Holm
    1979). Both count as many images as are `independent`.
    """
    from scipy.stats import fisher_exact

    found: list[dict[str, Any]] = []
    members = np.unique(groups, return_inverse=True)[1]
    for column, given in values.items():
        for value, inside in _cut(given):
            parts = [np.bincount(members[part]) for part in (inside, ~inside)]
            if min(np.count_nonzero(sizes) for sizes in parts) < MINIMUM or _is_classes(inside, labels):
                continue
            shares = [float(right[part].mean()) for part in (inside, ~inside)]
            counts = [independent(sizes) for sizes in parts]
            low, high = wilson(shares[0], counts[0])
            table = [[round(share * count), round((1 - share) * count)] for share, count in zip(shares, counts, strict=True)]
            found.append({
                "column": column, "value": value, "images": int(inside.sum()), "accuracy": shares[0], "low": low, "high": high,
                "rest": shares[1], "p": float(fisher_exact(table).pvalue),
            })  # fmt: skip
    for made, corrected in zip(found, holm([made["p"] for made in found]), strict=True):
        made["p_holm"] = corrected
    return sorted(found, key=lambda made: (made["accuracy"], made["p"], made["column"], made["value"]))


def independent(sizes: np.ndarray) -> float:
    """Return how many independent images tell as much as groups of these sizes whose images are all alike (Kish 1965)."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def wilson(share: float, count: float) -> tuple[float, float]:
    """Return the 95% interval of a share of so many (Wilson 1927); from 0 to 1 where there is nothing to count."""
    if not count:
        return 0.0, 1.0
    square = Z * Z / count
    centre = (share + square / 2) / (1 + square)
    room = Z * math.sqrt((share * (1 - share) + square / 4) / count) / (1 + square)
    return max(0.0, centre - room), min(1.0, centre + room)


def _cut(given: Sequence[Any]) -> list[tuple[str, np.ndarray]]:
    """Return the slices of a column: what they are called, and which images they hold."""
    if any(isinstance(value, (str, bool)) for value in given):
        kinds = np.array([_text(value) for value in given])
        names, counts = np.unique(kinds, return_counts=True)
        return [(value, kinds == value) for value in names[counts >= MINIMUM].tolist()]
    numbers = np.array([math.nan if value is None else value for value in given], np.float64)
    real = numbers[np.isfinite(numbers)]
    distinct = np.unique(real)
    if len(distinct) <= DISTINCT:
        return [(_number(value, 12), numbers == value) for value in distinct.tolist()]
    edges, times = np.unique(np.quantile(real, np.arange(BINS + 1) / BINS), return_counts=True)
    alone = set(edges[times > 1].tolist())  # a value that so many images have is a slice of its own
    bins = [(_number(value, 12), numbers == value) for value in sorted(alone)]
    for low, high in pairwise(edges.tolist()):
        first, last = low == edges[0] and low not in alone, high == edges[-1] and high not in alone
        inside = ((numbers > low) if low in alone else (numbers >= low)) & ((numbers <= high) if last else (numbers < high))
        start = f"above {_number(low)}" if low in alone else _number(low)
        end = _number(high) if last else f"below {_number(high)}"
        bins.append((end if first and high in alone else start if last and low in alone else f"{start} to {end}", inside))
    return bins


def _number(value: float, digits: int = 4) -> str:
    """Return a number with so many digits that count, and no exponent."""
    return f"{float(f'{value:.{digits}g}'):.6f}".rstrip("0").rstrip(".")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)


def _is_classes(inside: np.ndarray, labels: np.ndarray) -> bool:
    """Tell whether a slice is all images of some classes, of which the table of classes tells more."""
    return not set(labels[inside].tolist()) & set(labels[~inside].tolist())
