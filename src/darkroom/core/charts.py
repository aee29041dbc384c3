"""Charts as SVG and HTML in the colours of the page, and the palette of all pages and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

# `layout.html.j2` has a CSS variable for each colour, --series-0 and so on; pictures use the light ones
PALETTE = ("#c43b2a", "#1f6fb5", "#2c8a3a", "#8a56b8", "#a06a00", "#0b8f9c", "#b8478c", "#5d6b1f", "#7a4f35", "#77777d")
PALETTE_DARK = ("#e86854", "#6cb0ee", "#6cc47a", "#c39be8", "#dba63f", "#53c6d2", "#ec8cc6", "#b3bf5e", "#cf9d7b", "#a0a0a6")
NEUTRAL = len(PALETTE) - 1  # the grey of a series that others are compared with
WIDTH, HEIGHT = 300, 190  # of one chart
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 24, 30  # margins around its axes
TINY = 1e-6  # the least value on a logarithmic axis
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Dot:
    """A row of a dot plot: a value, its interval (None without one), and whether it is highlighted."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot: the mark drawn in it, its name, its place, and whether it is highlighted."""

    mark: str
    name: str
    x: float
    y: float
    chosen: bool = False


@dataclass(frozen=True)
class Scale:
    """One axis, linear or logarithmic, from `low` to `high`."""

    low: float
    high: float
    log: bool = False

    def position(self, value: float) -> float:
        """Return where a value is on the axis, 0 at `low` and 1 at `high`."""
        if self.log:
            return math.log(max(value, TINY) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """Return round numbers within the axis."""
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, most)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` + 1 round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= most)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from low to high; linear ticks if there are fewer than two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    return values if len(values) > 1 else ticks(low, high, 4)


def short(value: float) -> str:
    """Return a number with three significant digits and a unit: 1.2k, 34M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


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
        })  # fmt: skip
    marks = [(value, f"{100 * value:g}%" if shares else f"{value:g}") for value in axis.ticks(5) if not shares or value <= 1]
    return {"title": title, "lines": lines, "ticks": [{"at": place(value), "text": label} for value, label in marks]}


class _Chart:
    """An SVG chart: a title, axes, and elements at places of the axes."""

    def __init__(self, title: str, x: Scale, y: Scale, x_label: str) -> None:
        self.title, self.x, self.y = title, x, y
        self.elements = [
            f'<text x="{LEFT}" y="14" class="title">{escape(title)}</text>',
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
        for value, label in x.items():
            at = self.place(value, self.y.low)[0]
            self.elements.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{label}</text>')

    def svg(self, descriptions: Sequence[str]) -> str:
        """Return the SVG element; `descriptions` are read out instead of it."""
        spoken = escape(f"{self.title}: {'; '.join(descriptions)}")
        body = "".join(self.elements)
        size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        return f'<svg {size} role="img" aria-label="{spoken}">{body}</svg>'


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
    xs = [x for points in series.values() for x, _ in points]
    if not xs:
        return ""
    ys = [max(y, TINY) if log else y for points in series.values() for _, y in points]
    y_axis = _padded(min(ys), max(ys), log, shares) if floor is None else Scale(floor, 1.0)
    chart = _Chart(title, Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1), y_axis, x_label)
    chart.grid(
        {x: f"{x:g}" for x in chart.x.ticks(6) if x == int(x)},
        {y: f"{100 * y:g}%" if shares else f"{y:g}" for y in y_axis.ticks(5)},
    )
    spoken = []
    for name, points in series.items():
        colour, hint = f"s{colours[name] % len(PALETTE)}", f"<title>{escape(name)}</title>"
        places = [chart.place(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        chart.elements.append(f'<polyline class="{colour}" points="{path}">{hint}</polyline>')
        if len(points) < 7:
            chart.elements += [f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.6">{hint}</circle>' for x, y in places]
        first, last = (f"{y:.1%}" if shares else f"{y:.3g}" for y in (points[0][1], points[-1][1]))
        spoken.append(f"{name} from {first} to {last}")
    return chart.svg(spoken)


def reliability(title: str, bins: Sequence[Any]) -> str:
    """Return accuracy over confidence, and the diagonal: a bar per bin with images, as solid as it has many.

    A bin has the attributes `low`, `high`, `count`, `confidence` and `accuracy`.
    """
    chart = _Chart(title, Scale(0, 1), Scale(0, 1), "confidence")
    quarters = {value: f"{value:.0%}" for value in (0, 0.25, 0.5, 0.75, 1)}
    chart.grid(quarters, quarters)
    filled = [item for item in bins if item.count]
    most = max((item.count for item in filled), default=1)
    for item in filled:
        (left, top), (right, bottom) = chart.place(item.low, item.accuracy), chart.place(item.high, 0)
        opacity = 0.25 + 0.75 * math.sqrt(item.count / most)
        hint = f"{item.count} images, mean confidence {item.confidence:.1%}, {item.accuracy:.1%} right"
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
    y_axis = _padded(min(shares), max(shares), False, True)
    room = 0.04 * (y_axis.high - y_axis.low)
    chart = _Chart(
        title, Scale(min(costs) / 1.35, max(costs) * 1.35, log=True), Scale(y_axis.low - room, y_axis.high + room), x_label
    )
    marks = chart.x.ticks(6)
    while len(marks) > 6:
        marks = marks[::2]
    chart.grid({x: short(x) for x in marks}, {y: f"{100 * y:g}%" for y in chart.y.ticks(4) if y <= 1})
    for point in sorted(drawn, key=lambda point: point.chosen):
        x, y = chart.place(point.x, point.y)
        hint = f"<title>{escape(point.name)}: {point.y:.1%}, {short(point.x)} {escape(x_label)}</title>"
        chart.elements.append(
            f'<g class="{"mark chosen" if point.chosen else "mark"}"><circle cx="{x:.1f}" cy="{y:.1f}" r="8.5"/>'
            f'<text x="{x:.1f}" y="{y + 3.6:.1f}" text-anchor="middle">{escape(point.mark)}</text>{hint}</g>'
        )
    return chart.svg([f"{point.name} {point.y:.1%} at {short(point.x)} {x_label}" for point in drawn])


def _padded(low: float, high: float, log: bool, shares: bool) -> Scale:
    """Return an axis around the values that is never empty."""
    if log:
        factor = max((high / low) ** 0.05, 1.05)
        return Scale(low / factor, high * factor, log=True)
    room = max(0.05 * (high - low), 0.005)
    if not shares:
        return Scale(low - room, high + room)
    return Scale(max(low - room, 0.0), min(high + room, 1.0) if high < 1 else 1.0 + room / 2)
