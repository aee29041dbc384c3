"""Charts as SVG and HTML in the colours of the page, and the palette of all pages and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from darkroom.core.axes import Axis, Scale, padded, short, tick_text
from darkroom.core.counts import counted

# `layout.html.j2` has a CSS variable for each colour, --series-0 and so on; pictures use the light ones
PALETTE = ("#c43b2a", "#1f6fb5", "#2c8a3a", "#8a56b8", "#a06a00", "#0b8f9c", "#b8478c", "#5d6b1f", "#7a4f35", "#77777d")
PALETTE_DARK = ("#e86854", "#6cb0ee", "#6cc47a", "#c39be8", "#dba63f", "#53c6d2", "#ec8cc6", "#b3bf5e", "#cf9d7b", "#a0a0a6")
NEUTRAL = len(PALETTE) - 1  # the grey of a series that others are compared with
WIDTH, HEIGHT = 300, 190  # of one chart
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 24, 30  # margins around its axes
CHARACTER, LINE = 6.2, 12  # about the width and the height of a character
TITLE_CHARACTER = 7  # at most, on average: titles are larger and bold
X_TICKS, Y_TICKS, Y_LOG_TICKS = 6, 5, 9  # about as many have room
FEW = 7  # a line of fewer points has a dot at each
TINY = 1e-6  # the least loss that is drawn on a logarithmic axis
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """Points (x, y), as a line through them, as dots or as rings, in the colour of that number of the palette.

    Another line on a `wide` one can be seen.
    """

    name: str
    points: Points
    colour: int
    style: Literal["line", "dots", "rings"] = "line"
    wide: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart as data: its title, its axes, and its series. Series may share a name and a colour."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]

    @property
    def is_labelled(self) -> bool:
        """Tell whether each series is one dot, so that its name has room beside it."""
        return all(series.style == "dots" and len(series.points) == 1 for series in self.series)

    @property
    def colours(self) -> dict[str, int]:
        """The colour of each name, for a key."""
        return {series.name: series.colour for series in self.series if series.points}


@dataclass(frozen=True)
class Dot:
    """A row of a dot plot: a value, its interval (None without one), whether it is highlighted, and its own colour."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    chosen: bool = False
    colour: int | None = None


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot: the mark drawn in it, its name, its place, and whether it is highlighted."""

    mark: str
    name: str
    x: float
    y: float
    chosen: bool = False


def dots(rows: Sequence[Dot], title: str, shares: bool = True) -> dict[str, Any]:
    """Return the values of the template's macro `dots`: rows with places in percent of an axis, and ticks.

    `shares` are written in percent. An interval is cut off where it would be four times as wide as all values
    together.
    """
    values = [row.value for row in rows] or [0.0, 1.0]
    edges = [*values, *(edge for row in rows for edge in (row.low, row.high) if edge is not None)]
    most = 4 * max(max(values) - min(values), 0.05)
    low, high = max(min(edges), min(values) - most), min(max(edges), max(values) + most)
    room = max(0.04 * (high - low), 0.004)
    low, high = low - room, high + room
    if shares:
        low, high = max(0.0, low), min(1.0 + room / 2, high)
    axis = Scale(low, high)

    def place(value: float) -> float:
        return round(100 * min(max(axis.position(value), 0.0), 1.0), 2)

    def text(value: float) -> str:
        return f"{value:.1%}" if shares else f"{value:.4g}"

    lines = []
    for row in rows:
        left, right = (row.value if edge is None else edge for edge in (row.low, row.high))
        interval = "" if row.low is None else f", {text(left)} to {text(right)}"
        lines.append({
            "name": row.name, "note": row.note, "chosen": row.chosen, "text": text(row.value), "at": place(row.value),
            "left": place(left), "width": round(place(right) - place(left), 2), "spoken": f"{row.name} {text(row.value)}{interval}",
            "colour": "" if row.colour is None else f"s{row.colour % len(PALETTE)}",
        })  # fmt: skip
    marks = [(value, f"{100 * value:g}%" if shares else f"{value:g}") for value in axis.ticks(5) if not shares or value <= 1]
    return {"title": title, "lines": lines, "ticks": [{"at": place(value), "text": label} for value, label in marks]}


class _Canvas:
    """An SVG chart as it is drawn: a title, axes, and elements at places of the axes."""

    def __init__(self, title: str, x: Scale, y: Scale, x_label: str) -> None:
        self.title, self.x, self.y = title, x, y
        room = WIDTH - LEFT
        squeezed = f' textLength="{room}" lengthAdjust="spacingAndGlyphs"' if len(title) * TITLE_CHARACTER > room else ""
        self.elements = [
            f'<text x="{LEFT}" y="14" class="title"{squeezed}>{escape(title)}</text>',
            f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end" class="axis">{escape(x_label)}</text>',
        ]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixels of a point."""
        across, up = self.x.position(x), self.y.position(y)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def grid(self, x: Mapping[float, str], y: Mapping[float, str]) -> None:
        """Label values of both axes, those of y with a line."""
        for value, label in y.items():
            at = self.place(self.x.low, value)[1]
            self.elements.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="level"/>')
            self.elements.append(f'<text x="{LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{label}</text>')
        free = 0.0  # from where on there is room
        for value, label in x.items():
            half = CHARACTER * len(label) / 2
            at = min(self.place(value, self.y.low)[0], WIDTH - half)
            if at - half >= free:
                self.elements.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{escape(label)}</text>')
                free = at + half

    def label(self, names: Mapping[str, tuple[float, float]]) -> None:
        """Write each name beside its pixel, or none where it would cover another name or pixel."""
        occupied = [(x - 5, y - 5, x + 5, y + 5) for x, y in names.values()]
        for name, (x, y) in names.items():
            width = CHARACTER * len(name)
            for left, top in ((x + 6, y - 6), (x - 6 - width, y - 6), (x - width / 2, y - 18), (x - width / 2, y + 6)):
                right, bottom = left + width, top + LINE
                inside = left >= LEFT and right <= WIDTH and top >= TOP and bottom <= HEIGHT - BOTTOM
                if inside and all(right < a or c < left or bottom < b or d < top for a, b, c, d in occupied):
                    occupied.append((left, top, right, bottom))
                    self.elements.append(f'<text x="{left:.1f}" y="{bottom - 2.5:.1f}">{escape(name)}</text>')
                    break

    def svg(self, descriptions: Sequence[str]) -> str:
        """Return the SVG element; `descriptions` are read out instead of it."""
        spoken = escape(f"{self.title}: {'; '.join(descriptions)}")
        body = "".join(self.elements)
        size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        return f'<svg {size} role="img" aria-label="{spoken}">{body}</svg>'


def draw(chart: Chart) -> str:
    """Return a chart as SVG; an empty text if it has no points."""
    places = [point for series in chart.series for point in series.points]
    if not places:
        return ""
    xs, ys = zip(*places, strict=True)
    is_line = all(series.style == "line" for series in chart.series) and not chart.x.ticks
    x = Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, chart.x.log) if is_line else padded(xs, chart.x)
    canvas = _Canvas(chart.title, x, padded(ys, chart.y), chart.x.label)
    is_integral = all(value == int(value) for value in xs)
    marks = chart.x.ticks or {v: tick_text(v, chart.x.shares) for v in x.ticks(X_TICKS) if v == int(v) or not is_integral}
    levels = canvas.y.ticks(Y_LOG_TICKS if chart.y.log else Y_TICKS)
    canvas.grid(marks, {y: tick_text(y, chart.y.shares) for y in levels if y <= 1 or not chart.y.shares})
    spoken = [_draw_series(canvas, series, chart) for series in chart.series if series.points]
    if chart.is_labelled:
        canvas.label({series.name: canvas.place(*series.points[0]) for series in chart.series})
    return canvas.svg(spoken)


def _draw_series(canvas: _Canvas, series: Series, chart: Chart) -> str:
    """Draw a series; return it in words."""
    colour, points, hint = f"s{series.colour % len(PALETTE)}", series.points, series.name
    first, last = (f"{y:.1%}" if chart.y.shares else f"{y:.3g}" for y in (points[0][1], points[-1][1]))
    spoken = f"{series.name} from {first} to {last}"
    if series.style != "line" and len(points) == 1:
        spoken = hint = f"{series.name}: {first} at {short(points[0][0])} {chart.x.label}"
    title, places = f"<title>{escape(hint)}</title>", [canvas.place(x, y) for x, y in points]
    if series.style == "line":
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        canvas.elements.append(f'<polyline class="{colour}{" wide" if series.wide else ""}" points="{path}">{title}</polyline>')
    if series.style != "line" or len(points) < FEW:
        kind, radius = f"{colour} ring" if series.style == "rings" else colour, 2.6 if series.style == "line" else 3.4
        canvas.elements += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>' for x, y in places]
    return spoken


def lines(
    title: str,
    series: Mapping[str, Points],
    x_label: str,
    colours: Mapping[str, int],
    shares: bool = True,
    log: bool = False,
    floor: float | None = None,
) -> str:
    """Return a line for each series of (x, y), in the colour of that number of the palette.

    `shares` are written in percent. With a `floor` the y axis goes from there to 1.
    """
    drawn = [
        Series(name, [(x, max(y, TINY) if log else y) for x, y in points], colours[name]) for name, points in series.items()
    ]  # fmt: skip
    return draw(Chart(title, Axis(x_label), Axis(log=log, shares=shares, floor=floor), drawn))


def reliability(title: str, bins: Sequence[Any]) -> str:
    """Return accuracy over confidence, and the diagonal: a bar per bin with images, as solid as it has many.

    A bin has the attributes `low`, `high`, `count`, `confidence` and `accuracy`.
    """
    chart = _Canvas(title, Scale(0, 1), Scale(0, 1), "confidence")
    quarters = {value: f"{value:.0%}" for value in (0, 0.25, 0.5, 0.75, 1)}
    chart.grid(quarters, quarters)
    filled = [item for item in bins if item.count]
    most = max((item.count for item in filled), default=1)
    for item in filled:
        (left, top), (right, bottom) = chart.place(item.low, item.accuracy), chart.place(item.high, 0)
        opacity = 0.25 + 0.75 * math.sqrt(item.count / most)
        hint = f"{counted(item.count, 'image')}, mean confidence {item.confidence:.1%}, {item.accuracy:.1%} right"
        chart.elements.append(
            f'<rect class="fill" x="{left + 0.5:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" '
            f'height="{max(bottom - top, 0.8):.1f}" fill-opacity="{opacity:.2f}"><title>{hint}</title></rect>'
        )
    (x1, y1), (x2, y2) = chart.place(0, 0), chart.place(1, 1)
    chart.elements.append(f'<line class="trust" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    return chart.svg([f"{item.confidence:.0%} sure, {item.accuracy:.0%} right" for item in filled])


def scatter(title: str, x_label: str, points: Sequence[Point]) -> str:
    """Return shares (y) over a cost (x > 0, others are left out) on a logarithmic axis."""
    drawn = [point for point in points if point.x > 0]
    if not drawn:
        return ""
    costs, shares = [point.x for point in drawn], [point.y for point in drawn]
    y_axis = padded(shares, Axis(shares=True))
    room = 0.04 * (y_axis.high - y_axis.low)
    chart = _Canvas(
        title, Scale(min(costs) / 1.35, max(costs) * 1.35, log=True), Scale(y_axis.low - room, y_axis.high + room), x_label
    )
    chart.grid({x: short(x) for x in chart.x.ticks(X_TICKS)}, {y: f"{100 * y:g}%" for y in chart.y.ticks(4) if y <= 1})
    for point in sorted(drawn, key=lambda point: point.chosen):
        x, y = chart.place(point.x, point.y)
        hint = f"<title>{escape(point.name)}: {point.y:.1%}, {short(point.x)} {escape(x_label)}</title>"
        chart.elements.append(
            f'<g class="{"mark chosen" if point.chosen else "mark"}"><circle cx="{x:.1f}" cy="{y:.1f}" r="8.5"/>'
            f'<text x="{x:.1f}" y="{y + 3.6:.1f}" text-anchor="middle">{escape(point.mark)}</text>{hint}</g>'
        )
    return chart.svg([f"{point.name} {point.y:.1%} at {short(point.x)} {x_label}" for point in drawn])
