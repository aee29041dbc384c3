"""`darkroom monitor`: what arrives is answered once, kept, and compared with what the model was made for."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from darkroom.cli import main
from darkroom.inference.classifier import Classifier
from darkroom.monitoring import history, reference
from darkroom.monitoring.prediction_log import SCHEMA, Log
from tests.conftest import ROOT, screenshot
from tests.monitoring import arrivals
from tests.monitoring.arrivals import CLASSES, arrive


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a workspace with a checkpoint, held-out images that are bright, and an empty inbox."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    arrivals.model()
    (tmp_path / "data/inbox").mkdir(parents=True)
    return tmp_path


def looked(capsys, *arguments: str) -> dict:
    capsys.readouterr()
    assert main(["monitor", "--model", "model", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_images_are_answered_once(place, capsys):
    """A file is looked at once, again when it has changed, and not while it may still be written."""
    arrive(0, 25)
    assert looked(capsys)["new"] == 25
    assert looked(capsys)["new"] == 0
    arrive(25, 2)
    os.utime(place / "data/inbox/25.png")
    assert looked(capsys)["new"] == 1
    arrive(25, 1)
    os.utime(place / "data/inbox/0.png", (time.time() - 30,) * 2)
    assert looked(capsys)["new"] == 2
    rows = pq.ParquetDataset(place / "reports/monitoring/log").read().to_pylist()
    assert len(rows) == 28
    assert {row["label"] for row in rows} <= set(CLASSES)
    assert all(sum(share for _, share in row["probabilities"]) == pytest.approx(1, abs=1e-5) for row in rows)


def test_other_images_are_a_drift(place, capsys):
    """Images like those held out are no drift, other ones are; the history has each check; other options look anew."""
    arrive(0, 40)
    assert not looked(capsys, "--window", "40")["drifted"]
    arrive(40, 40, dark=True)
    drifted = looked(capsys, "--window", "40")
    assert drifted["drifted"]
    assert "not like those" in drifted["words"]
    assert drifted["flags"]["dark"] == 40
    arrive(80, 10, dark=True)
    assert looked(capsys, "--window", "40")["drifted"]
    assert looked(capsys, "--window", "40")["drifted"]
    assert [check["drifted"] for check in history.read(place / "reports/monitoring")] == [False, True, True]
    assert not looked(capsys, "--window", "100", "--least", "91")["drifted"]
    assert main(["monitor", "--model", "model"]) == 0
    assert "DRIFT" in capsys.readouterr().out


def test_the_page_is_whole_without_the_network(place, capsys):
    """The page shows the verdict, needs nothing from elsewhere, has no error, and can be read in the dark."""
    arrive(0, 30)
    looked(capsys)
    arrive(30, 40, dark=True)
    looked(capsys)
    page = place / "reports/monitoring/index.html"
    text = page.read_text()
    assert "Least like the known ones" in text
    assert "http" not in text.replace("http-equiv", "")
    for dark in (False, True):
        shown, said = screenshot(page, dark)
        assert "CONSOLE" not in said
        corner = np.asarray(shown.convert("L"))[5, 5]
        assert (corner < 60) if dark else (corner > 200)


def test_few_or_broken_images_are_told(place, capsys):
    """Of too few images nothing is said; what cannot be read has a row with the reason and counts for nothing."""
    arrive(0, 3)
    (place / "data/inbox/broken.png").write_bytes(b"broken")
    os.utime(place / "data/inbox/broken.png", (1, 1))
    found = looked(capsys)
    assert (found["new"], found["unreadable"], found["images"], found["tests"]) == (4, 1, 3, [])
    assert "too few" in found["words"]
    errors = [row["error"] for row in pq.ParquetDataset(place / "reports/monitoring/log").read().to_pylist()]
    assert sorted(filter(None, errors)) == ["not_an_image"]


def test_mistakes_have_a_remedy(place, capsys):
    """A folder that is not there, a wrong limit, window or level, and a model without a reference end with exit code 2."""
    limits = [["--limit", limit] for limit in ("class=1", "classes=x", "classes=nan", "classes=2")]
    wrong = (["nowhere"], *limits, ["--window", "1"], ["--alpha", "2"], ["--alpha", "0.001"])
    for arguments in wrong:
        assert main(["monitor", "--model", "model", *arguments]) == 2
        assert "remedy" in capsys.readouterr().err
    classes = place / "data/ingested/classes.json"
    classes.write_text('["cat", "dog"]')
    assert main(["monitor", "--model", "model"]) == 2
    assert "without a reference" in capsys.readouterr().err


def test_what_comes_to_the_log_and_the_history_damaged_costs_itself_alone(place, capsys):
    """After a power cut a half line of the history takes no other with it, and a broken file of the log is put aside."""
    arrive(0, 20)
    looked(capsys)
    with (place / "reports/monitoring/history.jsonl").open("ab") as file:
        file.write('{"words": "ö'.encode()[:-1])
    (place / "reports/monitoring/log/00000000.parquet").write_bytes(b"")
    arrive(20, 1)
    assert looked(capsys)["new"] == 1
    assert len(history.read(place / "reports/monitoring")) == 2
    assert (place / "reports/monitoring/log/00000000.damaged").exists()


def test_what_cannot_be_opened_is_tried_again(place, capsys, monkeypatch):
    """A file that the system does not give counts as unreadable, and is looked at the next time."""
    arrive(0, 3)
    read = Path.read_bytes

    def failing(self: Path) -> bytes:
        if self.name == "1.png":
            raise OSError(5, "Input/output error")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", failing)
    found = looked(capsys)
    assert (found["new"], found["unreadable"]) == (3, 1)
    monkeypatch.undo()
    os.chdir(place)
    assert looked(capsys)["new"] == 1


def test_only_the_folder_that_is_meant_is_compared(place, capsys):
    """Images of another folder are in the log, and not among those that are compared."""
    arrive(0, 25)
    looked(capsys)
    (place / "elsewhere").mkdir()
    for file in (place / "data/inbox").iterdir():
        shutil.copy2(file, place / "elsewhere" / f"other-{file.name}")
    assert looked(capsys, "elsewhere")["images"] == 25
    assert looked(capsys)["images"] == 25


def test_the_log_is_put_together_without_losing_a_row(tmp_path):
    """Many small files become one; a row that is there twice, after a crash meanwhile, counts once; the latest are the latest."""
    log = Log(tmp_path)
    for number in range(70):
        row = dict.fromkeys(SCHEMA.names) | {"path": f"/in/{number}.png", "bytes": 1, "changed": number, "checkpoint_sha256": "a"}
        log.append([row])
    assert len(log.files()) == 70 - 64 + 1
    shutil.copy(log.files()[0], tmp_path / "00000000-whole.parquet")
    assert len(log.known("a")) == 70
    assert not log.known("b")
    assert [row["path"] for row in log.latest("a", 3, [Path("/in")])] == ["/in/67.png", "/in/68.png", "/in/69.png"]
    assert len(log.latest("a", 1000, [Path("/in")])) == 70
    assert not log.latest("a", 1000, [Path("/elsewhere")])


def test_the_latest_are_the_latest_when_the_clock_is_set_back(tmp_path, monkeypatch):
    """Rows that are added later come later, whatever the clock says."""
    log, clock = Log(tmp_path), iter(range(90 * 10**9, 0, -(10**9)))
    monkeypatch.setattr("time.time_ns", lambda: next(clock))
    for number in range(70):
        row = dict.fromkeys(SCHEMA.names) | {"path": f"/in/{number}.png", "bytes": 1, "changed": number, "checkpoint_sha256": "a"}
        log.append([row])
    assert [row["path"] for row in log.latest("a", 70, [Path("/in")])] == [f"/in/{number}.png" for number in range(70)]


def test_a_reference_is_of_held_out_images(place):
    """A reference draws from all parts alike, 300 at most, and is read as it was written."""
    classifier = Classifier.load(place / "model")
    parts = [np.full((200, 16, 16, 3), shade, np.uint8) for shade in (0, 255)]
    made = reference.make(classifier.answers, parts)
    assert len(made) == 300
    assert 100 < (np.abs(made.embeddings - made.embeddings[0]).max(1) < 1e-6).sum() < 200
    reference.write(place / "reference.npz", made)
    again = reference.read(place / "reference.npz")
    assert np.array_equal(again.embeddings, made.embeddings)
    assert np.array_equal(again.predicted, made.predicted)
