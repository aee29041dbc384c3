"""Accuracy on slices of the test split: images with one value of a manifest column or image property."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from darkroom.data import image_rows
from darkroom.evaluation.diagnostics_file import Slice
from darkroom.evaluation.significance import holm, wilson

MINIMUM = 20  # groups of images in a slice, and in the rest
BINS = 4
DISTINCT = 8  # distinct values up to which each number is a slice of its own
NAMES = {"path", "sha256", "pixel_hash", "perceptual_hash", "group"}  # identify one image or one group
LABELS = {"label", "source_label", "split", "status", "reason", "detail"}  # constant, or by class


def columns(rows: Sequence[Mapping[str, Any]], brightness: Sequence[float]) -> dict[str, list[Any]]:
    """Return the values by which test images are sliced: manifest columns, and properties of pixels.

    `rows` are of the manifest, `brightness` is the mean of each image's pixels. Unknown columns are used
    unchanged.
    """
    widths, heights, paths = (image_rows.column(rows, name) for name in ("width", "height", "path"))
    values: dict[str, list[Any]] = {
        "size": [math.sqrt(width * height) for width, height in zip(widths, heights, strict=True)],
        "aspect": [width / height if height else math.nan for width, height in zip(widths, heights, strict=True)],
        "brightness": list(brightness),
        "folder": [path.rpartition("/")[0] for path in paths],
    }
    for name in rows[0] if len(rows) else ():
        if name == "flags":
            flags = image_rows.column(rows, name)
            for flag in sorted({flag for own in flags for flag in own}):
                values[f"flag {flag}"] = [flag in own for own in flags]
        elif name not in NAMES | LABELS | {"width", "height"}:
            values[name] = image_rows.column(rows, name)
    return values


def measure(correct: np.ndarray, values: Mapping[str, Sequence[Any]], labels: np.ndarray, groups: np.ndarray) -> list[Slice]:
    """Return every slice's accuracy, worst first: `correct`, `labels`, `groups` (N,), `values` N a column.

    Numbers are cut at their quartiles (a value that is several of these is a slice), other columns by value.
    Slices of fewer than `MINIMUM` groups, and those that are all images of some classes, are left out. The
    interval is Wilson's (1927), 95%. A slice is compared with the other images of its classes, since a slice of
    hard classes is no finding: `rest` is the accuracy of the others with the slice's shares of classes, p that of
    `stratified_p`, `p_holm` is corrected for all slices that are returned (Holm 1979). All count as many images
    as are `independent`.
    """
    rows: list[dict[str, Any]] = []
    members = np.unique(groups, return_inverse=True)[1]
    for column, column_values in values.items():
        for value, inside in _cut(column_values):
            parts = [np.bincount(members[part]) for part in (inside, ~inside)]
            if min(np.count_nonzero(sizes) for sizes in parts) < MINIMUM or _is_whole_classes(inside, labels):
                continue
            accuracy, count = float(correct[inside].mean()), independent(parts[0])
            low, high = wilson(accuracy, count)
            classes = ClassCounts.of(correct, labels, inside, [independent(sizes) / sizes.sum() for sizes in parts])
            rows.append({
                "column": column, "value": value, "images": int(inside.sum()), "accuracy": accuracy, "low": low, "high": high,
                "rest": classes.rest(), "p": classes.stratified_p(),
            })  # fmt: skip
    corrected = holm([row["p"] for row in rows])
    slices = [Slice(**row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
    return sorted(slices, key=lambda item: (item.accuracy, item.p, item.column, item.value))


@dataclass(frozen=True)
class ClassCounts:
    """Images and mistakes by class, (C,), in a slice and among the others, of the classes that both have."""

    inside: np.ndarray
    wrong_inside: np.ndarray
    others: np.ndarray
    wrong_others: np.ndarray

    @classmethod
    def of(cls, correct: np.ndarray, labels: np.ndarray, inside: np.ndarray, shares: Sequence[float]) -> ClassCounts:
        """Count `shares` of the images inside and outside: those that are independent."""
        classes = int(labels.max()) + 1
        counts = [
            share * np.bincount(labels[part], weights, classes)
            for part, share in zip((inside, ~inside), shares, strict=True)
            for weights in (None, (~correct[part]).astype(float))
        ]
        both = (counts[0] > 0) & (counts[2] > 0)
        return cls(*(values[both] for values in counts))

    def rest(self) -> float:
        """Return the accuracy of the others, with the slice's shares of classes."""
        return float(1 - (self.inside * self.wrong_others / self.others).sum() / self.inside.sum())

    def stratified_p(self) -> float:
        """Return the exact two-sided p-value of as many mistakes in the slice, given those of each class.

        Within a class mistakes fall on images at random: a sum of hypergeometric numbers (the exact test of
        Mantel and Haenszel 1959); of one class it is Fisher's test.
        """
        probabilities, observed = np.ones(1), 0
        for inside, wrong, others, wrong_others in np.rint(np.stack(list(vars(self).values()), 1)).astype(int):
            total, mistakes = inside + others, wrong + wrong_others
            if not total:  # less than half an independent image on either side
                continue
            least, most = max(0, mistakes - others), min(inside, mistakes)
            values = hypergeom(total, mistakes, inside).pmf(np.arange(least, most + 1))
            probabilities, observed = np.convolve(probabilities, values), observed + wrong - least
        return min(1.0, float(probabilities[probabilities <= probabilities[observed] * (1 + 1e-7)].sum()))


def independent(sizes: np.ndarray) -> float:
    """Return the effective number of images where those of a group (`sizes`) are all alike (Kish 1965)."""
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _cut(values: Sequence[Any]) -> list[tuple[str, np.ndarray]]:
    """Return the slices of a column: their names, and masks (N,) of their images."""
    if any(isinstance(value, (str, bool)) for value in values):
        texts = np.array([_text(value) for value in values])
        names, numbers, counts = np.unique(texts, return_inverse=True, return_counts=True)
        return [(str(names[number]), numbers == number) for number in np.flatnonzero(counts >= MINIMUM).tolist()]
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
    counts = [np.bincount(labels[part], minlength=int(labels.max()) + 1) > 0 for part in (inside, ~inside)]
    return not (counts[0] & counts[1]).any()
