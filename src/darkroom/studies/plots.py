"""The pictures of a study, drawn with matplotlib."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from darkroom.core.charts import PALETTE
from darkroom.studies.run_config import RunResult, by_label, comparisons, layer_means, mean_curve
from darkroom.studies.summary import SummaryRow

DPI = 100
# measures every label, which takes most of the time of a small study's pictures
LAYOUT: Literal["constrained"] | None = "constrained"
MAX_COLUMNS = 3
KEYS = {"multiply_adds": "multiply-adds of an image", "parameters": "parameters", "latency": "milliseconds of an image"}

Colors = Mapping[str, str]
Results = Sequence[RunResult]


def draw_study(results: Results, rows: Sequence[SummaryRow], draw: Callable[[Sequence[Any], Results, Colors], None]) -> bytes:
    """Return a PNG: means and learning curves of each comparison, and what `draw` draws on two further axes."""
    names, colors = comparisons(results), label_colors(results)
    columns = min(MAX_COLUMNS, len(names))
    lines = -(-len(names) // columns)
    figure = _figure(min(4.2 * max(2, columns), 12.6), 2.8 * (2 * lines + 1))
    grid = figure.add_gridspec(2 * lines + 1, 2 * columns)
    for i, name in enumerate(names):
        line, column = 2 * (i // columns), 2 * (i % columns)
        _draw_means(figure.add_subplot(grid[line, column : column + 2]), name, rows, colors)
        axis = figure.add_subplot(grid[line + 1, column : column + 2])
        draw_curves(axis, by_label(results, name), "train_loss", colors, f"{name}: training loss")
        low, high = axis.get_ylim()
        axis.set_ylim(low, min(high, 20.0) if low < 20 else high)
    draw([figure.add_subplot(grid[-1, :columns]), figure.add_subplot(grid[-1, columns:])], results, colors)
    return _png(figure)


def draw_latency(results: Results) -> bytes:
    """Return a PNG: accuracy against milliseconds, for each comparison."""
    names = comparisons(results)
    columns, lines = min(MAX_COLUMNS, len(names)), -(-len(names) // MAX_COLUMNS)
    figure = _figure(4.2 * columns, 3.2 * lines)
    axes = [figure.add_subplot(lines, columns, i + 1) for i in range(len(names))]
    draw_costs(axes, results, label_colors(results), [(name, "latency") for name in names])
    return _png(figure)


def draw_costs(axes: Sequence[Any], results: Results, colors: Colors, content: Sequence[tuple[str, str]]) -> None:
    """Draw mean accuracy against the median of a cost (`KEYS`) by label, for each (comparison, cost)."""
    for axis, (comparison, key) in zip(axes, content, strict=False):
        for label, group in by_label(results, comparison).items():
            accuracy = statistics.fmean(result.accuracy for result in group)
            value = statistics.median(getattr(result, key) for result in group)
            axis.plot([value], [accuracy], "o", color=colors[label])
            axis.annotate(label, (value, accuracy), fontsize=7, xytext=(4, 4), textcoords="offset points")
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter("")
        axis.margins(x=0.2, y=0.15)
        axis.set_title(f"{comparison}: accuracy", fontsize=9)
        axis.set_xlabel(KEYS[key], fontsize=8)


def draw_curves(axis: Any, groups: Mapping[str, Results], key: str, colors: Colors, title: str) -> None:
    """Draw the mean of a figure of the curve over the steps, by label, on a logarithmic axis if it is a loss."""
    for label, group in groups.items():
        points = mean_curve(group, key)
        if points:
            axis.plot(*zip(*points, strict=True), color=colors[label], lw=1.3, label=label)
    if key.endswith("loss"):
        axis.set_yscale("log")
    axis.set_xlabel("step", fontsize=8)
    axis.set_title(title, fontsize=9)


def draw_layers(axis: Any, groups: Mapping[str, Results], key: str, colors: Colors, title: str, last: bool = False) -> None:
    """Draw the mean of a statistic by layer, before the first step or after the last one, by label."""
    for label, group in groups.items():
        means = layer_means(group, key, last)
        points = [(i, value) for i, value in enumerate(means.values()) if value]
        if points:
            axis.plot(*zip(*points, strict=True), "o-" if len(means) < 10 else "-", color=colors[label], ms=3, lw=1.3)
    if len(means) < 10:
        axis.set_xticks(range(len(means)), means, fontsize=7)
    axis.set_yscale("log")
    axis.set_xlabel("layer", fontsize=8)
    axis.set_title(title, fontsize=9)


def label_colors(results: Results) -> dict[str, str]:
    """Return a colour for each label."""
    labels = dict.fromkeys(result.config.label for result in results)
    return {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(labels)}


def _draw_means(axis: Any, comparison: str, rows: Sequence[SummaryRow], colors: Colors) -> None:
    rows = [row for row in rows if row.comparison == comparison]
    for i, row in enumerate(rows):
        value, low, high = row.accuracy.value, row.accuracy.low, row.accuracy.high
        if low == low:
            axis.plot([max(low, 0), min(high, 1)], [i, i], color=colors[row.label], lw=3, alpha=0.5)
        axis.plot([value], [i], "o", color=colors[row.label], ms=4)
    axis.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_title(f"{comparison}: accuracy, 95% interval", fontsize=9)


def _figure(width: float, height: float) -> Any:
    figure = Figure(figsize=(width, height), dpi=DPI, layout=LAYOUT)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    """Return a figure with 128 colours, which are enough for lines and text and make a small file."""
    for axis in figure.axes:
        axis.tick_params(which="both", labelsize=7)
        axis.grid(alpha=0.25)
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", metadata={"Software": "darkroom study"})
    with Image.open(full) as image:
        image.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE).save(small, format="PNG", optimize=True)
    return small.getvalue()
