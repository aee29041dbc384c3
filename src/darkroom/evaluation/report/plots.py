"""Tables behind `dvc plots show`: confusions, classes, reliability and robustness of the best model.

`dvc plots diff` draws one line per revision, so a plot has one line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.core import atomic, csv_cells
from darkroom.evaluation.diagnostics_file import Diagnostics
from darkroom.evaluation.metrics_io import Details

Table = tuple[Sequence[str], Iterable[Iterable[Any]]]  # header and rows


def of_best(best: str, details: Details, predictions: np.ndarray, labels: np.ndarray) -> dict[str, Table]:
    """Return a table for each plot of the evaluation, by file name; `predictions` (N,) are the best model's on test."""
    classes, figures = details.classes, details.models[best]
    return {
        "confusion.csv": (
            ["actual", "predicted"],
            ([classes[label], classes[predicted]] for label, predicted in zip(labels, predictions, strict=True)),
        ),
        "classes.csv": (
            ["class", "recall", "precision", "f1"],
            [[name, row.recall, row.precision, row.f1] for name, row in figures.per_class.items() if row.support],
        ),
        "reliability.csv": (
            ["confidence", "accuracy", "images"],
            [[item.confidence, item.accuracy, item.count] for item in figures.bins if item.count],
        ),
    }


def robustness(diagnostics: Diagnostics) -> Table:
    """Return accuracy by severity: the mean over corruptions, which have columns of their own."""
    measured = diagnostics.robustness
    curves = zip(*([measured.accuracy, *item.accuracy] for item in measured.corruptions.values()), strict=True)
    return (
        ["severity", "accuracy", *measured.corruptions],
        [[severity, sum(values) / len(values), *values] for severity, values in enumerate(curves)],
    )


def write(path: Path, table: Table) -> None:
    """Write a table as CSV."""
    header, rows = table
    with atomic.new_file(path) as working, working.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(map(csv_cells.escaped, rows))
