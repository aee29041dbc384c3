"""Small pictures for the report, SVG and HTML that take their colours from the page: light, dark and print are one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from darkroom.evaluation.curves import log_ticks, ticks

WIDTH, HEIGHT = 300, 190  # of one of several pictures side by side
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 24, 30  # around its axes
SERIES = 8  # colours of the style sheet, --series-0 and so on


@dataclass(frozen=True)
class Dot:
    """A line of a dot plot: a share, its interval where it has one, and whether it is to be noticed."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    chosen: bool = False


def dots(found: Sequence[Dot], title: str) -> dict[str, Any]:
    """Return what the template draws: lines with places in percent of an axis that holds all values and intervals, and ticks."""
    edges = [edge for dot in found for edge in (dot.value, dot.low, dot.high) if edge is not None]
    low, high = min(edges, default=0.0), max(edges, default=1.0)
    room = max(0.04 * (high - low), 0.004)
    low, high = max(0.0, low - room), min(1.0 + room / 2, high + room)

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    lines = []
    for dot in found:
        left, right = (dot.value if edge is None else edge for edge in (dot.low, dot.high))
        lines.append({
            "name": dot.name, "note": dot.note, "chosen": dot.chosen, "text": f"{dot.value:.1%}", "at": place(dot.value),
            "left": place(left), "width": round(place(right) - place(left), 2),
            "spoken": f"{dot.name} {dot.value:.1%}" + ("" if dot.low is None else f", {left:.1%} to {right:.1%}"),
        })  # fmt: skip
    marks = [{"at": place(value), "text": f"{100 * value:g}%"} for value in ticks(low, high, 5) if value <= 1]
    return {"title": title, "lines": lines, "ticks": marks}


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x: str,
    colours: Mapping[str, int],
    shares: bool = True,
    log: bool = False,
    floor: float | None = None,
) -> str:
    """Return a chart with a line for each series, in the colour of that number; `shares` are written in percent."""
    xs = [at for points in series.values() for at, _ in points]
    ys = [max(value, 1e-6) if log else value for points in series.values() for _, value in points]
    if not xs:
        return ""
    x0, x1 = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    y0, y1 = _axis(min(ys), max(ys), log, shares)
    if floor is not None:
        y0, y1 = floor, 1.0

    def place(at: float, value: float) -> tuple[float, float]:
        share = math.log(max(value, 1e-6) / y0) / math.log(y1 / y0) if log else (value - y0) / (y1 - y0)
        return LEFT + (at - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    made = [f'<text x="{LEFT}" y="14" class="title">{escape(title)}</text>']
    for value in log_ticks(y0, y1) if log else ticks(y0, y1, 5):
        made += _level(place(x0, value)[1], f"{100 * value:g}%" if shares else f"{value:g}")
    for at in ticks(x0, x1, 6):
        if at == int(at):
            made.append(f'<text x="{place(at, y0 or 1)[0]:.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{at:g}</text>')
    made.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end" class="axis">{escape(x)}</text>')
    for name, points in series.items():
        colour, hint = f"s{colours[name] % SERIES}", f"<title>{escape(name)}</title>"
        places = [place(at, value) for at, value in points]
        made.append(f'<polyline class="{colour}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in places)}">{hint}</polyline>')
        if len(points) < 7:
            made += [f'<circle class="{colour}" cx="{a:.1f}" cy="{b:.1f}" r="2.6">{hint}</circle>' for a, b in places]
    return _svg(made, title + ": " + "; ".join(_told(name, points, shares) for name, points in series.items()))


def reliability(title: str, bins: Sequence[Mapping[str, Any]]) -> str:
    """Return accuracy over confidence, a bar for each interval that has images, as solid as it has many, and the line of trust."""

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)

    most = max((found["count"] for found in bins), default=1) or 1
    made = [f'<text x="{LEFT}" y="14" class="title">{escape(title)}</text>']
    for value in (0, 0.25, 0.5, 0.75, 1):
        made += _level(place(0, value)[1], f"{value:.0%}")
        made.append(f'<text x="{place(value, 0)[0]:.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{value:.0%}</text>')
    for found in bins:
        if not found["count"]:
            continue
        (left, top), (right, bottom) = place(found["low"], found["accuracy"]), place(found["high"], 0)
        solid = 0.25 + 0.75 * math.sqrt(found["count"] / most)
        hint = f"{found['count']} images, mean confidence {found['confidence']:.1%}, {found['accuracy']:.1%} right"
        made.append(
            f'<rect class="fill" x="{left + 0.5:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" '
            f'height="{max(bottom - top, 0.8):.1f}" fill-opacity="{solid:.2f}"><title>{hint}</title></rect>'
        )
    (a, b), (c, d) = place(0, 0), place(1, 1)
    made.append(f'<line class="trust" x1="{a}" y1="{b}" x2="{c}" y2="{d}"/>')
    made.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end" class="axis">confidence</text>')
    told = (f"{found['confidence']:.0%} sure, {found['accuracy']:.0%} right" for found in bins if found["count"])
    return _svg(made, f"{title}: {'; '.join(told)}")


def scatter(title: str, x: str, points: Sequence[tuple[str, str, float, float, bool]]) -> str:
    """Return accuracy over a cost on a logarithmic axis; a point is (mark, name, cost, accuracy, chosen)."""
    known = [point for point in points if point[2] > 0]
    if not known:
        return ""
    costs, shares = [point[2] for point in known], [point[3] for point in known]
    x0, x1 = min(costs) / 1.35, max(costs) * 1.35
    y0, y1 = _axis(min(shares), max(shares), False, True)
    y0, y1 = y0 - 0.04 * (y1 - y0), y1 + 0.04 * (y1 - y0)

    def place(cost: float, share: float) -> tuple[float, float]:
        across = math.log(cost / x0) / math.log(x1 / x0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - (share - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    made = [f'<text x="{LEFT}" y="14" class="title">{escape(title)}</text>']
    for value in ticks(y0, y1, 4):
        if value <= 1:
            made += _level(place(x0, value)[1], f"{100 * value:g}%")
    marks = log_ticks(x0, x1)
    while len(marks) > 6:
        marks = marks[::2]
    for value in marks:
        at = place(value, y0)[0]
        made.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{short(value)}</text>')
    made.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end" class="axis">{escape(x)}</text>')
    for mark, name, cost, share, chosen in sorted(known, key=lambda point: point[4]):
        a, b = place(cost, share)
        hint = f"<title>{escape(name)}: {share:.1%}, {short(cost)} {escape(x)}</title>"
        made.append(f'<g class="{"mark chosen" if chosen else "mark"}"><circle cx="{a:.1f}" cy="{b:.1f}" r="8.5"/>')
        made.append(f'<text x="{a:.1f}" y="{b + 3.6:.1f}" text-anchor="middle">{escape(mark)}</text>{hint}</g>')
    return _svg(made, title + ": " + "; ".join(f"{name} {share:.1%} at {short(cost)} {x}" for _, name, cost, share, _ in known))


def short(value: float) -> str:
    """Return a number with two or three digits and a unit: 1.2k, 34M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _axis(low: float, high: float, log: bool, shares: bool) -> tuple[float, float]:
    """Return a range around the values that is never empty."""
    if log:
        factor = max((high / low) ** 0.05, 1.05)
        return low / factor, high * factor
    room = max(0.05 * (high - low), 0.005)
    return (max(low - room, 0.0), min(high + room, 1.0) if high < 1 else 1.0 + room / 2) if shares else (low - room, high + room)


def _level(y: float, text: str) -> list[str]:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="level"/>'
    return [line, f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>']


def _told(name: str, points: Sequence[tuple[float, float]], shares: bool) -> str:
    first, last = (f"{value:.1%}" if shares else f"{value:.3g}" for value in (points[0][1], points[-1][1]))
    return f"{name} from {first} to {last}"


def _svg(made: list[str], told: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(told)}">'
        + "".join(made)
        + "</svg>"
    )
