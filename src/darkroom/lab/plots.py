"""Plots of the lab, drawn with matplotlib without a window system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isinf

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from darkroom.core.charts import PALETTE
from darkroom.core.errors import printable
from darkroom.lab.receptive_field import effective_size

MARKERS = "os^Dv"
FAINT, LINE = "#65656a", "#dcdcd6"


def render(figure: Figure) -> np.ndarray:
    """Return a figure as (H, W, 3) uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def scatter(maps: Mapping[str, np.ndarray], names: Sequence[str], wrong: np.ndarray) -> np.ndarray:
    """Return two scatter plots of points (N, 2), a colour for each class, wrong predictions (N,) ringed."""
    figure = Figure((10.6, 5.6), dpi=100, layout="constrained")
    classes = sorted(set(names))
    for axes, (title, points) in zip(figure.subplots(1, 2), maps.items(), strict=True):
        for number, name in enumerate(classes):
            is_member = np.array([item == name for item in names])
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number // len(PALETTE) % len(MARKERS)]
            axes.scatter(*points[is_member].T, s=16, color=colour, marker=marker, alpha=0.75, lw=0, label=printable(name)[:24])
        axes.scatter(*points[wrong].T, s=70, facecolors="none", edgecolors="black", lw=1.1)
        axes.set_title(title, fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(LINE)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles[:40], labels[:40], loc="outside lower center", ncols=min(10, len(labels)), frameon=False, fontsize=9)
    return render(figure)


def receptive_fields(sizes: Mapping[str, float], influences: Mapping[str, np.ndarray], image_size: int) -> np.ndarray:
    """Return a plot of the theoretical and effective fields of layers by depth, with the size of the image."""
    figure = Figure((10.4, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    theory = [image_size if isinf(size) else size for size in sizes.values()]
    axes.plot(range(len(sizes)), theory, "o-", ms=3, color=PALETTE[0], label="theoretical")
    measured = [(i, effective_size(influences[name])) for i, name in enumerate(sizes) if name in influences]
    axes.plot(*np.array(measured).reshape(-1, 2).T, "s--", ms=5, color=PALETTE[1], label="effective")
    axes.axhline(image_size, color=FAINT, lw=1, ls=":", label=f"the image, {image_size}")
    step = max(1, len(sizes) // 26)
    axes.set_xticks(range(0, len(sizes), step), list(sizes)[::step], rotation=50, ha="right", fontsize=8)
    axes.set_ylabel("pixels a side")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    return render(figure)
