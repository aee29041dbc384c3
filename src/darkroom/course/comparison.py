"""A prediction beside the numbers of the student's own runs, in words and as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from darkroom.course import quantities
from darkroom.course.measurements import LAB, SUMMARY, Measurement
from darkroom.course.own_runs import SUMMARY as SUMMARY_FILE
from darkroom.course.own_runs import Workspace
from darkroom.course.quantities import Unit
from darkroom.course.readings import Reading, read


def compare(prediction: str, measurements: Sequence[Measurement], workspace: Workspace) -> list[dict[str, Any]]:
    """Return for each measurement its names, `value`, `predicted` and a sentence, `text`.

    `value` is the number of the own run, for the highest or lowest label that label. `predicted` is the number in the
    prediction, None where it has none, or not as many as there are measurements. A run is named in the sentence of its first
    measurement.
    """
    readings = [read(measurement, workspace) for measurement in measurements]
    predicted = quantities.parse_each(prediction, [item.measurement.unit for item in readings]) if readings else []
    result, last = [], ""
    for reading, number in zip(readings, predicted, strict=True):
        measurement, is_label = reading.measurement, reading.measurement.is_extreme
        text = _missing(reading) if reading.value is None else _text(reading, None if is_label else number, prediction)
        if reading.run and str(reading.run) != last:
            last = str(reading.run)
            text += f" ({last})"
        value = reading.label or reading.value
        result.append(asdict(measurement) | {"value": value, "predicted": None if is_label else number, "text": text})
    texts = [item["text"] for item in result]
    return [item for i, item in enumerate(result) if item["value"] is not None or item["text"] not in texts[:i]]


def _missing(reading: Reading) -> str:
    measurement, run = reading.measurement, reading.run
    if run:
        return f"no {measurement} in {run.path.with_name(SUMMARY_FILE) if measurement.source == SUMMARY else run.path}"
    if measurement.source == LAB:
        return f"none yet: there is no reports/lab/{measurement.name}.csv"
    is_study = measurement.source == SUMMARY
    return f"none yet of `{f'darkroom study {measurement.name}' if is_study else f'dvc repro`, recipe `{measurement.name}'}`"


def _text(reading: Reading, predicted: float | None, prediction: str) -> str:
    measurement, value = reading.measurement, reading.value
    unit = measurement.unit
    if unit is Unit.TEXT or not isinstance(value, (int, float)):
        return f"{measurement}: {value}"
    if reading.label:
        named = quantities.find_label(prediction, reading.labels)
        verdict = named and f"; your {named} is {'right' if named == reading.label else 'not the one'}"
        return f"{measurement}: {reading.label}, {quantities.text(value, unit)}{verdict}"
    text = f"{measurement}: {quantities.text(value, unit)}"
    if predicted is None:
        return text
    return f"{text}; your {quantities.text(predicted, unit)} is {quantities.compare(predicted, value, unit)}"
