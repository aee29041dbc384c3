"""Write what a study came to: tables, JSON, a picture and a page. Nothing here differs between two runs but cost.csv."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.core import atomic, pages
from darkroom.studies import registry, summary
from darkroom.studies.registry import Study
from darkroom.studies.run_config import Outcome, labels, mean_curve, panels
from darkroom.studies.summary import Line

DPI = 100
MOST = 3  # panels beside each other
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")


def write(folder: Path, name: str, study: Study, facts: dict[str, Any], outcomes: Sequence[Outcome]) -> tuple[str, list[Line]]:
    """Write results.csv, curves.csv, layers.csv, summary.json, `name`.png and index.html; return the finding and the lines.

    `facts` are the size, the data and the settings, as summary.json is to hold them. The folder is there whole or not at all.
    """
    lines = summary.lines(outcomes)
    finding = study.finding(lines, outcomes)
    drawn = picture(study, outcomes, lines)
    content = {
        "study": name, "question": study.QUESTION, "equal": study.EQUAL, "finding": finding, **facts,
        "lines": summary.as_rows(lines),
    }  # fmt: skip
    with atomic.new_folder(folder) as working:
        (working / "results.csv").write_text(summary.results(outcomes), encoding="utf-8")
        (working / "curves.csv").write_text(summary.flat(outcomes, "curve"), encoding="utf-8")
        (working / "layers.csv").write_text(summary.flat(outcomes, "layers"), encoding="utf-8")
        for file, text in registry.tables(study).items():
            (working / file).write_text(text, encoding="utf-8")
        (working / f"{name}.png").write_bytes(drawn)
        (working / "index.html").write_text(page(study, finding, lines, facts, drawn), encoding="utf-8")
        atomic.write_json(working / "summary.json", content)
    return finding, lines


def page(study: Study, finding: str, lines: Sequence[Line], facts: dict[str, Any], drawn: bytes) -> str:
    """Return the self-contained page of a study."""
    import base64

    image = f"data:image/png;base64,{base64.b64encode(drawn).decode()}"
    return pages.render(
        "studies", "study.html.j2", source=study.TITLE, title=study.TITLE, question=study.QUESTION, paper=study.PAPER,
        equal=study.EQUAL, finding=finding, picture=image, headings=summary.HEADINGS, rows=summary.cells(lines), facts=facts,
    )  # fmt: skip


def picture(study: Study, outcomes: Sequence[Outcome], lines: Sequence[Line]) -> bytes:
    """Return a PNG: means with their intervals and learning curves for each panel, and what the study draws itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = panels(outcomes)
    colours = colours_of(outcomes)
    columns = min(MOST, len(shown))
    rows = -(-len(shown) // columns)
    figure: Any = Figure(figsize=(min(4.2 * max(2, columns), 12.6), 2.8 * (2 * rows + 1)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2 * rows + 1, 2 * columns)
    for i, panel in enumerate(shown):
        mine = [line for line in lines if line.panel == panel]
        row, column = 2 * (i // columns), 2 * (i % columns)
        _means(figure.add_subplot(grid[row, column : column + 2]), panel, mine, colours)
        _curves(figure.add_subplot(grid[row + 1, column : column + 2]), panel, labels(outcomes, panel), colours)
    study.draw([figure.add_subplot(grid[-1, :columns]), figure.add_subplot(grid[-1, columns:])], outcomes, colours)
    return _png(figure)


def cost(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write what differs from run to run: cost.csv, and latency.png, accuracy against milliseconds for each panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown, colours = panels(outcomes), colours_of(outcomes)
    figure: Any = Figure(figsize=(4.2 * min(MOST, len(shown)), 3.2 * -(-len(shown) // MOST)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for i, panel in enumerate(shown):
        axis = figure.add_subplot(-(-len(shown) // MOST), min(MOST, len(shown)), i + 1)
        against(axis, labels(outcomes, panel), "latency", colours)
        axis.set_title(f"{panel}: accuracy against milliseconds an image", fontsize=9)
    with atomic.new_folder(folder) as working:
        (working / "cost.csv").write_text(summary.costs(outcomes), encoding="utf-8")
        (working / "latency.png").write_bytes(_png(figure))


def against(axis: Any, found: Mapping[str, Sequence[Outcome]], key: str, colours: Mapping[str, str]) -> None:
    """Draw the mean accuracy of each label against a cost of it, an attribute of its outcomes, of which the median is taken."""
    for label, group in found.items():
        accuracy = sum(outcome.accuracy for outcome in group) / len(group)
        value = statistics.median(getattr(outcome, key) for outcome in group)
        axis.plot([value], [accuracy], "o", color=colours[label])
        axis.annotate(label, (value, accuracy), fontsize=7, xytext=(4, 4), textcoords="offset points")
    axis.set_xscale("log")
    axis.xaxis.set_minor_formatter("")
    axis.margins(x=0.2, y=0.15)


def colours_of(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return a colour for each label."""
    names = list(dict.fromkeys(outcome.member.label for outcome in outcomes))
    return dict(zip(names, COLOURS * (len(names) // len(COLOURS) + 1), strict=False))


def _png(figure: Any) -> bytes:
    for axis in figure.axes:
        axis.tick_params(which="both", labelsize=7)
        axis.grid(alpha=0.25)
    made = io.BytesIO()
    figure.savefig(made, format="png", metadata={"Software": "darkroom study"})
    return _small(made.getvalue())


def _means(axis: Any, panel: str, lines: Sequence[Line], colours: dict[str, str]) -> None:
    for i, line in enumerate(lines):
        found = line.accuracy
        if found.low == found.low:
            axis.plot([max(found.low, 0), min(found.high, 1)], [i, i], color=colours[line.label], lw=3, alpha=0.5)
        axis.plot([found.value], [i], "o", color=colours[line.label], ms=4)
    axis.set_yticks(range(len(lines)), [line.label for line in lines], fontsize=7)
    axis.invert_yaxis()
    axis.set_title(f"{panel}: held-out accuracy, 95% interval", fontsize=9)


def _curves(axis: Any, panel: str, groups: dict[str, list[Outcome]], colours: dict[str, str]) -> None:
    for label, group in groups.items():
        points = mean_curve(group, "train_loss")
        if points:
            axis.plot(*zip(*points, strict=True), color=colours[label], lw=1.2)
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(low, min(high, 20.0) if low < 20 else high)
    axis.set_xlabel("step", fontsize=8)
    axis.set_title(f"{panel}: loss on training images", fontsize=9)


def _small(png: bytes) -> bytes:
    """Return a picture with 128 colours, which lines and letters need no more than; the rare ones among them too."""
    from PIL import Image

    made = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE).save(made, format="PNG", optimize=True)
    return made.getvalue()
