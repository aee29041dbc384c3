"""Learning curves as an SVG picture that takes its text colour from the page; a plotting library would take longer to import."""

from __future__ import annotations

import math
from html import escape

Points = list[tuple[float, float]]

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
WIDTH, HEIGHT = 430, 250  # of one chart
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 26, 34  # around its axes


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` + 1 round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if span / (factor * power) <= most)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from low to high; ordinary ticks where there would be fewer than two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    return found if len(found) > 1 else ticks(low, high, 4)


def chart(title: str, series: dict[str, Points], left: int, log: bool = False) -> str:
    """Return one chart as SVG elements, a line with its own colour for each series, over epochs."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [max(y, 1e-6) if log else y for points in series.values() for _, y in points]
    (x0, x1), (y0, y1) = _widened(min(xs), max(xs), 0), _widened(min(ys), max(ys), 0.04, log)

    def x_of(value: float) -> float:
        return left + LEFT + (value - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        share = math.log(max(value, 1e-6) / y0) / math.log(y1 / y0) if log else (value - y0) / (y1 - y0)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    made = [f'<text x="{left + WIDTH / 2:.0f}" y="15" text-anchor="middle" font-weight="bold">{escape(title)}</text>']
    made.append(f'<text x="{left + WIDTH / 2:.0f}" y="{HEIGHT - 3}" text-anchor="middle">epoch</text>')
    for value in log_ticks(y0, y1) if log else ticks(y0, y1):
        y = y_of(value)
        made.append(f'<line x1="{left + LEFT}" x2="{left + WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        made.append(f'<text x="{left + LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(x0, x1):
        if value == int(value):
            made.append(f'<text x="{x_of(value):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{value:g}</text>')
    for (name, points), colour in zip(series.items(), _endless(), strict=False):
        places = [(x_of(x), y_of(y)) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        hint = f"<title>{escape(name)}</title>"
        made.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8">{hint}</polyline>')
        if len(points) < 3:
            made += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}">{hint}</circle>' for x, y in places]
    return "\n".join(made)


def charts(shown: dict[str, dict[str, Points]]) -> str:
    """Return charts side by side as one SVG element with a legend; all have the same series. A loss has a logarithmic axis."""
    names = list(next(iter(shown.values()), {}))
    if not names:
        return ""
    columns = 3 if max(map(len, names)) <= 34 else 1
    rows = math.ceil(len(names) / columns)
    legend = []
    for number, (name, colour) in enumerate(zip(names, _endless(), strict=False)):
        x, y = LEFT + number % columns * 280, HEIGHT + 22 + number // columns * 18
        legend.append(f'<line x1="{x}" x2="{x + 18}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="3"/>')
        legend.append(f'<text x="{x + 24}" y="{y}">{escape(name)}</text>')
    drawn = [chart(title, series, i * WIDTH, log="loss" in title) for i, (title, series) in enumerate(shown.items())]
    body = "\n".join([*drawn, *legend])
    width, height = len(shown) * WIDTH, HEIGHT + 14 + rows * 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        'aria-label="learning curves" font-family="system-ui, sans-serif" font-size="11" fill="currentColor">\n'
        f"<style>.grid {{ stroke: currentColor; stroke-opacity: .2 }}</style>\n{body}\n</svg>"
    )


def _widened(low: float, high: float, margin: float, log: bool = False) -> tuple[float, float]:
    """Return a range with a margin on both sides that is never empty."""
    if log:
        factor = max((high / low) ** margin, 1.05)
        return low / factor, high * factor
    room = max((high - low) * margin, 0.5 if margin == 0 and high == low else 0.005 if margin else 0.0)
    return low - room, high + room


def _endless() -> list[str]:
    return list(COLOURS) * 20
