"""Comparison of two evaluations: changes between their best models, and whether they may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from darkroom.core import charts, pages
from darkroom.core.counts import counted
from darkroom.core.errors import printable
from darkroom.evaluation import significance
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, Details, Metrics, ModelMetrics
from darkroom.evaluation.predictions import Prediction
from darkroom.evaluation.report import verdict

FIGURES = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1",
    "roc_auc": "ROC area", "average_precision": "average precision", "log_loss": "log loss", "brier": "Brier score",
    "ece": "calibration error",
}  # fmt: skip
ERRORS = ("log_loss", "brier", "ece")  # lower is better
SCORES = ("log_loss", "brier")  # not in percent
MARK = "Darkroom · two evaluations"  # in every page, by which an earlier one is recognised
SHOWN = 200  # images whose prediction changed, of each kind
Change = tuple[Prediction, Prediction]  # of an image, by the first and by the second model


@dataclass(frozen=True)
class Side:
    """One evaluation: its name, metrics.json, details.json, and the params where they are available.

    `predictions` are the best model's of the test images, None where predictions.parquet is missing.
    """

    name: str
    metrics: Metrics
    details: Details
    predictions: Sequence[Prediction] | None = field(default=None, repr=False)
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """Return the name of the best model."""
        return self.metrics.best

    @property
    def figures(self) -> ModelMetrics:
        """Return the figures of the best model."""
        return self.metrics.best_figures


@dataclass(frozen=True)
class Paired:
    """Comparison on the test images of both sides: their number, the difference in accuracy and its p-value.

    `lost` and `won` are images that only the first or only the second model classifies correctly; of `other`
    ones both are wrong, with different predictions.
    """

    images: int
    difference: float
    p: float
    lost: list[Change]
    won: list[Change]
    other: list[Change]


def paired(a: Side, b: Side) -> Paired | None:
    """Compare both models on images (by pixels) that both sides have under one label; None without any."""
    if a.predictions is None or b.predictions is None:
        return None
    first = {row.pixel_hash: row for row in a.predictions}
    both = [(first[row.pixel_hash], row) for row in b.predictions if row.pixel_hash in first]
    both = [(one, two) for one, two in both if one.label == two.label]
    if not both:
        return None
    correct = np.array([[row.predicted == row.label for row in rows] for rows in both])
    changed: dict[str, list[Change]] = {"lost": [], "won": [], "other": []}
    for (one, two), (before, after) in zip(both, correct, strict=True):
        if one.predicted != two.predicted:
            change = one, replace(two, path=printable(two.path))
            changed["lost" if before else "won" if after else "other"].append(change)
    for changes in changed.values():
        changes.sort(key=lambda change: (-change[1].confidence, change[1].path))
    difference = float(correct[:, 1].mean() - correct[:, 0].mean())
    return Paired(len(both), difference, significance.mcnemar(correct[:, 0], correct[:, 1]), **changed)


def unpaired(a: Side, b: Side) -> float:
    """Return the p-value of equal accuracy of both best models on their own images (Fisher 1922)."""
    counts = [(round(side.figures.accuracy * side.metrics.images), side.metrics.images) for side in (a, b)]
    return float(fisher_exact([[correct, total - correct] for correct, total in counts]).pvalue)


def headline(a: Side, b: Side, pair: Paired | None) -> tuple[str, str]:
    """Return a sentence about which of the two is better, and one about the test."""
    difference, p = (pair.difference, pair.p) if pair else (b.figures.accuracy - a.figures.accuracy, unpaired(a, b))
    if not difference:
        result = f"{b.name} has the same accuracy as {a.name}"
    else:
        points = f"{100 * abs(difference):.1f} points {'better' if difference > 0 else 'worse'}"
        chance = "" if p < significance.SIGNIFICANT else ", which may be chance"
        result = f"{b.name} is {points} than {a.name}{chance}"
    if pair:
        test = (
            f"Of the {counted(pair.images, 'test image')} of both, only {b.name} is correct on {len(pair.won)}, only {a.name} on "
            f"{len(pair.lost)}; McNemar's exact test: {verdict.p_text(p)}. "
            "It counts each image alone, copies of a picture too, which predictions.parquet does not tell."
        )
    else:
        test = (
            "The two have no common test images, or predictions.parquet is missing, so the comparison is rough; "
            f"Fisher's exact test: {verdict.p_text(p)}."
        )
    return result, test


def figures(a: Side, b: Side) -> list[dict[str, Any]]:
    """Return both best models' headline figures with intervals, and by how much the second is better."""
    rows = []
    for key, name in FIGURES.items():
        one, two = ((side.figures.calibration if key == "ece" else side.figures) for side in (a, b))
        x, y = getattr(one, key), getattr(two, key)
        better = None if x is None or y is None else x - y if key in ERRORS else y - x
        intervals = {"interval_a": a.figures.intervals.get(key), "interval_b": b.figures.intervals.get(key)}
        rows.append({"name": name, "a": x, "b": y, "share": key not in SCORES, "better": better, **intervals})
    return rows


def classes(a: Side, b: Side) -> list[dict[str, Any]]:
    """Return the figures of each class on both sides, the largest losses of F1 first; None without images."""
    per_class = [side.details.models[side.best].per_class for side in (a, b)]
    rows = []
    for name in dict.fromkeys([*a.details.classes, *b.details.classes]):
        one, two = (side[name] if name in side and side[name].support else None for side in per_class)
        rows.append({"name": name, "a": one, "b": two, "change": two.f1 - one.f1 if one and two else None})
    return sorted(rows, key=lambda row: (row["change"] is None, row["change"] or 0.0, row["name"]))


def models(a: Side, b: Side) -> list[dict[str, Any]]:
    """Return the accuracy of every model of either side."""
    rows = []
    for name in dict.fromkeys([*a.metrics.models, *b.metrics.models]):
        one, two = (side.metrics.models[name].accuracy if name in side.metrics.models else None for side in (a, b))
        rows.append({"name": name, "a": one, "b": two, "change": None if one is None or two is None else two - one})
    return sorted(rows, key=lambda row: (row["name"] == PIXEL_BASELINE, -(row["b"] or 0.0), row["name"]))


def params(a: Side, b: Side) -> list[tuple[str, Any, Any]]:
    """Return the params in which the two differ."""
    one, two = (
        {f"{section}.{key}" if key else section: value for section, values in side.params.items()
         for key, value in (values.items() if isinstance(values, Mapping) else [("", values)])}
        for side in (a, b)
    )  # fmt: skip
    return [
        (name, one.get(name, "–"), two.get(name, "–")) for name in dict.fromkeys([*one, *two]) if one.get(name) != two.get(name)
    ]


def page(a: Side, b: Side) -> str:
    """Return the page."""
    pair = paired(a, b)
    result, test = headline(a, b, pair)
    dots = [
        charts.Dot(f"{side.name}: {side.best}", side.figures.accuracy, low, high, chosen=side is b)
        for side in (a, b)
        for low, high in [side.figures.intervals["accuracy"] or (None, None)]
    ]
    changed = {} if pair is None else {
        f"{a.name} was correct, {b.name} is wrong": pair.lost, f"{b.name} is correct, {a.name} was wrong": pair.won,
        "both wrong, with different predictions": pair.other,
    }  # fmt: skip
    return pages.render(
        "evaluation/report", "report_diff.html.j2",
        source=f"{a.name} and {b.name}", a=a, b=b, headline=result, test=test, figures=figures(a, b), per_class=classes(a, b),
        models=models(a, b), params=params(a, b), changed=changed, most=SHOWN, pair=pair, mark=MARK,
        plot=charts.dots(dots, "test accuracy of the best models"),
    )  # fmt: skip
