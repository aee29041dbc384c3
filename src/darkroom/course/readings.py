"""The numbers that a student's own runs have for questions, from the files that they left."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, geometric_mean

from darkroom.core import json_files
from darkroom.course.measurements import HIGHEST, LAB, LEADERBOARD, SUMMARY, Measurement
from darkroom.course.own_runs import PIPELINE, STUDY, OwnRun, Value, Workspace, time_of

Rows = dict[tuple[str, str], dict[str, Value]]  # by comparison and label


@dataclass(frozen=True)
class Reading:
    """What a run has for a measurement, with the run: a number or a text, None for both where it has none.

    For the `highest` or `lowest` label, `label` is that label and `labels` are all.
    """

    measurement: Measurement
    run: OwnRun | None
    value: Value = None
    label: str = ""
    labels: tuple[str, ...] = ()


def read(measurement: Measurement, workspace: Workspace) -> Reading:
    """Return what the student's own run has. Raises WorkspaceError for a damaged file."""
    run = _run(measurement, workspace)
    if run is None:
        return Reading(measurement, None)
    rows, field = _rows(measurement, workspace, run), measurement.field
    if measurement.is_extreme:
        numbers = {label: value for (of, label), row in rows.items() if of == measurement.comparison
                   if isinstance(value := row.get(field), (int, float))}  # fmt: skip
        find = max if measurement.label == HIGHEST else min
        label = find(numbers, key=lambda name: numbers[name], default="")
        return Reading(measurement, run, numbers.get(label), label, tuple(numbers))
    value = rows.get((measurement.comparison, measurement.label), {}).get(field)
    if not measurement.operation or isinstance(value, str):
        return Reading(measurement, run, value)
    other = rows.get((measurement.comparison, measurement.other), {}).get(field)
    if value is None or other is None or isinstance(other, str):
        return Reading(measurement, run)
    if measurement.operation == "-":
        return Reading(measurement, run, value - other)
    return Reading(measurement, run, value / other if other else None)


def _run(measurement: Measurement, workspace: Workspace) -> OwnRun | None:
    if measurement.source == LAB:
        path = workspace.lab_file(f"{measurement.name}.csv")
        return OwnRun(path.as_posix(), time_of(path), path) if path else None
    return workspace.run(STUDY if measurement.source == SUMMARY else PIPELINE, measurement.name)


def _rows(measurement: Measurement, workspace: Workspace, run: OwnRun) -> Rows:
    if measurement.source == SUMMARY:
        return _study_rows(measurement.name, workspace)
    rows: Rows = {}
    count = 1 if measurement.source == LEADERBOARD else measurement.label.count(", ") + 1
    for row in _table(run.path):
        rows.setdefault(("", ", ".join(list(row.values())[:count])), {name: _number(value) for name, value in row.items()})
    return rows


def _study_rows(name: str, workspace: Workspace) -> Rows:
    """Return the rows and figures of a study, with the means over seeds of what its tables have alone.

    That of learning rates is the geometric one: they differ by factors.
    """
    rows: Rows = {}
    summary = workspace.summary(name)
    for row in [*summary.rows, *summary.figures] if summary else []:
        rows.setdefault((str(row.get("comparison")), str(row.get("label"))), {}).update(row)
    for path, field, mean in (
        (workspace.results / name / "results.csv", "lr", geometric_mean),
        (workspace.results / "cost" / name / "cost.csv", "ms_per_image", fmean),
    ):
        values: dict[tuple[str, str], list[float]] = {}
        for line in _table(path) if path.is_file() else []:
            number = _number(line.get(field, ""))
            if isinstance(number, float) and number > 0:
                values.setdefault((line.get("comparison", ""), line.get("label", "")), []).append(number)
        for key in values.keys() & rows.keys():
            rows[key][field] = mean(values[key])
    return rows


def _table(path: Path) -> Iterator[Mapping[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield from ({name: value or "" for name, value in row.items() if name} for row in csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise json_files.damaged(path, str(error), "run again what has written it") from error


def _number(text: str) -> Value:
    try:
        return float(text)
    except ValueError:
        return text or None
