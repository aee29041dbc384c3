"""Comparison of runs of different params over seeds: means, differences from the first, p-values.

A difference is paired over seeds where both groups have the same ones (Student 1908), otherwise Welch's
(1947). p-values are corrected for the number of comparisons (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from darkroom.core import charts, pages
from darkroom.evaluation.significance import LEVEL, holm

ROUNDING = 1e-9  # a spread below this share of the value is rounding
MOST_NAMED = 5  # params in the name of a group
SEED = "seed"  # the last part of the key of a param whose value does not separate groups
COSTS = ("duration_seconds", "parameters")
Curve = list[tuple[float, float]]
Items = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Trial:
    """One run: its params, its metrics, and when it started, in seconds since 1970."""

    id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    started: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, and its interval at confidence `LEVEL`: NaN for one run."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seeds, and their comparison with the first group.

    `p` is corrected. Both `p` and `difference` are None for the first group; `p` is NaN where there are too
    few runs.
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
    """Return the groups of these runs; the first is the one whose label contains `first`, else the oldest.

    Of runs with the same params and seeds the newest counts. Labels have the params in which groups differ.
    """
    by_params: dict[Items, dict[Items, Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.started):
        seeds = tuple(sorted((key, value) for key, value in trial.params.items() if _is_seed(key)))
        params = tuple(sorted((key, value) for key, value in trial.params.items() if not _is_seed(key)))
        by_params.setdefault(params, {})[seeds] = trial
    labelled = list(zip(_labels([dict(params) for params in by_params]), by_params.values(), strict=True))
    labelled.sort(key=lambda item: not (first and first in item[0]))
    values = [{seeds: trial.metrics[metric] for seeds, trial in members.items()} for _, members in labelled]
    compared = [against(values[0], other) for other in values[1:]]
    corrected = holm([p for _, p, _ in compared])
    grouped = []
    for place, (label, members) in enumerate(labelled):
        seconds, parameters = (_mean([trial.metrics[key] for trial in members.values() if key in trial.metrics]) for key in COSTS)
        group = Group(
            label,
            [trial.id for trial in members.values()],
            mean(list(values[place].values()), "loss" not in metric),
            seconds,
            parameters,
        )
        if place:
            difference, _, is_paired = compared[place - 1]
            group = replace(group, difference=difference, p=corrected[place - 1], paired=is_paired)
        grouped.append(group)
    return grouped


def mean(values: Sequence[float], is_share: bool = False) -> Estimate:
    """Return the mean of values and Student's interval for it; that of shares, such as accuracies, ends at 0 and 1."""
    numbers = np.asarray(values, np.float64)
    if len(numbers) < 2:
        return Estimate(_mean(values))
    estimate = _interval(float(numbers.mean()), float(numbers.std(ddof=1)) / math.sqrt(len(numbers)), len(numbers) - 1)
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high)) if is_share else estimate


def against(first: Mapping[Any, float], other: Mapping[Any, float]) -> tuple[Estimate, float, bool]:
    """Return the difference of the second group from the first, its p-value, and whether seeds are paired."""
    if first.keys() == other.keys() and len(first) > 1:
        differences = np.array([other[seeds] - first[seeds] for seeds in first])
        centre, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences))
        freedom = len(differences) - 1.0
        return _interval(centre, error, freedom), _p(centre, error, freedom), True
    one, two = np.array(list(first.values())), np.array(list(other.values()))
    centre = float(two.mean() - one.mean())
    if min(len(one), len(two)) < 2:
        return Estimate(centre), math.nan, False
    shares = [float(values.var(ddof=1)) / len(values) for values in (one, two)]
    error = math.sqrt(sum(shares))
    weights = sum(share**2 / (len(values) - 1) for share, values in zip(shares, (one, two), strict=True))
    freedom = error**4 / weights if error else 1.0
    return _interval(centre, error, freedom), _p(centre, error, freedom), False


def _interval(centre: float, error: float, freedom: float) -> Estimate:
    if centre and error <= ROUNDING * abs(centre):
        return Estimate(centre)
    room = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * error
    return Estimate(centre, centre - room, centre + room)


def _p(centre: float, error: float, freedom: float) -> float:
    if error <= ROUNDING * abs(centre):  # the same difference for every seed does not estimate its spread
        return math.nan if centre else 1.0
    return float(2 * stdtr(freedom, -abs(centre) / error))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _is_seed(key: str) -> bool:
    return key.rpartition(".")[2] == SEED


def _labels(params: list[dict[str, str]]) -> list[str]:
    """Name each group by stage, backbone, and the params in which groups of that name differ.

    No two groups have the same name. A run of an earlier version, which recorded fewer params, is named as
    such.
    """
    names = [_stage(item) for item in params]
    labels: list[str] = []
    bare: list[str] = []
    for name, own in zip(names, params, strict=True):
        same = [other for other_name, other in zip(names, params, strict=True) if other_name == name]
        keys = sorted({key for other in same for key in other})
        differ = [key for key in keys if key in own and len({other[key] for other in same if key in other}) > 1]
        parts = [f"{key}={own[key]}" for key in differ[:MOST_NAMED]]
        parts += [f"and {len(differ) - MOST_NAMED} more"] * (len(differ) > MOST_NAMED)
        missing = sum(key not in own for key in keys)
        parts += [f"{missing} param{'s' if missing > 1 else ''} not recorded"] * (missing > 0)
        label = ", ".join([name, *parts])
        bare.append(label)
        labels.append(label if bare.count(label) == 1 else f"{label} ({bare.count(label)})")
    return labels


def _stage(params: dict[str, str]) -> str:
    """Return the name of the stage in DVC; the baseline has a network of its own."""
    stage, backbone = params.get("stage", "run"), params.get("backbone")
    return f"{stage}@{backbone}" if backbone and stage != "baseline" else stage


def table(compared: Sequence[Group], metric: str) -> tuple[list[str], list[list[str]]]:
    """Return the groups as texts: the titles of the columns, and the rows."""
    header = ["", "runs", metric, "95% interval", "from the first", "95% interval", "p (Holm)", "seconds", "parameters"]
    rows = []
    for group in compared:
        difference = group.difference
        change = [f"{difference.value:+.4f}", _range(difference, "+")] if difference else ["", ""]
        p = "" if group.p is None or math.isnan(group.p) else f"{group.p:.3f}" if group.p >= 0.001 else "< 0.001"
        rows.append([
            group.label, str(len(group.runs)), f"{group.mean.value:.4f}", _range(group.mean), *change,
            p + (" paired" if p and group.paired else ""), _number(group.seconds, ".1f"), _number(group.parameters, ",.0f"),
        ])  # fmt: skip
    return header, rows


def columns(compared: Sequence[Group], metric: str) -> tuple[list[str], list[list[Any]]]:
    """Return the groups as a table of numbers: the names of its columns, and its rows."""
    names = ["group", "runs", metric, "low", "high", "difference", "difference_low", "difference_high", "p_holm", "paired", *COSTS]
    rows = []
    for group in compared:
        difference = group.difference or Estimate(math.nan)
        p = math.nan if group.p is None else group.p
        numbers = [*vars(group.mean).values(), *vars(difference).values(), p, group.seconds, group.parameters]
        *figures, seconds, parameters = (None if math.isnan(number) else number for number in numbers)
        rows.append([group.label, len(group.runs), *figures, group.paired, seconds, parameters])
    return names, rows


def _edges(estimate: Estimate) -> tuple[float | None, float | None]:
    return (None, None) if math.isnan(estimate.low) else (estimate.low, estimate.high)


def _range(estimate: Estimate, sign: str = "") -> str:
    if math.isnan(estimate.low):
        return "" if sign else "none"
    return f"{estimate.low:{sign}.4f} … {estimate.high:{sign}.4f}"


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def page(compared: Sequence[Group], metric: str, curves: Mapping[str, Mapping[str, Curve]], seeds: int) -> str:
    """Return a page with the means, the table, and the learning curves (`{metric: {label: curve}}`)."""
    dots = [charts.Dot(group.label, group.mean.value, *_edges(group.mean)) for group in compared]
    headings, rows = table(compared, metric)
    colours = {group.label: number for number, group in enumerate(compared)}
    drawn = [
        charts.lines(title, lines, "epoch", colours, shares="loss" not in title, log="loss" in title)
        for title, lines in curves.items()
    ]
    return pages.render(
        "evaluation/report", "seed_comparison.html.j2",
        source=metric, metric=metric, headings=headings, rows=rows, seeds=seeds, count=len(compared),
        plot=charts.dots(dots, f"means of {metric}", shares=False), curves=drawn, colours=colours,
    )  # fmt: skip
