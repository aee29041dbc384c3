"""Tables behind `dvc plots show`: confusions, classes, reliability and robustness of the best model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from darkroom.evaluation.metrics_io import Details, Diagnostics

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]  # header and rows


def tables(details: Details, diagnostics: Diagnostics, predictions: np.ndarray, labels: np.ndarray) -> dict[str, Table]:
    """Return a table for each plot, by file name; `predictions` (N,) are the best model's on test.

    `dvc plots diff` draws one line per revision, so a plot has one line: of robustness the mean over
    corruptions, which have columns of their own.
    """
    classes, best = details.classes, details.models[diagnostics.model]
    robustness = diagnostics.robustness
    corruptions = robustness.corruptions
    curves = zip(*([robustness.accuracy, *item.accuracy] for item in corruptions.values()), strict=True)
    return {
        "confusion.csv": (
            ["actual", "predicted"],
            [[classes[label], classes[predicted]] for label, predicted in zip(labels, predictions, strict=True)],
        ),
        "classes.csv": (
            ["class", "recall", "precision", "f1"],
            [[name, row.recall, row.precision, row.f1] for name, row in best.per_class.items() if row.support],
        ),
        "reliability.csv": (
            ["confidence", "accuracy", "images"],
            [[item.confidence, item.accuracy, item.count] for item in best.bins if item.count],
        ),
        "robustness.csv": (
            ["severity", "accuracy", *corruptions],
            [[severity, sum(values) / len(values), *values] for severity, values in enumerate(curves)],
        ),
    }
