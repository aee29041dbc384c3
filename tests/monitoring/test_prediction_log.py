"""The log, the history and the reference: no row is lost, and files of earlier versions are read."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom.monitoring import history, reference
from darkroom.monitoring.drift import DriftTest
from darkroom.monitoring.prediction_log import SCHEMA, LogRow, PredictionLog


def row(number: int) -> LogRow:
    return LogRow(datetime(2026, 1, 1, tzinfo=UTC), f"/in/{number}.png", 1, number, "m", "1", "a", "0", "cat", 0.5, [("cat", 0.5)])


def paths(log: PredictionLog, count: int, folder: str = "/in") -> list[str]:
    return [item.path for item in log.latest("a", count, [Path(folder)])]


@pytest.fixture(scope="module")
def merged(tmp_path_factory) -> PredictionLog:
    """Return a log of 70 files, each added by itself while the clock runs backwards."""
    log, clock = PredictionLog(tmp_path_factory.mktemp("log")), iter(range(90 * 10**9, 0, -(10**9)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time_ns", lambda: next(clock))
        for number in range(70):
            log.append([row(number)])
    return log


def test_merging_files_loses_no_row(merged, tmp_path):
    """Small files are merged into one; a row that is there twice, after a crash during the merge, counts
    once."""
    assert len(merged.files()) == 70 - 64 + 1
    folder = shutil.copytree(merged.folder, tmp_path / "log")
    log = PredictionLog(folder)
    shutil.copy(log.files()[0], folder / "00000000-whole.parquet")
    assert len(log.logged_files("a")) == len(paths(log, 1000)) == 70
    assert not log.logged_files("b")
    assert not paths(log, 1000, "/elsewhere")


def test_rows_keep_their_order_when_the_clock_is_set_back(merged):
    """Rows that are added later come later, whatever the clock says."""
    assert paths(merged, 70) == [f"/in/{number}.png" for number in range(70)]
    assert paths(merged, 3) == ["/in/67.png", "/in/68.png", "/in/69.png"]


def test_a_row_is_read_as_it_was_written(tmp_path):
    """All columns of a row survive the file, embeddings as lists."""
    log = PredictionLog(tmp_path)
    original = row(1)
    original.embedding, original.flags = np.array([1.0, 2.5], np.float32), ["dark"]
    log.append([original])
    (read,) = log.latest("a", 1, [Path("/in")])
    assert read == LogRow(**vars(original) | {"embedding": [1.0, 2.5]})


def test_a_log_of_an_earlier_version_is_read(tmp_path):
    """A file with the columns of SCHEMA in which flags and predictions are null, as earlier versions wrote,
    is read."""
    values = dict.fromkeys(SCHEMA.names) | {"path": "/in/0.png", "bytes": 1, "changed": 2, "checkpoint_sha256": "a"}
    pq.write_table(pa.Table.from_pylist([values], SCHEMA), tmp_path / "0.parquet")
    (read,) = PredictionLog(tmp_path).latest("a", 1, [Path("/in")])
    assert (read.path, read.label, read.flags) == ("/in/0.png", None, None)


def test_a_log_without_series_is_read_and_merged(tmp_path):
    """Rows of a version without the columns of series are series of their own, and are merged with later ones."""
    old = pa.schema([field for field in SCHEMA if field.name not in ("taken", "series", "fingerprint")])
    log = PredictionLog(tmp_path)
    for number in range(3):
        values = {name: value for name, value in asdict(row(number)).items() if name in old.names}
        pq.write_table(pa.Table.from_pylist([values], old), tmp_path / f"{number}.parquet")
    for number in range(3, 70):
        later = row(number)
        later.series, later.fingerprint = f"s{number // 2}", b"12"
        log.append([later])
    assert len(log.files()) < 10
    assert paths(log, 100) == [f"/in/{number}.png" for number in range(70)]
    assert [item.path for item in log.latest_series("a", 2, [Path("/in")])] == [f"/in/{number}.png" for number in range(66, 70)]
    assert len(log.latest_series("a", 100, [Path("/in")])) == 70
    assert log.latest_series("a", 2, [Path("/in")])[0].fingerprint is None
    assert log.latest("a", 1)[0].fingerprint == b"12"


def test_a_history_of_an_earlier_version_is_read(tmp_path):
    """Lines with the former keys (words, said, asked, least) are read; a damaged line is left out."""
    settings = {
        "folders": ["/in"],
        "window": 500,
        "least": 20,
        "alpha": 0.01,
        "embeddings": 0.65,
        "classes": 0.2,
        "confidence": 0.1,
    }
    old = {
        "time": "2026-01-01T00:00:00+00:00", "model": "darkroom", "version": "3", "said": "version 3", "checkpoint_sha256": "a",
        "new": 30, "unreadable": 0, "images": 30, "least": 20, "flags": {"dark": 2}, "drifted": True,
        "tests": [{"name": "classes", "size": 0.3, "limit": 0.2, "p": 0.001, "corrected": 0.003, "drifted": True}],
        "words": "changed", "asked": {**settings, "log": "x"},
    }  # fmt: skip
    (tmp_path / history.FILE).write_text(json.dumps(old) + '\n{"words": "half\n[]\n', encoding="utf-8")
    (check,) = history.read(tmp_path)
    assert (check.summary, check.description, check.min_images, check.settings.min_images) == ("changed", "version 3", 20, 20)
    assert check.tests == [DriftTest("classes", 0.3, 0.2, 0.001, 0.003, True)]
    history.append(tmp_path, check)
    assert history.read(tmp_path) == [check, check]


def test_a_summary_names_what_has_changed():
    """The summary has the number of images and the tests that found drift."""
    test = DriftTest("classes", 0.3, 0.2, 0.001, 0.003, True)
    assert "classes" in history.summarize(30, 30, 20, [test])
    assert "no drift" in history.summarize(30, 30, 20, [DriftTest(**vars(test) | {"drifted": False})])
    assert all(number in history.summarize(3, 3, 20, []) for number in ("3", "20"))


def test_a_reference_is_a_sample_of_held_out_images(tmp_path):
    """A reference is drawn from all parts alike, 300 images at most, and is read as it was written."""

    def examine(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        means = images.reshape(len(images), -1).mean(1, keepdims=True) / 255
        return means.astype(np.float32), np.concatenate([means, 1 - means], 1), means[:, 0]

    outputs = reference.compute(
        examine,
        reference.HeldOut(
            [np.full((200, 4, 4, 3), shade, np.uint8) for shade in (0, 255)],
            [np.zeros(200, int), np.full(200, 1)],
            [list(map(str, range(200))), list(map(str, range(200, 400)))],
        ),
    )
    assert len(outputs) == 300
    assert not outputs.correct.any()  # black is predicted to be the second class
    assert 100 < (outputs.predicted == 0).sum() < 200
    reference.write(tmp_path / "reference.npz", outputs)
    again = reference.read(tmp_path / "reference.npz")
    assert all(np.array_equal(value, vars(again)[key]) for key, value in vars(outputs).items())
    reference.write(tmp_path / "earlier.npz", reference.Reference(outputs.embeddings, outputs.predicted, outputs.confidence))
    earlier = reference.read(tmp_path / "earlier.npz")
    assert earlier.correct is earlier.distances is None
