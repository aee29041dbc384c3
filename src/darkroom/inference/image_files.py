"""Predictions for files, folders and globs of images, as rows; it does not import torch."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.core import machine_limits, user_paths
from darkroom.core.lazy import lazy_imports
from darkroom.core.progress import Progress
from darkroom.data.decoding import decode
from darkroom.data.quarantine_reasons import REASONS
from darkroom.inference.predict import Prediction

with lazy_imports():
    from darkroom.inference import classifier as classifiers
    from darkroom.inference import explanation
    from darkroom.models import base

BATCH = 64
# names that a folder is searched for; a file that is named is read whatever its name is
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".pbm", ".pgm", ".ppm",
    ".pnm", ".sgi", ".rgb", ".avif", ".heic", ".heif",
)  # fmt: skip


Problem = tuple[str, str]  # why an image cannot be read, and the remedy
NO_PROBLEM: Problem = ("", "")


@dataclass
class Row:
    """The prediction for one file, with probabilities by class, or an error with its remedy."""

    path: str
    label: str | None = None
    confidence: float | None = None
    probabilities: dict[str, float] | None = None
    error: str | None = None
    remedy: str | None = None
    prediction_set: list[str] | None = None  # where a coverage was requested
    distance: float | None = None  # from the training images; of models that have abstention
    unknown: bool | None = None  # whether it is too large, so that the label is not to be trusted


def expand(names: Iterable[str]) -> Iterator[Path]:
    """Yield the files that are named, each once: folders in the order of names; a glob may match nothing.

    The name `-` reads names from standard input.
    """
    yielded = set()
    for name in names:
        for path in _expand(name):
            if path not in yielded:
                yielded.add(path)
                yield path


def _expand(name: str) -> Iterator[Path]:
    path = Path(name).expanduser()
    if name == "-":
        yield from (Path(os.fsdecode(line.rstrip(b"\r\n"))) for line in sys.stdin.buffer if line.strip())
    elif path.is_dir():
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(inner for inner in folders if not inner.startswith("."))
            images = (file for file in sorted(files) if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES)
            yield from (Path(folder, file) for file in images)
    elif not path.exists() and glob.has_magic(name):
        for match in sorted(glob.glob(str(path), recursive=True)):
            yield from _expand(match)
    else:
        yield path


def row(path: str, classifier: classifiers.Classifier, prediction: Prediction | None, problem: Problem = NO_PROBLEM) -> Row:
    """Return the row of an image: its prediction, or why it has none."""
    if prediction is None or prediction.probabilities is None:
        return Row(path, error=problem[0], remedy=problem[1])
    by_class = dict(zip(classifier.classes, map(float, prediction.probabilities), strict=True))
    label = max(by_class, key=lambda name: by_class[name])
    result = Row(path, label, by_class[label], by_class, distance=prediction.distance)
    if classifier.threshold and prediction.distance is not None:
        result.unknown = classifier.threshold.is_unknown(prediction.distance)
    return result


def problem_of(reason: str) -> Problem:
    """Return the problem of an image that was decoded with a reason for its quarantine."""
    return REASONS[reason].meaning, REASONS[reason].remedy


def read(path: Path) -> tuple[bytes | None, Problem]:
    """Return the bytes of a file, or None and why it cannot be read."""
    try:
        return user_paths.read_file(path), NO_PROBLEM
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        machine_limits.check(error)
        return None, ((getattr(error, "strerror", None) or str(error)).lower(), "name a file that this user may read")


def predict_paths(classifier: classifiers.Classifier, paths: list[Path], coverage: float | None = None) -> Iterator[Row]:
    """Yield a row for each file, in their order, with a prediction set of this coverage if one is named."""
    with ExitStack() as stack:
        progress = stack.enter_context(Progress("predict", len(paths), "images")) if len(paths) > BATCH else None
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            unreadable: dict[Path, Problem] = {}
            predictions = iter(classifier.predict_files(_contents(batch, unreadable)))
            for path in batch:
                if path in unreadable:
                    yield row(str(path), classifier, None, unreadable[path])
                    continue
                prediction = next(predictions)
                problem = problem_of(prediction.error) if prediction.error else NO_PROBLEM
                result = row(str(path), classifier, prediction, problem)
                if coverage and prediction.probabilities is not None:
                    (result.prediction_set,) = classifier.prediction_sets(prediction.probabilities[None], coverage)
                yield result
            if progress:
                progress.advance(len(batch))


def _contents(paths: list[Path], unreadable: dict[Path, Problem]) -> Iterator[bytes]:
    """Yield the bytes of one file after another; note why a file cannot be read."""
    for path in paths:
        content, problem = read(path)
        if content is None:
            unreadable[path] = problem
        else:
            yield content


def explain(classifier: classifiers.Classifier, rows: list[Row], folder: Path, model: str, method: str = "") -> dict[str, str]:
    """Write a page of heat maps for rows without an error; return the path of each file's picture."""
    preprocessing = classifier.checkpoint.preprocessing

    def items() -> Iterator[explanation.Item]:
        with Progress("explain", len(rows), "images") as progress:
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                decoded = (_square(Path(row.path), preprocessing) for row in batch)
                images = np.stack([pixels for pixels in decoded if pixels is not None])
                targets = [classifier.classes.index(str(row.label)) for row in batch]
                heats, _ = explanation.heat_maps(classifier.network, images, targets, method)
                for row, image, heat in zip(batch, images, heats, strict=True):
                    yield row.path, str(row.label), float(row.confidence or 0), image, heat
                progress.advance(len(batch))

    return explanation.write_page(folder, model, explanation.choose_method(classifier.network, method), len(rows), items())


def _square(path: Path, preprocessing: base.Preprocessing) -> np.ndarray | None:
    """Return the image (S, S, 3) uint8 of a file, without the whole picture."""
    return decode(user_paths.read_file(path), preprocessing.image_size, preprocessing.resize, preprocessing.background).pixels
