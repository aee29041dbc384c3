"""Two evaluations side by side: what changed between their best models, and whether it may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from darkroom.core import charts, pages
from darkroom.core.errors import printable
from darkroom.evaluation import significance
from darkroom.evaluation.metrics import REFERENCE
from darkroom.evaluation.report import verdict

FIGURES = {
    "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1",
    "roc_auc": "ROC area", "average_precision": "average precision", "log_loss": "log loss", "brier": "Brier score",
}  # fmt: skip
ERRORS = ("log_loss", "brier")  # of which less is better, and which are no shares
MARK = "Darkroom · two evaluations"  # in every page, so that it is known again
SHOWN = 200  # images whose answer changed, of each kind


@dataclass(frozen=True)
class Side:
    """One evaluation: its name, metrics.json, details.json, its params if they are known, and its best model's answers.

    These are lines of `predictions.lines`, None where predictions.parquet is not there.
    """

    name: str
    metrics: Mapping[str, Any]
    details: Mapping[str, Any]
    answers: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> str:
        return str(self.metrics["best"])

    @property
    def figures(self) -> Mapping[str, Any]:
        return self.metrics["models"][self.best]


@dataclass(frozen=True)
class Paired:
    """The test images that both best models answered: how many, the difference in accuracy, its p-value, and where answers changed.

    `lost` and `won` are images that the first or the second alone has right, `other` those on which both are wrong in another way.
    """

    images: int
    difference: float
    p: float
    lost: list[dict[str, Any]]
    won: list[dict[str, Any]]
    other: list[dict[str, Any]]


def paired(a: Side, b: Side) -> Paired | None:
    """Compare both models on the images, by their pixels, that both answered under the same label; None where there are none."""
    if a.answers is None or b.answers is None:
        return None
    known = {row["pixel_hash"]: row for row in a.answers}
    both = [(known[row["pixel_hash"]], row) for row in b.answers if row["pixel_hash"] in known]
    both = [(one, two) for one, two in both if one["label"] == two["label"]]
    if not both:
        return None
    first, second = (np.array([row["predicted"] == row["label"] for row in rows]) for rows in zip(*both, strict=True))
    changed: dict[str, list[dict[str, Any]]] = {"lost": [], "won": [], "other": []}
    for (one, two), was, now in zip(both, first, second, strict=True):
        if one["predicted"] != two["predicted"]:
            kind = "lost" if was else "won" if now else "other"
            changed[kind].append({
                "path": printable(two["path"]), "label": two["label"], "a": one["predicted"], "b": two["predicted"],
                "sure_a": one["confidence"], "sure_b": two["confidence"],
            })  # fmt: skip
    for rows in changed.values():
        rows.sort(key=lambda row: (-row["sure_b"], row["path"]))
    return Paired(len(both), float(second.mean() - first.mean()), significance.mcnemar(first, second), **changed)


def unpaired(a: Side, b: Side) -> float:
    """Return the p-value that both best models are right equally often, each on test images of its own (Fisher 1922)."""
    from scipy.stats import fisher_exact

    counts = [(round(side.figures["accuracy"] * side.metrics["images"]), side.metrics["images"]) for side in (a, b)]
    return float(fisher_exact([[right, total - right] for right, total in counts]).pvalue)


def headline(a: Side, b: Side, both: Paired | None) -> tuple[str, str]:
    """Return which of the two is better, and how sure that is."""
    difference = both.difference if both else b.figures["accuracy"] - a.figures["accuracy"]
    p = both.p if both else unpaired(a, b)
    points = f"{100 * abs(difference):.1f} points"
    if not difference:
        said = f"{b.name} is right as often as {a.name}"
    else:
        said = f"{b.name} is {points} {'better' if difference > 0 else 'worse'} than {a.name}"
        said += "" if p < verdict.SURE else ", which may be chance"
    if both:
        how = (
            f"On the {both.images:,} test images that both answered {b.name} alone is right on {len(both.won)}, {a.name} alone on "
            f"{len(both.lost)}; McNemar's exact test: {verdict.spoken(p)}. "
            "It takes images for independent: their groups are not known here."
        )
    else:
        how = (
            f"The two were not asked about the same images, or predictions.parquet is missing, so that the comparison is rough; "
            f"Fisher's exact test: {verdict.spoken(p)}."
        )
    return said, how


def figures(a: Side, b: Side) -> list[dict[str, Any]]:
    """Return the headline figures of both best models, with intervals, and by how much the second is better."""
    made = []
    for key, name in FIGURES.items():
        one, two = a.figures.get(key), b.figures.get(key)
        row = {"name": name, "a": one, "b": two, "share": key not in ERRORS}
        row |= {"of_a": a.figures["intervals"].get(key), "of_b": b.figures["intervals"].get(key)}
        row["better"] = None if one is None or two is None else one - two if key in ERRORS else two - one
        made.append(row)
    one, two = (side.figures["calibration"]["ece"] for side in (a, b))
    ranges = {"of_a": a.figures["intervals"].get("ece"), "of_b": b.figures["intervals"].get("ece")}
    return [*made, {"name": "calibration error", "a": one, "b": two, "share": True, "better": one - two, **ranges}]


def classes(a: Side, b: Side) -> list[dict[str, Any]]:
    """Return the recall and F1 of each class on both sides, the largest losses of F1 first; None without images."""
    held = [side.details["models"][side.best]["per_class"] for side in (a, b)]
    names = list(dict.fromkeys([*a.details["classes"], *b.details["classes"]]))
    made = []
    for name in names:
        one, two = (rows[name] if rows.get(name, {}).get("support") else None for rows in held)
        row: dict[str, Any] = {"name": name, "a": one, "b": two, "change": two["f1"] - one["f1"] if one and two else None}
        made.append(row)
    return sorted(made, key=lambda row: (row["change"] is None, row["change"] or 0.0, row["name"]))


def models(a: Side, b: Side) -> list[dict[str, Any]]:
    """Return the accuracy of every model of either side."""
    names = list(dict.fromkeys([*a.metrics["models"], *b.metrics["models"]]))
    made = []
    for name in names:
        one, two = (side.metrics["models"].get(name, {}).get("accuracy") for side in (a, b))
        made.append({"name": name, "a": one, "b": two, "change": None if one is None or two is None else two - one})
    return sorted(made, key=lambda row: (row["name"] == REFERENCE, -(row["b"] or 0.0), row["name"]))


def params(a: Side, b: Side) -> list[tuple[str, Any, Any]]:
    """Return the params in which the two differ."""
    flat = [
        {f"{section}.{key}" if key else section: value for section, values in side.params.items()
         for key, value in (values.items() if isinstance(values, Mapping) else [("", values)])}
        for side in (a, b)
    ]  # fmt: skip
    names = dict.fromkeys([*flat[0], *flat[1]])
    return [(name, flat[0].get(name, "–"), flat[1].get(name, "–")) for name in names if flat[0].get(name) != flat[1].get(name)]


def page(a: Side, b: Side) -> str:
    """Return the page."""
    both = paired(a, b)
    said, how = headline(a, b, both)
    shown = [
        charts.Dot(f"{side.name}: {side.best}", side.figures["accuracy"], low, high, chosen=side is b)
        for side in (a, b) for low, high in [side.figures["intervals"]["accuracy"]]
    ]  # fmt: skip
    changed = {} if both is None else {
        f"{a.name} was right, {b.name} is wrong": both.lost, f"{b.name} is right, {a.name} was wrong": both.won,
        "both wrong, in another way": both.other,
    }  # fmt: skip
    return pages.render(
        "evaluation/report", "report_diff.html.j2",
        source=f"{a.name} and {b.name}", a=a, b=b, headline=said, how=how, figures=figures(a, b),
        per_class=classes(a, b), models=models(a, b), params=params(a, b), changed=changed, most=SHOWN, both=both, mark=MARK,
        plot=charts.dots(shown, "test accuracy of the best models"),
    )  # fmt: skip
