"""A drift check: classify images that have arrived, compare the last with the reference, write the page."""

from __future__ import annotations

import hashlib
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from darkroom.core import atomic, pages
from darkroom.core.errors import printable
from darkroom.core.progress import Progress
from darkroom.data import quality
from darkroom.data.decoding import decode
from darkroom.inference import image_files
from darkroom.inference.classifier import Classifier, ModelInfo
from darkroom.monitoring import drift, history, page
from darkroom.monitoring.drift import DriftTest, Limits
from darkroom.monitoring.history import CheckSettings, DriftCheck
from darkroom.monitoring.prediction_log import LogRow, PredictionLog
from darkroom.monitoring.reference import Outputs

BATCH, CHUNK = 64, 512  # images that are classified together, and rows that are written together
SETTLED = 2.0  # seconds without a change, before which a file may still be written


class ArrivedFile(NamedTuple):
    path: Path
    bytes: int
    changed: int  # modification time, nanoseconds since 1970


def check(
    classifier: Classifier, model: ModelInfo, load_reference: Callable[[], Outputs], folders: Sequence[Path], limits: Limits,
    window: int, min_images: int, out: Path,
) -> DriftCheck:  # fmt: skip
    """Classify new images in `folders`, and compare the last `window` images with the reference.

    The log, the history and the page are in `out`. With less than `min_images` nothing is compared. If no
    image has arrived since a check with the same settings, its result is returned.
    """
    log, sha256 = PredictionLog(out / "log"), model.checkpoint_sha256
    new, unreadable = classify_new(classifier, model, list(find_new(folders, log.logged_files(sha256))), log)
    past = history.read(out)
    settings = CheckSettings(sorted(map(str, folders)), window, min_images, **vars(limits), log=log.newest())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    last = next((item for item in reversed(past) if item.checkpoint_sha256 == sha256), None)
    if last and last.settings == settings:
        return replace(
            last, time=now, model=model.name, version=model.version, description=model.description, new=new, unreadable=unreadable
        )
    rows = log.latest(sha256, window, folders)
    reference = load_reference()
    tests: list[DriftTest] = []
    dissimilarity = None
    if len(rows) >= min_images:
        tests, dissimilarity = drift.compare(reference, outputs(rows, classifier.classes), len(classifier.classes), limits)
    result = DriftCheck(
        now, model.name, model.version, model.description, sha256, new, unreadable, len(rows), min_images,
        history.count_flags(rows), any(test.drifted for test in tests), tests,
        history.summarize(len(rows), min_images, tests), settings,
    )  # fmt: skip
    faults = {flag: meaning for flag, (meaning, _) in quality.ISSUES.items()}
    text = page.render(result, [*past, result], rows, reference, dissimilarity, classifier.classes, _picture, faults)
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


def classify_new(classifier: Classifier, model: ModelInfo, files: list[ArrivedFile], log: PredictionLog) -> tuple[int, int]:
    """Classify files and log predictions in chunks; return the numbers of files and of unreadable ones."""
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
                log.append(rows[:CHUNK])
                rows = rows[CHUNK:]
    if rows:
        log.append(rows)
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
            row.error = (error.strerror or str(error)).lower()
            print(f"{printable(row.path)}: {row.error}", file=sys.stderr)
            continue
        row.sha256 = hashlib.sha256(content).hexdigest()
        image = decode(content, preprocessing.image_size, preprocessing.resize, preprocessing.background)
        if image.pixels is None or image.upright is None:
            row.error = image.reason
            continue
        measured = quality.examine(image.upright)
        row.flags = [*(measured[0].issues() if measured else ()),
                     *(["odd_aspect"] if quality.odd_aspect(image.width, image.height) else []),
                     *(["damaged"] if "damaged" in image.flags else [])]  # fmt: skip
        readable.append(row)
        pixels.append(image.pixels)
    if readable:
        for row, embedding, probabilities in zip(readable, *classifier.embed(np.stack(pixels)), strict=True):
            best = int(probabilities.argmax())
            row.label, row.confidence, row.embedding = classifier.classes[best], float(probabilities[best]), embedding
            row.probabilities = list(zip(classifier.classes, probabilities.tolist(), strict=True))
    return rows


def outputs(rows: list[LogRow], classes: Sequence[str]) -> Outputs:
    """Return the logged outputs of a model as arrays."""
    index = {name: number for number, name in enumerate(classes)}
    return Outputs(
        np.array([row.embedding for row in rows], np.float32), np.array([index[str(row.label)] for row in rows]),
        np.array([row.confidence for row in rows]),
    )  # fmt: skip


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()  # a name need not be text


def _picture(path: str) -> str:
    """Return a small picture of an image file as a data URI, or nothing if it cannot be read."""
    try:
        upright = decode(Path(path).read_bytes(), 32, "crop", (0, 0, 0)).upright
    except OSError:  # moved meanwhile
        return ""
    return "" if upright is None else pages.picture(upright, 160)
