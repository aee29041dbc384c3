"""A drift check: classify images that have arrived, compare the last with the reference, write the page."""

from __future__ import annotations

import hashlib
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from darkroom.core import atomic, machine_limits, pages
from darkroom.core.errors import printable
from darkroom.core.progress import Progress
from darkroom.data import fingerprints, quality
from darkroom.data.decoding import decode
from darkroom.data.fingerprints import SUMMARY
from darkroom.inference import image_files
from darkroom.inference.classifier import Classifier, ModelInfo
from darkroom.monitoring import drift, expected_accuracy, history, levels, page, series
from darkroom.monitoring.drift import Limits
from darkroom.monitoring.history import CheckSettings, DriftCheck
from darkroom.monitoring.prediction_log import LogRow, PredictionLog
from darkroom.monitoring.reference import Outputs, Reference

BATCH, CHUNK = 64, 512  # images that are classified together, and rows that are written together
RECENT = 500  # images that new ones may be in a series with
SETTLED = 2.0  # seconds without a change, before which a file may still be written


class ArrivedFile(NamedTuple):
    path: Path
    bytes: int
    changed: int  # modification time, nanoseconds since 1970


@dataclass(frozen=True)
class Options:
    """What is compared: the last `window` series, once there are `min_images` of them, and again after as many new ones."""

    limits: Limits
    window: int
    min_images: int
    series_minutes: float = series.MINUTES


def check(
    classifier: Classifier, model: ModelInfo, load_reference: Callable[[], Reference], folders: Sequence[Path], options: Options,
    out: Path,
) -> DriftCheck:  # fmt: skip
    """Classify new images in `folders`, and compare the last series with the reference.

    The log, the history and the page are in `out`. If no image has arrived since a check with the same settings,
    its result is returned; if too few series have for another test, the tests are those of the last one.
    """
    log, sha256, load_reference = PredictionLog(out / "log"), model.checkpoint_sha256, cache(load_reference)
    files = sorted(find_new(folders, log.logged_files(sha256)), key=lambda file: (file.changed, file.path))
    new, unreadable = classify_new(classifier, model, files, log, options.series_minutes, load_reference)
    past = history.read(out)
    settings = CheckSettings(
        sorted(map(str, folders)), options.window, options.min_images, **vars(options.limits), log=log.newest(),
        series_minutes=options.series_minutes,
    )  # fmt: skip
    now = datetime.now(UTC)
    last = next((item for item in reversed(past) if item.checkpoint_sha256 == sha256), None)
    if last and last.settings == settings:
        return replace(
            last, time=now.isoformat(), model=model.name, version=model.version, description=model.description, new=new,
            unreadable=unreadable,
        )  # fmt: skip
    rows = log.latest_series(sha256, options.window, folders)
    compared = series.representatives(rows)
    due = levels.plan(past, sha256, settings, rows, now)
    dissimilarity: np.ndarray | None
    reference, arrived = load_reference(), outputs(compared, classifier.classes)
    if due.level:
        tests, dissimilarity = drift.compare(reference, arrived, len(classifier.classes), options.limits, due.level)
        images, count = len(rows), len(compared)
    else:
        tests, images, count = (due.last.tests, due.last.images, due.last.series) if due.last else ([], len(rows), len(compared))
        dissimilarity = drift.dissimilarity(reference.embeddings, arrived.embeddings)
    summary = history.summarize(images, count, options.min_images, tests)
    if tests and not due.level:
        summary += f"; {due.reason}"
    result = DriftCheck(
        now.isoformat(), model.name, model.version, model.description, sha256, new, unreadable, images, options.min_images,
        history.count_flags(rows), any(test.drifted for test in tests), tests, summary, settings, count,
        level=due.level or (due.last.level if due.last else 0.0),
        tested=now.isoformat() if due.level else due.last.tested_at if due.last else "", waiting=due.waiting,
        expected_accuracy=expected_accuracy.estimate(reference, arrived, novelty(classifier, reference, compared)),
    )  # fmt: skip
    faults = {flag: meaning for flag, (meaning, _) in quality.ISSUES.items()}
    images_shown = page.Images(rows, compared, dissimilarity, reference)
    text = page.render(result, [*past, result], images_shown, classifier.classes, _picture, faults)
    with atomic.new_file(out / "index.html") as working:
        working.write_text(text, encoding="utf-8")
    history.append(out, result)
    return result


def find_new(folders: Sequence[Path], logged: set[tuple[str, int, int]]) -> Iterator[ArrivedFile]:
    """Yield the image files that are not logged; one that may still be written waits for the next check."""
    for path in image_files.expand(map(str, folders)):
        try:
            status = path.stat()
        except OSError:  # deleted meanwhile
            continue
        is_fresh = 0 <= time.time() - status.st_mtime <= SETTLED
        if stat.S_ISREG(status.st_mode) and not is_fresh and (_text(path), status.st_size, status.st_mtime_ns) not in logged:
            yield ArrivedFile(path, status.st_size, status.st_mtime_ns)


def classify_new(
    classifier: Classifier, model: ModelInfo, files: list[ArrivedFile], log: PredictionLog, series_minutes: float,
    load_reference: Callable[[], Outputs],
) -> tuple[int, int]:  # fmt: skip
    """Classify files and log predictions in chunks; return the numbers of files and of unreadable ones."""

    def write(rows: list[LogRow]) -> None:
        reference = load_reference().embeddings
        close = series.closeness(reference) if len(reference) > 1 else None
        series.assign(rows, log.latest(model.checkpoint_sha256, RECENT), series_minutes, close)
        log.append(rows)

    unreadable = 0
    rows: list[LogRow] = []
    with Progress("monitor", len(files)) if files else nullcontext() as progress:
        for start in range(0, len(files), BATCH):
            batch = classify(classifier, model, files[start : start + BATCH])
            unreadable += sum(bool(row.error) for row in batch)
            rows += [row for row in batch if row.sha256]  # a file that could not be opened is tried again
            if progress:
                progress.advance(len(batch))
            while len(rows) >= CHUNK:
                write(rows[:CHUNK])
                rows = rows[CHUNK:]
    if rows:
        write(rows)
    return len(files), unreadable


def classify(classifier: Classifier, model: ModelInfo, files: list[ArrivedFile]) -> list[LogRow]:
    """Return a row of the log for each file."""
    preprocessing, now = classifier.checkpoint.preprocessing, datetime.now(UTC)
    rows, readable, pixels = [], [], []
    for path, size, changed in files:
        row = LogRow(now, _text(path), size, changed, model.name, model.version, model.checkpoint_sha256)
        rows.append(row)
        try:
            content = path.read_bytes()
        except OSError as error:
            machine_limits.check(error)
            row.error = (error.strerror or str(error)).lower()
            print(f"{printable(row.path)}: {row.error}", file=sys.stderr)
            continue
        row.sha256 = hashlib.sha256(content).hexdigest()
        image = decode(content, preprocessing.image_size, preprocessing.resize, preprocessing.background)
        if image.pixels is None or image.upright is None:
            row.error = image.reason
            continue
        measured = quality.examine(image.upright)
        row.taken = series.taken_at(content)
        if measured:
            row.fingerprint = fingerprints.fingerprint(measured[1])[list(SUMMARY.names or ())].astype(SUMMARY).tobytes()
        row.flags = [*(measured[0].issues() if measured else ()),
                     *(["odd_aspect"] if quality.odd_aspect(image.width, image.height) else []),
                     *(["damaged"] if "damaged" in image.flags else [])]  # fmt: skip
        readable.append(row)
        pixels.append(image.pixels)
    if readable:
        embeddings, calibrated, distances = classifier.examine(np.stack(pixels))
        for number, (row, embedding, probabilities) in enumerate(zip(readable, embeddings, calibrated, strict=True)):
            best = int(probabilities.argmax())
            row.label, row.confidence, row.embedding = classifier.classes[best], float(probabilities[best]), embedding
            row.distance = None if distances is None else float(distances[number])
            row.probabilities = list(zip(classifier.classes, probabilities.tolist(), strict=True))
    return rows


def outputs(rows: list[LogRow], classes: Sequence[str]) -> Outputs:
    """Return the logged outputs of a model as arrays."""
    index = {name: number for number, name in enumerate(classes)}
    return Outputs(
        np.array([row.embedding for row in rows], np.float32), np.array([index[str(row.label)] for row in rows]),
        np.array([row.confidence for row in rows]),
    )  # fmt: skip


def novelty(classifier: Classifier, reference: Reference, rows: list[LogRow]) -> expected_accuracy.Novelty | None:
    """Return how far new images are from the training images; None where there are none, or the model does not tell.

    Logs and references of earlier versions have no distances: those are of the embeddings alone.
    """
    threshold = classifier.threshold
    if threshold is None or not rows:
        return None
    ours, theirs = reference.distances, [row.distance for row in rows if row.distance is not None]
    if ours is None or len(theirs) < len(rows):
        embeddings = np.array([row.embedding for row in rows], np.float32)
        measured = [classifier.distances(values) for values in (reference.embeddings, embeddings)]
    else:
        measured = [ours, np.array(theirs, np.float32)]
    if measured[0] is None or measured[1] is None:
        return None
    unknown = np.array([threshold.is_unknown(distance) for distance in measured[1].tolist()])
    return expected_accuracy.Novelty.of(measured[0], measured[1], unknown)


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()  # a name need not be text


def _picture(path: str) -> str:
    """Return a small picture of an image file as a data URI, or nothing if it cannot be read."""
    try:
        upright = decode(Path(path).read_bytes(), 32, "crop", (0, 0, 0)).upright
    except OSError:  # moved meanwhile
        return ""
    return "" if upright is None else pages.picture(upright, 160)
