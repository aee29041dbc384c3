"""What a person has to know of an evaluation, in a few sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from darkroom.evaluation.metrics import REFERENCE

SURE = 0.05  # below which a corrected p-value is called significant


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def sentences(metrics: Mapping[str, Any], details: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the verdict on the best model as a headline and further sentences, from metrics.json and details.json."""
    best, models = metrics["best"], metrics["models"]
    figures = models[best]
    low, high = figures["intervals"]["accuracy"]
    count = metrics["images"]
    right = round(figures["accuracy"] * count)
    headline = f"{best} is right on {percent(figures['accuracy'])} of {count:,} test images ({percent(low)} to {percent(high)})"
    told = [f"That is {right:,} of {count:,}; the range is the 95% interval for other test images of this kind."]
    told.append(f"It was chosen by its {percent(figures['val_accuracy'])} on validation, without a look at the test images.")
    others = sorted(
        (name for name in models if name not in (best, REFERENCE)), key=lambda name: (-models[name]["accuracy"], name)
    )  # fmt: skip
    if others:
        told.append(_against(others[0], best, details["pairs"], "The next model" if len(others) > 1 else "The other model"))
    if REFERENCE in models and best != REFERENCE:
        told.append(_against(REFERENCE, best, details["pairs"], "Logistic regression on the pixels"))
    told.append(_failures(details["models"][best], details["classes"], 1 - low if right == count else None))
    gap, before = figures["calibration"]["ece"], figures["calibration"]["ece_uncalibrated"]
    told.append(f"Its confidence is off by {100 * gap:.1f} points on average ({100 * before:.1f} before calibration).")
    return headline, told


def comparison(pair: Mapping[str, Any], other: str) -> tuple[float, float | None, float | None, float]:
    """Return by how much `other` is better than the second model of a pair, the interval, and the corrected p-value."""
    sign = 1 if pair["a"] == other else -1
    low, high = (pair["low"], pair["high"]) if sign > 0 else (pair["high"], pair["low"])
    return sign * pair["difference"] + 0.0, low and sign * low, high and sign * high, pair["p_holm"]


def between(pairs: Sequence[Mapping[str, Any]], one: str, other: str) -> Mapping[str, Any] | None:
    return next((pair for pair in pairs if {pair["a"], pair["b"]} == {one, other}), None)


def _against(other: str, best: str, pairs: Sequence[Mapping[str, Any]], called: str) -> str:
    pair = between(pairs, other, best)
    name = called if other == REFERENCE else f"{called}, {other},"
    if pair is None:
        return f"{name} was not compared with it."
    difference, _, _, p = comparison(pair, other)
    if not difference:
        return f"{name} is right as often."
    apart = f"{100 * abs(difference):.1f} points {'higher' if difference > 0 else 'lower'}"
    if p < SURE:
        return f"{name} is {apart}; that is significant ({spoken(p)})."
    return f"{name} is {apart}; that may be chance ({spoken(p)})."


def spoken(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def _failures(found: Mapping[str, Any], classes: Sequence[str], unseen: float | None) -> str:
    """Say which class it knows worst and what it takes it for; of a model without mistakes how many there may be, `unseen`."""
    if unseen is not None:
        return f"It makes no mistake on them; up to {percent(unseen)} mistakes in use would not contradict that."
    held = [name for name in classes if found["per_class"][name]["support"]]
    weakest = min(held, key=lambda name: (found["per_class"][name]["recall"], classes.index(name)))
    row = list(found["confusion_matrix"][classes.index(weakest)])
    own, row[classes.index(weakest)] = row[classes.index(weakest)], 0
    taken, support = max(range(len(row)), key=lambda i: (row[i], -i)), found["per_class"][weakest]["support"]
    return f"It fails most at {weakest}: {own} of {support} found, {row[taken]} taken for {classes[taken]}."
