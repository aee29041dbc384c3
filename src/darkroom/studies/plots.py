"""The pictures of a study, drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from PIL import Image

from darkroom.core.axes import log_ticks, tick_text
from darkroom.core.charts import FEW, PALETTE, Chart
from darkroom.studies import chart_data
from darkroom.studies.chart_data import ComparisonCharts
from darkroom.studies.run_config import RunResult, comparisons

DPI = 100
# measures every label, which takes most of the time of a small study's pictures
LAYOUT: Literal["constrained"] | None = "constrained"
MAX_COLUMNS, SQUARE = 3, 4  # four are two by two
DECADE = 10
MAX_KEY_LINES = 6  # a longer key has two columns


def draw_study(compared: Sequence[ComparisonCharts], further: Sequence[Chart]) -> bytes:
    """Return a PNG: means and training losses of each comparison, and below them the study's own charts."""
    columns, below = _columns(len(compared)), max(1, _columns(len(further)))
    lines = -(-len(compared) // columns)
    further_lines = -(-len(further) // below)
    figure = _figure(4.2 * max(2, columns, below), 2.8 * (2 * lines + further_lines))
    grid = figure.add_gridspec(2 * lines + further_lines, columns * below)
    for i, charts in enumerate(compared):
        line, left = 2 * (i // columns), below * (i % columns)
        _draw_means(figure.add_subplot(grid[line, left : left + below]), charts)
        draw(figure.add_subplot(grid[line + 1, left : left + below]), charts.train_loss, f"{charts.name}: ")
    for i, chart in enumerate(further):
        left = columns * (i % below)
        axis = figure.add_subplot(grid[2 * lines + i // below, left : left + columns])
        draw(axis, chart)
        if not chart.is_labelled:
            axis.legend(fontsize=6, ncols=1 if len(chart.colours) <= MAX_KEY_LINES else 2, framealpha=0.6)
    return _png(figure)


def draw_latency(results: Sequence[RunResult]) -> bytes:
    """Return a PNG: accuracy against milliseconds, for each comparison."""
    names = comparisons(results)
    columns = _columns(len(names))
    lines = -(-len(names) // columns)
    figure = _figure(4.2 * columns, 3.2 * lines)
    for i, name in enumerate(names):
        draw(figure.add_subplot(lines, columns, i + 1), chart_data.costs(results, name, "latency"))
    return _png(figure)


def draw(axis: Any, chart: Chart, prefix: str = "") -> None:
    """Draw a chart on an axis; `prefix` is written before its title."""
    named: set[str] = set()
    for series in chart.series:
        color, points = PALETTE[series.colour % len(PALETTE)], series.points
        if not points:
            continue
        label = f"_{series.name}" if series.name in named else series.name  # a key has each name once
        named.add(series.name)
        if series.style == "line":
            width = {"lw": 3.5, "alpha": 0.5} if series.wide else {"lw": 1.3}
            axis.plot(*zip(*points, strict=True), "o-" if len(points) < FEW else "-", color=color, ms=3, label=label, **width)
        elif chart.is_labelled:
            axis.plot(*zip(*points, strict=True), "o", color=color)
            axis.annotate(series.name, points[0], fontsize=7, xytext=(4, 4), textcoords="offset points")
        else:
            fill = {"mfc": "none", "alpha": 0.4} if series.style == "rings" else {}
            axis.plot(*zip(*points, strict=True), "o", color=color, ms=4, label=label, **fill)
    if chart.x.log:
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter("")
    if chart.y.log:
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        if high < DECADE * low:  # 2.1 instead of 2.1 × 10⁰
            axis.yaxis.set_minor_formatter(ScalarFormatter())
            axis.yaxis.set_major_formatter(ScalarFormatter())
    if chart.x.ticks:
        axis.set_xticks(list(chart.x.ticks), list(chart.x.ticks.values()))
    if chart.is_labelled:
        axis.margins(x=0.2, y=0.15)
    low, high = axis.get_xlim()
    if chart.x.log and not chart.x.ticks and high < DECADE * low:  # else no tick of a logarithmic axis has a number
        places = log_ticks(low, high, FEW)
        axis.set_xticks(places, [tick_text(place, False) for place in places])
    axis.set_title(prefix + chart.title, fontsize=9)
    axis.set_xlabel(chart.x.label, fontsize=8)


def _draw_means(axis: Any, charts: ComparisonCharts) -> None:
    for i, dot in enumerate(charts.means):
        color = PALETTE[(dot.colour or 0) % len(PALETTE)]
        if dot.low is not None:
            axis.plot([dot.low, dot.high], [i, i], color=color, lw=3, alpha=0.5)
        axis.plot([dot.value], [i], "o", color=color, ms=4)
    axis.set_yticks(range(len(charts.means)), [dot.name for dot in charts.means], fontsize=7)
    axis.margins(y=0.3 if len(charts.means) < FEW else 0.1)
    axis.invert_yaxis()
    axis.set_title(f"{charts.name}: accuracy, 95% interval", fontsize=9)


def _columns(count: int) -> int:
    """Return how many of so many charts stand side by side."""
    return 2 if count == SQUARE else min(MAX_COLUMNS, count)


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
