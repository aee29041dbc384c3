"""The result of an evaluation in a few sentences."""

from __future__ import annotations

from collections.abc import Iterable

from darkroom.core.counts import counted
from darkroom.evaluation import leaderboard
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, Details, Metrics, ModelDetails, Pair
from darkroom.evaluation.significance import SIGNIFICANT


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def sentences(metrics: Metrics, details: Details) -> tuple[str, list[str]]:
    """Return a headline about the best model, and further sentences."""
    best, models, figures = metrics.best, metrics.models, metrics.best_figures
    low, high = figures.intervals["accuracy"] or (figures.accuracy, figures.accuracy)
    count = metrics.images
    correct = round(figures.accuracy * count)
    share, images = percent(figures.accuracy), counted(count, "test image")
    headline = f"{best} classifies {share} of {images} correctly ({percent(low)} to {percent(high)})"
    rest = [
        f"That is {correct:,} of {count:,}; the range is the 95% interval for other test images of this kind.",
        leaderboard.describe_selection(metrics) or "The model was selected on validation.",
    ]
    others = sorted(
        (name for name in models if name not in (best, PIXEL_BASELINE)), key=lambda name: (-models[name].accuracy, name)
    )
    if others:
        subject = f"The {'next' if len(others) > 1 else 'other'} model, {others[0]},"
        rest.append(f"{subject} {_against(others[0], best, details.pairs)}.")
    if PIXEL_BASELINE in models and best != PIXEL_BASELINE:
        rest.append(f"Logistic regression on the pixels {_against(PIXEL_BASELINE, best, details.pairs)}.")
    if correct == count:
        rest.append(f"It makes no mistake; up to {percent(1 - low)} mistakes on other images would not contradict that.")
    else:
        rest.append(_weakest_class(details.models[best], details.classes))
    gap, before = figures.calibration.ece, figures.calibration.ece_uncalibrated
    rest.append(
        f"Its confidence differs from its accuracy by {100 * gap:.1f} points on average ({100 * before:.1f} before calibration)."
    )
    return headline, rest


def comparison(pair: Pair, model: str) -> tuple[float, float | None, float | None, float]:
    """Return the lead of `model` over the other model of a pair, its interval, and the corrected p-value."""
    if pair.a == model:
        return pair.difference + 0.0, pair.low, pair.high, pair.p_holm
    return -pair.difference + 0.0, pair.high and -pair.high, pair.low and -pair.low, pair.p_holm


def between(pairs: Iterable[Pair], one: str, other: str) -> Pair | None:
    """Return the pair of these two models, if there is one."""
    return next((pair for pair in pairs if {pair.a, pair.b} == {one, other}), None)


def p_text(p: float) -> str:
    """Return a p-value as it is printed."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def _against(other: str, best: str, pairs: Iterable[Pair]) -> str:
    pair = between(pairs, other, best)
    if pair is None:
        return "was not compared with it"
    difference, _, _, p = comparison(pair, other)
    if not difference:
        return "has the same accuracy"
    points = f"{100 * abs(difference):.1f} points {'higher' if difference > 0 else 'lower'}"
    return f"is {points}; that {'is significant' if p < SIGNIFICANT else 'may be chance'} ({p_text(p)})"


def _weakest_class(details: ModelDetails, classes: list[str]) -> str:
    """Return a sentence about the class with the lowest recall, and what it is most often predicted as."""
    weakest = min(
        (name for name in classes if details.per_class[name].support),
        key=lambda name: (details.per_class[name].recall, classes.index(name)),
    )
    own = classes.index(weakest)
    row = list(details.confusion_matrix[own])
    correct, row[own] = row[own], 0
    most = max(range(len(row)), key=lambda i: (row[i], -i))
    support = details.per_class[weakest].support
    return f"Its weakest class is {weakest}: {correct} of {support} recognised, {row[most]} classified as {classes[most]}."
