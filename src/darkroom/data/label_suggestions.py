"""Suggested labels, as `diagnose` writes them into `reports/label_issues.csv`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from darkroom.core import csv_cells, user_paths
from darkroom.core.errors import WorkspaceError
from darkroom.data import class_names
from darkroom.data.manifest import Row

COLUMNS = ("path", "label", "suggested")


@dataclass(frozen=True)
class Suggestion:
    """A line of the file; what it lacks is empty."""

    path: str
    label: str
    suggested: str
    sha256: str = ""
    quality: str = ""
    error_probability: str = ""

    def outdated(self, row: Row | None, label: str) -> str:
        """Return why the suggestion does not apply to the image any more, which has that label now; empty where it does."""
        if row is None or row.status != "accepted":
            return "the last ingest has no such image; `dvc repro` looks for candidates again"
        if class_names.normalise(label) != class_names.normalise(self.label):
            return f"its label is {label} by now"
        return "" if self.suggested != self.label else "the suggestion is its label"

    def described(self) -> str:
        """Return how doubtful the label is."""
        figures = (("quality", self.quality), ("wrong with probability", self.error_probability))
        return ", ".join(f"{name} {value}" for name, value in figures if value)


def read(path: Path) -> list[Suggestion]:
    """Return the suggestions in their order. Raises WorkspaceError where the file cannot be read."""
    remedy = "`dvc repro diagnose` writes reports/label_issues.csv"
    user_paths.check_file(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            titles, lines = reader.fieldnames or (), list(reader)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WorkspaceError(f"there is no file {path}", remedy) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise WorkspaceError(f"{path} cannot be read: {error}", remedy) from error
    lacking = [name for name in COLUMNS if name not in titles]
    if lacking:
        raise WorkspaceError(f"{path} has no column {lacking[0]}", remedy)
    names = ("path", "label", "suggested", "sha256", "quality", "error_probability")
    return [Suggestion(**{name: csv_cells.unescaped((line.get(name) or "").strip()) for name in names}) for line in lines]
