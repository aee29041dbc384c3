"""Runs that differ in their params, each group over its seeds: means with intervals, differences from the first, their p-values.

A difference is paired over seeds where both groups have the same ones (Student 1908), otherwise Welch's (1947). p-values are
corrected for the number of comparisons (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import numpy as np

LEVEL = 0.95
SAME = 1e-9  # below which share of a value its spread is rounding
NAMED = 5  # params in the name of a group, at most
SEED = "seed"  # what a param's key is called whose value must not matter
COSTS = ("duration_seconds", "parameters")
Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Trial:
    """One run: its params, its metrics, and when it started, in seconds since 1970."""

    id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    started: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, and the interval that holds it with `LEVEL` certainty: NaN where there is one run."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds, and how they compare with the first group.

    `p` is corrected; both it and `difference` are None for the first group, `p` is NaN where there are too few runs.
    """

    label: str
    runs: list[str] = field(repr=False)
    mean: Estimate
    seconds: float
    parameters: float
    difference: Estimate | None = None
    p: float | None = None
    paired: bool = False


def groups(trials: Sequence[Trial], metric: str, first: str = "") -> list[Group]:
    """Return the groups of these runs, the first one being that whose label contains `first`, else the oldest.

    Of runs that have the same seeds as well the newest counts: they are copies. Labels say what differs between groups.
    """
    split: dict[tuple[tuple[str, str], ...], dict[tuple[tuple[str, str], ...], Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.started):
        seeds = tuple(sorted((key, value) for key, value in trial.params.items() if _is_seed(key)))
        what = tuple(sorted((key, value) for key, value in trial.params.items() if not _is_seed(key)))
        split.setdefault(what, {})[seeds] = trial
    labels = _labels([dict(what) for what in split])
    order = sorted(range(len(labels)), key=lambda i: not (first and first in labels[i]))
    members = [list(split.values())[i] for i in order]
    values = [{seeds: trial.metrics[metric] for seeds, trial in group.items()} for group in members]
    compared = [against(values[0], other) for other in values[1:]]
    corrected = holm([p for _, p, _ in compared])
    found = []
    for place, (i, group) in enumerate(zip(order, members, strict=True)):
        seconds, parameters = (_mean([trial.metrics[key] for trial in group.values() if key in trial.metrics]) for key in COSTS)
        made = Group(
            labels[i], [trial.id for trial in group.values()], mean(list(values[place].values())), seconds, parameters
        )  # fmt: skip
        if place:
            difference, _, paired = compared[place - 1]
            made = replace(made, difference=difference, p=corrected[place - 1], paired=paired)
        found.append(made)
    return found


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean of values and Student's interval for it."""
    made = np.asarray(values, np.float64)
    if len(made) < 2:
        return Estimate(_mean(values))
    return _interval(float(made.mean()), float(made.std(ddof=1)) / math.sqrt(len(made)), len(made) - 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979); those that are NaN stay so and do not count."""
    real = sorted((p, i) for i, p in enumerate(ps) if not math.isnan(p))
    found, least = list(ps), 0.0
    for rank, (p, i) in enumerate(real):
        least = max(least, min(1.0, p * (len(real) - rank)))
        found[i] = least
    return found


def against(first: Mapping[Any, float], other: Mapping[Any, float]) -> tuple[Estimate, float, bool]:
    """Return the difference of the second group from the first, its p-value, and whether it is paired over seeds."""
    both = [seeds for seeds in first if seeds in other]
    one, two = np.array(list(first.values())), np.array(list(other.values()))
    if len(both) == len(first) == len(other) and len(both) > 1:
        apart = np.array([other[seeds] - first[seeds] for seeds in both])
        centre, error, freedom = float(apart.mean()), float(apart.std(ddof=1)) / math.sqrt(len(apart)), len(apart) - 1.0
        return _interval(centre, error, freedom), _p(centre, error, freedom), True
    centre = float(two.mean() - one.mean())
    if min(len(one), len(two)) < 2:
        return Estimate(centre), math.nan, False
    shares = [float(values.var(ddof=1)) / len(values) for values in (one, two)]
    error = math.sqrt(sum(shares))
    freedom = (
        error**4 / sum(share**2 / (len(values) - 1) for share, values in zip(shares, (one, two), strict=True)) if error else 1.0
    )
    return _interval(centre, error, freedom), _p(centre, error, freedom), False


def _interval(centre: float, error: float, freedom: float) -> Estimate:
    from scipy.special import stdtrit

    if centre and error <= SAME * abs(centre):
        return Estimate(centre)
    room = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * error
    return Estimate(centre, centre - room, centre + room)


def _p(centre: float, error: float, freedom: float) -> float:
    from scipy.special import stdtr

    if error <= SAME * abs(centre):  # the same difference for every seed says nothing about its spread
        return math.nan if centre else 1.0
    return float(2 * stdtr(freedom, -abs(centre) / error))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _is_seed(key: str) -> bool:
    return key.rpartition(".")[2] == SEED


def _labels(params: list[dict[str, str]]) -> list[str]:
    """Name each group by its stage and backbone, and by those of its params in which groups of that name differ.

    No two groups have the same name. A run of an older Darkroom, which recorded fewer params, is named as such.
    """
    names = [_stage(item) for item in params]
    made: list[str] = []
    bare: list[str] = []
    for name, mine in zip(names, params, strict=True):
        same = [other for other_name, other in zip(names, params, strict=True) if other_name == name]
        every = sorted({key for other in same for key in other})
        differ = [key for key in every if key in mine and len({other[key] for other in same if key in other}) > 1]
        parts = [f"{key}={mine[key]}" for key in differ[:NAMED]] + [f"and {len(differ) - NAMED} more"] * (len(differ) > NAMED)
        missing = sum(key not in mine for key in every)
        parts += [f"{missing} param{'s' if missing > 1 else ''} not recorded"] * (missing > 0)
        label = ", ".join([name, *parts])
        bare.append(label)
        made.append(label if bare.count(label) == 1 else f"{label} ({bare.count(label)})")
    return made


def _stage(params: dict[str, str]) -> str:
    """Return what DVC calls the stage; the baseline has a network of its own."""
    stage, backbone = params.get("stage", "run"), params.get("backbone")
    return f"{stage}@{backbone}" if backbone and stage != "baseline" else stage


def table(found: list[Group], metric: str) -> str:
    """Return the groups for a terminal."""
    lines = [["", "runs", metric, "95% interval", "from the first", "95% interval", "p (Holm)", "seconds", "parameters"]]
    lines += _cells(found)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "─" * max(map(len, text)))
    return "\n".join(text)


def _cells(found: list[Group]) -> list[list[str]]:
    rows = []
    for group in found:
        apart = group.difference
        change = [f"{apart.value:+.4f}", _range(apart, "+")] if apart else ["", ""]
        p = "" if group.p is None or math.isnan(group.p) else f"{group.p:.3f}" if group.p >= 0.001 else "< 0.001"
        rows.append([
            group.label, str(len(group.runs)), f"{group.mean.value:.4f}", _range(group.mean), *change,
            p + (" paired" if p and group.paired else ""), _number(group.seconds, ".1f"), _number(group.parameters, ",.0f"),
        ])  # fmt: skip
    return rows


def columns(found: list[Group], metric: str) -> tuple[list[str], list[list[Any]]]:
    """Return the groups as a table of numbers: the names of its columns, and its rows."""
    names = ["group", "runs", metric, "low", "high", "difference", "difference_low", "difference_high", "p_holm", "paired", *COSTS]
    rows = []
    for group in found:
        apart = group.difference or Estimate(math.nan)
        numbers = [group.mean.value, group.mean.low, group.mean.high, apart.value, apart.low, apart.high]
        numbers += [math.nan if group.p is None else group.p]
        shown: list[Any] = [None if math.isnan(number) else number for number in numbers]
        costs = [None if math.isnan(number) else number for number in (group.seconds, group.parameters)]
        rows.append([group.label, len(group.runs), *shown, group.paired, *costs])
    return names, rows


def _range(found: Estimate, sign: str = "") -> str:
    if math.isnan(found.low):
        return "" if sign else "none"
    return f"{found.low:{sign}.4f} … {found.high:{sign}.4f}"


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def page(found: list[Group], metric: str, curves: Mapping[str, Mapping[str, Curve]], seeds: int) -> str:
    """Return a page with the table, the means with their intervals, and the learning curves (`{metric: {label: curve}}`)."""
    from darkroom.core import pages
    from darkroom.evaluation import curves as drawn

    return pages.render(
        "evaluation/report", "seed_comparison.html.j2",
        source=metric, metric=metric, rows=_cells(found), seeds=seeds, plot=intervals(found),
        curves=drawn.charts({title: dict(lines) for title, lines in curves.items()}), count=len(found),
    )  # fmt: skip


def intervals(found: list[Group]) -> str:
    """Return the means and their intervals as an SVG picture, a line for each group."""
    from darkroom.evaluation import curves as drawn

    means = [group.mean.value for group in found]
    edges = [edge for group in found for edge in (group.mean.value, group.mean.low, group.mean.high) if not math.isnan(edge)]
    span = max(max(means) - min(means), 0.05)  # the interval of two runs can be wider than any axis that shows something
    room = max((max(edges) - min(edges)) * 0.05, 1e-3)
    low, high = max(min(edges) - room, min(means) - 2 * span), min(max(edges) + room, max(means) + 2 * span)
    left = min(420, 16 + 6.4 * max(len(group.label) for group in found))
    width, height = left + 460, 26 * len(found) + 34

    def x_of(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * 440

    made = []
    for value in drawn.ticks(low, high, 6):
        x = x_of(value)
        made.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height - 24}" class="grid"/>')
        made.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{value:g}</text>')
    for number, group in enumerate(found):
        y, shown = 20 + 26 * number, group.mean
        made.append(f'<text x="{left - 10:.0f}" y="{y + 4}" text-anchor="end">{escape(_short(group.label))}</text>')
        if not math.isnan(shown.low):
            made.append(f'<line x1="{x_of(shown.low):.1f}" x2="{x_of(shown.high):.1f}" y1="{y}" y2="{y}" class="bar"/>')
        made.append(
            f'<circle cx="{x_of(shown.value):.1f}" cy="{y}" r="4.5" class="dot"><title>{escape(group.label)}</title></circle>'
        )
    style = ".grid { stroke: currentColor; stroke-opacity: .2 } .bar { stroke: #1f77b4; stroke-width: 3 } .dot { fill: #1f77b4 }"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img" '
        'aria-label="means and intervals" font-family="system-ui, sans-serif" font-size="11" fill="currentColor">\n'
        f"<style>{style}</style>\n" + "\n".join(made) + "\n</svg>"
    )


def _short(label: str, most: int = 62) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"
