"""The leaderboard: accuracy, size and costs of every model, as leaderboard.csv, cost.csv and a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from darkroom.core import atomic
from darkroom.core.errors import WorkspaceError
from darkroom.evaluation.metrics_io import REMEDY, Content, ModelName

COLUMNS = ("model", "kind", "accuracy", "macro_f1", "parameters", "ms_per_image", "train_seconds")
COSTS = ("model", "ms_p50", "ms_p95", "images_per_second", "train_seconds")
HEADER = ("model", "test accuracy", "macro F1", "parameters", "ms/image", "training")  # in the terminal
ROUNDED = {"ms_per_image", "ms_p50", "ms_p95", "images_per_second", "train_seconds"}  # to four digits


class Row(Content):
    """One model; `kind` is model, ensemble, views or pixel_baseline. Times: ms per image, s of training.

    `ms_p50`, `ms_p95` and `images_per_second` are in cost.csv alone: 0 in rows of leaderboard.csv.
    """

    model: ModelName
    kind: ModelName
    accuracy: float
    macro_f1: float
    parameters: int
    ms_per_image: float
    train_seconds: float
    ms_p50: float = 0.0
    ms_p95: float = 0.0
    images_per_second: float = 0.0


def ranked(rows: Iterable[Row]) -> list[Row]:
    """Return the rows, highest test accuracy first."""
    return sorted(rows, key=lambda row: (-row.accuracy, -row.macro_f1, row.model))


def write(path: Path, rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> None:
    """Write these columns of the rows, highest test accuracy first."""
    with atomic.new_file(path) as working, working.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in ranked(rows):
            values = row.model_dump()
            writer.writerow([round(values[name], 4) if name in ROUNDED else values[name] for name in columns])


def read(path: Path) -> list[Row]:
    """Return the rows of leaderboard.csv; WorkspaceError where it is missing or damaged."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [Row.model_validate(row) for row in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} does not exist: nothing has been evaluated yet", REMEDY) from error
    except ValidationError as error:
        raise WorkspaceError(f"{path} is damaged: {error.errors()[0]['msg']}", REMEDY) from error


def cells(rows: Iterable[Row], best: str) -> list[tuple[str, ...]]:
    """Return the rows as texts, under `HEADER`; an arrow marks the model that validation selected."""
    return [
        (
            f"{'→' if row.model == best else ' '} {row.model}", f"{row.accuracy:.4f}", f"{row.macro_f1:.4f}", f"{row.parameters:,}",
            f"{row.ms_per_image:.2f}", f"{row.train_seconds:.1f} s",
        )
        for row in rows
    ]  # fmt: skip
