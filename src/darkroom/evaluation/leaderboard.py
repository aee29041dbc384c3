"""The leaderboard: accuracy, size and costs of every model, as leaderboard.csv, cost.csv and a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from darkroom.core import atomic, json_files, tables
from darkroom.core.counts import counted
from darkroom.core.errors import WorkspaceError
from darkroom.evaluation.metrics_io import REMEDY, Content, Metrics, ModelName

COLUMNS = ("model", "kind", "accuracy", "macro_f1", "aurc", "parameters", "ms_per_image", "train_seconds", "busy")
COSTS = ("model", "ms_p50", "ms_p95", "images_per_second", "train_seconds", "busy")
HEADER = ("model", "test accuracy", "macro F1", "parameters", "ms/image", "training")  # in the terminal
ROUNDED = {"ms_per_image", "ms_p50", "ms_p95", "images_per_second", "train_seconds"}  # to four digits


class Row(Content):
    """One model; `kind` is model, ensemble, views or pixel_baseline. `aurc` is the area under the curve of risk and coverage,
    None in files of earlier versions. Times: ms per image, s of training; `busy` is the mean number of cores that other
    processes used while ms were measured.

    `ms_p50`, `ms_p95` and `images_per_second` are in cost.csv alone: 0 in rows of leaderboard.csv.
    """

    model: ModelName
    kind: ModelName
    accuracy: float
    macro_f1: float
    aurc: float | None = None
    parameters: int
    ms_per_image: float
    train_seconds: float
    ms_p50: float = 0.0
    ms_p95: float = 0.0
    images_per_second: float = 0.0
    busy: float = 0.0


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
    return [_row(path, row) for row in _read(path)]


def read_with_costs(reports: Path) -> list[Row]:
    """Return the rows of leaderboard.csv with the costs that cost.csv beside it has; errors as of `read`."""
    path = reports / "cost.csv"
    costs = {row.get("model"): row for row in _read(path)}
    rows = _read(reports / "leaderboard.csv")
    if {row.get("model") for row in rows} != costs.keys():
        raise json_files.damaged(path, "it has other models than leaderboard.csv", REMEDY)
    return [_row(path, row | costs[row["model"]]) for row in rows]


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} does not exist: nothing has been evaluated yet", REMEDY) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise json_files.damaged(path, str(error), REMEDY) from error


def _row(path: Path, content: dict[str, str]) -> Row:
    try:
        return Row.model_validate({name: value or None for name, value in content.items()})
    except ValidationError as error:
        raise json_files.damaged(path, error.errors()[0]["msg"], REMEDY) from error


def show(rows: Iterable[Row], metrics: Metrics) -> None:
    """Print the rows; an arrow marks the selected model, a column has accuracies of cross-validation where there was one."""
    crossed = metrics.cross_validation.models if metrics.cross_validation else {}
    cells = []
    for row in rows:
        out_of_fold = [f"{crossed[row.model].figures['accuracy']:.4f}" if row.model in crossed else ""] if crossed else []
        cells.append((
            f"{'→' if row.model == metrics.best else ' '} {row.model}", f"{row.accuracy:.4f}", *out_of_fold, f"{row.macro_f1:.4f}",
            f"{row.parameters:,}", f"{row.ms_per_image:.2f}", f"{row.train_seconds:.1f} s",
        ))  # fmt: skip
    header = (*HEADER[:2], "cross-validated", *HEADER[2:]) if crossed else HEADER
    tables.show(header, cells, right=header[1:])


def describe_selection(metrics: Metrics) -> str:
    """Return in a few sentences how the best model was chosen; empty for evaluations of earlier versions."""
    chosen = metrics.selection
    if chosen is None:
        return ""
    images = (
        f"{counted(chosen.images, 'image')} of {chosen.folds} folds" if chosen.folds else counted(chosen.images, "validation image")
    )
    groups = f" in {counted(chosen.groups, 'group')}" if chosen.groups < chosen.images else ""
    metric = chosen.metric.replace("_", " ").replace("f1", "F1")
    text = f"{metrics.best} was selected by {metric} on {images}{groups}"
    if chosen.indistinguishable:
        text += f"; they do not distinguish it from {', '.join(chosen.indistinguishable)}"
    elif len(metrics.models) > 2:
        text += "; it is better than every other model beyond chance"
    if chosen.leader != metrics.best:
        text += f". {chosen.leader} has the better {metric}, but not by more than chance, and a fine-tuned network stays then"
    if chosen.absent_classes:
        remedy = "more images of these classes" if chosen.folds else "`cross_validation: 5` or a larger `ingest.val_share`"
        absent = ", ".join(chosen.absent_classes)
        text += f". None of these images is of {absent}, so that only fine-tuned networks were compared; {remedy} helps"
    return text + "."
