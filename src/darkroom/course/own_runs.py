"""What the student has run here: results of studies and pictures of the lab, and the numbers in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from darkroom.core import json_files
from darkroom.course.lessons import Command, Measurement

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Row:
    """A label of a comparison, with the fields of a row of summary.json that a question can name."""

    comparison: str
    label: str
    accuracy: float | None = None
    difference: float | None = None
    train_accuracy: float | None = None
    multiply_adds: float | None = None
    parameters: float | None = None


@dataclass(frozen=True)
class Summary:
    """What is read of a study's summary.json."""

    size: str
    rows: list[Row]


@dataclass(frozen=True)
class OwnRun:
    """A study or a command of the lab that has run here; `size` is that of a study."""

    command: str
    when: datetime
    path: Path
    size: str = ""

    def __str__(self) -> str:
        size = f", size {self.size}" if self.size else ""
        return f"{self.command}{size}, {self.when:%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Workspace:
    """The folders of a student's own results: `results` of studies, `pictures` of the lab."""

    results: Path
    pictures: Path

    def runs(self, commands: Iterable[Command]) -> list[OwnRun]:
        """Return which of the commands have run, one for each study and each command of the lab."""
        targets = dict.fromkeys(command.target for command in commands)
        return [run for kind, name in targets if kind and (run := self.run(kind, name))]

    def next_command(self, commands: Iterable[Command]) -> Command | None:
        """Return the first command of a study or the lab that has not run."""
        return next((item for item in commands if item.target[0] and not self.run(*item.target)), None)

    def run(self, kind: str, name: str) -> OwnRun | None:
        """Return the run of a study or a command of the lab, or None if there is none."""
        if kind == "study":
            path = self.results / name / SUMMARY
            summary = self.summary(name)
            return OwnRun(f"study {name}", _time(path), path.with_name(f"{name}.png"), summary.size) if summary else None
        paths = (self.pictures / f"{name}.png", self.results / "lab" / f"{name}.png")  # by hand, and as a stage
        existing = [path for path in paths if path.is_file()]
        return OwnRun(f"lab {name}", *max((_time(path), path) for path in existing)) if existing else None

    def summary(self, study: str) -> Summary | None:
        """Return the results of a study, or None if it has not run. Raises WorkspaceError for a damaged file."""
        path = self.results / study / SUMMARY
        try:
            return json_files.read(path, Summary, f"run the study again: `darkroom study {study}`")
        except FileNotFoundError:
            return None

    def value(self, measurement: Measurement) -> float | None:
        """Return the number that a question asks about, or None if the study has not run or has no such row."""
        summary = self.summary(measurement.study)
        rows = summary.rows if summary else []
        matching = (row for row in rows if (row.comparison, row.label) == (measurement.comparison, measurement.label))
        value: float | None = getattr(next(matching, None), measurement.field, None)
        return value


def _time(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime)
