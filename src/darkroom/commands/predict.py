"""Classify images: files, folders and globs, by the champion or any other trained model."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from darkroom.api import model_resolver
from darkroom.commands.param_types import MODEL
from darkroom.core import csv_cells, user_paths
from darkroom.core.command_line import Choice, Command, json_option
from darkroom.core.errors import WorkspaceError, printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import tables
    from darkroom.inference import classifier as classifiers
    from darkroom.inference import explanation, image_files
    from darkroom.models import abstention

EXPLAINED = Path("reports/explained")
COLUMNS = ("path", "label", "confidence", "error", "model", "checkpoint_sha256")  # of --csv, before those of the classes
UNKNOWN = "unknown"  # the column after these, empty where the model has no abstention
SET = "prediction_set"  # the column that --coverage adds to these
ENGINES = model_resolver.ENGINES
METHODS = ("LayerCAM", "Grad-CAM", "occlusion")  # those of inference.explanation, which imports torch


@click.command(cls=Command)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…")
@click.option(
    "--model", default="champion", type=MODEL,
    help="champion, challenger, a version number, a checkpoint folder like models/baseline, or models:/name/version",
)  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=1, metavar="K", help="show the K most probable classes in the table")
@json_option
@click.option(
    "--csv", "as_csv", is_flag=True,
    help="print a line per image, with the probability of every class; a name that a spreadsheet would run has ' before it",
)  # fmt: skip
@click.option(
    "--coverage", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
    help="show the classes that an image may have: a set that holds the true one for this share of images, such as 0.9",
)  # fmt: skip
@click.option(
    "--refuse", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE", show_default="that of the version, or evaluate.refuse",
    help="call images unknown that are farther from the training images than all but this share of images like them; 0: none",
)  # fmt: skip
@click.option(
    "--engine", type=Choice(ENGINES), show_default="float32, of the alias int8 int8",
    help="float32, or int8: the program of 8-bit integers of a registered version, which `register.quantize: int8` makes",
)  # fmt: skip
@click.option("--explain", is_flag=True, help=f"write a page of heat maps to {EXPLAINED}")
@click.option("--explain-to", metavar="FOLDER", help="write that page to another folder")
@click.option(
    "--explain-by", type=Choice(METHODS), metavar="METHOD", show_default="what suits the network",
    help="method of the heat maps: LayerCAM, Grad-CAM or occlusion (a perceptron is always explained by occlusion)",
)  # fmt: skip
def command(
    images: tuple[str, ...], model: str, top: int, as_json: bool, as_csv: bool, coverage: float | None,
    refuse: float | None, engine: str | None, explain: bool, explain_to: str | None, explain_by: str | None,
) -> int:  # fmt: skip
    """Classify images, by the champion or any other trained model.

    IMAGE is a file, a folder, which is searched with its subfolders, or a glob; - reads names from standard
    input.

    Exit code: 0 all images are classified, 1 some cannot be read, 2 a mistake.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    if explain and explain_to is not None:
        raise click.UsageError("--explain and --explain-to exclude each other")
    folder = EXPLAINED if explain else None if explain_to is None else user_paths.expand(explain_to, "--explain-to", "a folder")
    if explain_by and not folder:
        raise click.UsageError("--explain-by needs --explain or --explain-to FOLDER")
    if folder:
        explanation.check_folder(folder)
    names = [name if name == "-" else str(user_paths.expand(name, "IMAGE", "an image or a folder")) for name in images]
    paths = list(image_files.expand(names))
    if not paths:
        raise WorkspaceError(
            f"there are no images in {', '.join(images)}", "name image files; folders are searched for *.jpg, *.png, …"
        )
    classifier, info = model_resolver.load_on_device(model, engine or model_resolver.default_engine(model))
    if coverage:
        classifier.checkpoint.conformal.check(coverage)
    if refuse is not None:
        classifier.refuse(refuse)
    rows: list[image_files.Row] = []
    print_row = _csv_printer(classifier.classes, info, coverage) if as_csv else _line_printer(classifier.classes, top, paths)
    for row in image_files.predict_paths(classifier, paths, coverage):
        rows.append(row)
        if not as_json:
            print_row(row)
    pictures: dict[str, str] = {}
    readable = [row for row in rows if not row.error]
    if folder and readable:
        pictures = image_files.explain(classifier, readable, folder, info.description, explain_by or "")
    threshold = classifier.threshold
    if as_json:
        identity = {key: value for key, value in asdict(info).items() if key != "description"}
        tables.print_json({
            "model": identity | {"classes": list(classifier.classes)}, "abstention": threshold and threshold.as_dict(),
            "predictions": [asdict(row) | ({"explanation": pictures[row.path]} if row.path in pictures else {}) for row in rows],
        })  # fmt: skip
    elif not as_csv:
        click.echo(f"by {info.description}", err=True)
    if threshold and any(row.unknown for row in rows):
        click.echo(_describe(threshold, sum(bool(row.unknown) for row in rows), len(readable)), err=True)
    if pictures:
        click.echo(f"heat maps: {folder}/index.html", err=True)
    if len(readable) < len(rows):
        click.echo(f"{len(rows) - len(readable)} of {len(rows)} could not be read", err=True)
    return int(len(readable) < len(rows))


def _describe(threshold: abstention.Threshold, unknown: int, images: int) -> str:
    """Return what it means that images are unknown, and on how much that rests."""
    likely = f"{100 * (1 - threshold.refuse):.6g}% of images like them"
    text = f"{unknown} of {images} are unknown: farther from the training images than {likely}"
    if threshold.is_fitted:
        few = f"{threshold.images} validation images, where {abstention.needed(threshold.refuse)} would be needed"
        text += f"; that is an estimate by {few}"
    return text


def _line_printer(classes: tuple[str, ...], top: int, paths: list[Path]) -> Callable[[image_files.Row], None]:
    """Return a function that prints the line of a row; the lines appear while images are classified."""
    width = min(max(len(printable(str(path))) for path in paths), 80)
    label_width = max(len(printable(name)) for name in classes)

    def print_row(row: image_files.Row) -> None:
        path = printable(row.path).ljust(width)
        if row.probabilities is None:
            print(f"{path}  error: {row.error}; {row.remedy}")
        else:
            best = sorted(row.probabilities.items(), key=lambda item: -item[1])[:top]
            unknown = ["unknown:"] if row.unknown else []
            shown = [f"{printable(name).ljust(label_width)} {share:6.1%}" for name, share in best]
            if row.prediction_set is not None:
                shown.append(f"{{{', '.join(map(printable, row.prediction_set))}}}")
            print(path, *unknown, *shown, sep="  ")

    return print_row


def _csv_printer(
    classes: tuple[str, ...], info: classifiers.ModelInfo, coverage: float | None
) -> Callable[[image_files.Row], None]:
    """Print the header of a CSV table; return a function that prints the line of a row."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(csv_cells.escaped([*COLUMNS, UNKNOWN, *([SET] if coverage else []), *classes]))

    def print_row(row: image_files.Row) -> None:
        path = row.path.encode("utf-8", "backslashreplace").decode()  # a name need not be text
        cells: list[Any] = [path, row.label, row.confidence, row.error, info.version or info.name, info.checkpoint_sha256]
        cells.append("" if row.unknown is None else str(row.unknown).lower())
        if coverage:
            cells.append("; ".join(row.prediction_set or []))
        writer.writerow([*csv_cells.escaped(cells), *(row.probabilities.values() if row.probabilities else [""] * len(classes))])

    return print_row
