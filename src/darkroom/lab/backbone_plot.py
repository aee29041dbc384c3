"""The picture of ranked backbones: accuracy against what an image costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from darkroom.core import atomic
from darkroom.core.charts import NEUTRAL, PALETTE


class Mark(NamedTuple):
    """A backbone: its accuracy, the ends of its interval, milliseconds an image, and whether it is chosen."""

    name: str
    accuracy: float
    low: float
    high: float
    milliseconds: float
    chosen: bool


def draw(marks: Sequence[Mark], title: str, file: Path, most: float | None = None) -> None:
    """Write a PNG; the interval of a backbone is that of its difference from the best one, at the best one's accuracy."""
    figure = Figure((8.4, 4.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for mark in marks:
        colour = PALETTE[0] if mark.chosen else PALETTE[NEUTRAL]
        below, above = max(mark.accuracy - mark.low, 0.0), max(mark.high - mark.accuracy, 0.0)
        axes.errorbar(mark.milliseconds, mark.accuracy, [[below], [above]], fmt="o", color=colour, ms=6, capsize=3, lw=1.2)
        axes.annotate(mark.name, (mark.milliseconds, mark.accuracy), (7, 5), textcoords="offset points", fontsize=9)
    if most is not None:
        axes.axvline(most, color=PALETTE[1], lw=1, ls=":")
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds for one image, embedding alone")
    axes.set_ylabel("accuracy of a linear head, out of fold")
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.margins(x=0.25, y=0.15)
    with atomic.new_file(file) as working:
        figure.set_canvas(FigureCanvasAgg(figure))
        figure.savefig(working, format="png")
