"""The charts of a study as data, from which its picture (`plots.py`) and its page (`page.py`) are drawn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan

from darkroom.core.axes import Axis
from darkroom.core.charts import Chart, Dot, Series
from darkroom.studies.run_config import RunResult, by_label, comparisons, layer_means, mean_curve
from darkroom.studies.summary import SummaryRow, format_difference, format_p, of_comparison

COSTS = {"multiply_adds": "multiply-adds of an image", "parameters": "parameters", "latency": "milliseconds of an image"}
HIGHEST_LOSS = 20.0  # in a chart: a training that diverges leaves room for the others
FEW_LAYERS = 10  # fewer are named below the axis

Results = Sequence[RunResult]


@dataclass(frozen=True)
class ComparisonCharts:
    """The charts that every comparison has: means with intervals, and learning curves by label."""

    name: str
    means: list[Dot]
    train_loss: Chart
    val_accuracy: Chart


def compare(results: Results, rows: Sequence[SummaryRow]) -> list[ComparisonCharts]:
    """Return the charts of each comparison."""
    return [
        ComparisonCharts(
            name,
            means(results, of_comparison(rows, name)),
            curves(results, name, "train_loss", "training loss"),
            curves(results, name, "val_accuracy", "held-out accuracy"),
        )
        for name in comparisons(results)
    ]


def label_colours(results: Results) -> dict[str, int]:
    """Return a colour, as its number in the palette, for each label."""
    return {label: i for i, label in enumerate(dict.fromkeys(result.config.label for result in results))}


def means(results: Results, rows: Sequence[SummaryRow]) -> list[Dot]:
    """Return mean accuracies with their intervals, and the difference from the reference as a note."""
    colours = label_colours(results)
    dots = []
    for row in rows:
        low, high = (None, None) if isnan(row.accuracy.low) else (max(row.accuracy.low, 0.0), min(row.accuracy.high, 1.0))
        p = format_p(row.p)
        note = f"{format_difference(row.difference)}{p and f', p {p}' if p.startswith('<') else p and f', p = {p}'}"
        dots.append(Dot(row.label, row.accuracy.value, low, high, note, row.is_significant, colours[row.label]))
    return dots


def curves(results: Results, comparison: str, key: str, title: str) -> Chart:
    """Return the mean of a figure of the curve over the steps, by label; a loss is on a logarithmic axis."""
    is_loss = key.endswith("loss")
    groups = {label: mean_curve(group, key) for label, group in by_label(results, comparison).items()}
    if is_loss:
        groups = {label: [(x, min(y, HIGHEST_LOSS)) for x, y in points if y > 0] for label, points in groups.items()}
    return _lines(results, groups, title, Axis("step"), Axis(log=is_loss, shares=not is_loss))


def layers(results: Results, comparison: str, key: str, title: str, last: bool = False) -> Chart:
    """Return the mean of a statistic by layer, before the first step or after the last one, by label."""
    names: dict[float, str] = {}
    groups = {}
    for label, group in by_label(results, comparison).items():
        values = layer_means(group, key, last)
        groups[label] = [(float(i), value) for i, value in enumerate(values.values()) if value]
        names |= {float(i): name for i, name in enumerate(values)}
    return _lines(results, groups, title, Axis("layer", ticks=names if len(names) < FEW_LAYERS else None), Axis(log=True))


def costs(results: Results, comparison: str, key: str) -> Chart:
    """Return mean accuracy against the median of a cost (`COSTS`), by label."""
    colours = label_colours(results)
    series = []
    for label, group in by_label(results, comparison).items():
        place = float(statistics.median(getattr(result, key) for result in group))
        series.append(Series(label, [(place, statistics.fmean(result.accuracy for result in group))], colours[label], "dots"))
    return Chart(f"{comparison}: accuracy", Axis(COSTS[key], log=True), Axis(shares=True), series)


def accuracies(
    results: Results, labels: Sequence[str], value: Callable[[RunResult], float | None], title: str, x_label: str
) -> Chart:
    """Return the mean accuracy of each label against a value of its runs, on a logarithmic axis.

    Runs whose value is None are left out.
    """
    groups: dict[str, list[tuple[float, float]]] = {}
    for label in labels:
        by_place: dict[float, list[float]] = {}
        for result in results:
            place = value(result) if result.config.label == label else None
            if place is not None:
                by_place.setdefault(place, []).append(result.accuracy)
        groups[label] = [(place, statistics.fmean(by_place[place])) for place in sorted(by_place)]
    return _lines(results, groups, title, Axis(x_label, log=True), Axis(shares=True))


def _lines(results: Results, groups: dict[str, list[tuple[float, float]]], title: str, x: Axis, y: Axis) -> Chart:
    """Return a line for each label, in its colour."""
    colours = label_colours(results)
    return Chart(title, x, y, [Series(label, points, colours[label]) for label, points in groups.items()])
