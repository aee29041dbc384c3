"""`darkroom monitor` classifies arriving images once, logs the predictions and tests for drift."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from darkroom.cli import main
from darkroom.core import locks
from darkroom.monitoring import history
from tests.conftest import ROOT, screenshot
from tests.monitoring import arrivals
from tests.monitoring.arrivals import CLASSES, arrive, picture


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a workspace with a checkpoint, bright held-out images, and an empty inbox."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    arrivals.write_model()
    (tmp_path / "data/inbox").mkdir(parents=True)
    return tmp_path


def monitor(capsys, *arguments: str) -> dict:
    """Return the check, whose exit code is 3 where there is drift."""
    capsys.readouterr()
    code = main(["monitor", "--model", "model", "--json", *arguments])
    check = json.loads(capsys.readouterr().out)
    assert code == (3 if check["drifted"] else 0)
    return check


def test_images_are_classified_once(place, capsys):
    """A file is classified once, again when it has changed, and not while it may still be written."""
    arrive(0, 25)
    assert monitor(capsys)["new"] == 25
    assert monitor(capsys)["new"] == 0
    arrive(25, 2)
    os.utime(place / "data/inbox/25.png", (time.time() + 600,) * 2)  # in the future: not fresh
    os.utime(place / "data/inbox/0.png", (time.time() - 30,) * 2)
    assert monitor(capsys)["new"] == 3
    arrive(27, 1)
    os.utime(place / "data/inbox/27.png")
    fresh = monitor(capsys)["new"]
    assert fresh == 0 or time.time() - (place / "data/inbox/27.png").stat().st_mtime > 2  # a slow machine
    rows = pq.ParquetDataset(place / "reports/monitoring/log").read().to_pylist()
    assert len(rows) == 28 + fresh
    assert {row["label"] for row in rows} <= set(CLASSES)
    assert all(sum(share for _, share in row["probabilities"]) == pytest.approx(1, abs=1e-5) for row in rows)


@pytest.mark.slow
def test_other_images_are_drift(place, capsys):
    """Images like those held out are no drift, other ones are; the history has each check; other options test
    anew, and the same ones when enough images have arrived. Drift has exit code 3.

    The page shows the result, needs no network, has no script error, and follows the dark scheme.
    """
    arrive(0, 40)
    assert not monitor(capsys, "--window", "40")["drifted"]
    arrive(40, 40, dark=True)
    drifted = monitor(capsys, "--window", "40")
    assert drifted["drifted"]
    assert drifted["flags"]["dark"] == 40
    arrive(80, 10, dark=True)
    waiting = monitor(capsys, "--window", "40")
    assert waiting["drifted"]
    assert waiting["tests"] == drifted["tests"]
    assert "the next test is after" in waiting["summary"]
    assert monitor(capsys, "--window", "40")["drifted"]
    past = history.read(place / "reports/monitoring")
    assert [(check.drifted, check.is_test) for check in past] == [(False, True), (True, True), (True, False)]
    assert past[1].level < past[0].level
    assert not monitor(capsys, "--window", "100", "--min-images", "91")["drifted"]
    assert main(["monitor", "--model", "model", "--least", "20"]) == 3
    assert "DRIFT" in capsys.readouterr().out
    page = place / "reports/monitoring/index.html"
    assert 'src="http' not in page.read_text()
    assert "url(" not in page.read_text()
    for dark in (False, True):
        picture, console = screenshot(page, dark)
        assert "CONSOLE" not in console
        corner = np.asarray(picture.convert("L"))[5, 5]
        assert (corner < 60) if dark else (corner > 200)


def test_an_image_of_each_series_counts(place, capsys):
    """Of 60 images in series of three, 20 are compared; 57 images in 19 series are too few, and the check says so."""
    rng = np.random.default_rng(0)

    def arrive_series(start: int, count: int) -> None:
        for number in range(start, start + count):
            pixels = np.asarray(picture(rng)).astype(int)
            for part in range(3):
                file = place / f"data/inbox/{number}-{part}.png"
                Image.fromarray((pixels - 4 * part).clip(0, 255).astype(np.uint8)).save(file)
                os.utime(file, (1e9, 1e9))

    arrive_series(0, 19)
    few = monitor(capsys)
    assert (few["images"], few["series"], few["waiting"], few["tests"]) == (57, 19, 1, [])
    assert "57 images in 19 series are too few" in few["summary"]
    arrive_series(19, 1)
    tested = monitor(capsys)
    assert (tested["images"], tested["series"], tested["waiting"]) == (60, 20, 0)
    assert len(tested["tests"]) == 3
    assert not tested["drifted"]


def test_few_and_broken_images(place, capsys):
    """Too few images are not tested; an unreadable one has a row with the reason and is not compared."""
    arrive(0, 3)
    (place / "data/inbox/broken.png").write_bytes(b"broken")
    os.utime(place / "data/inbox/broken.png", (1, 1))
    check = monitor(capsys)
    assert (check["new"], check["unreadable"], check["images"], check["tests"]) == (4, 1, 3, [])
    errors = [row["error"] for row in pq.ParquetDataset(place / "reports/monitoring/log").read().to_pylist()]
    assert sorted(filter(None, errors)) == ["not_an_image"]


def test_mistakes_have_a_remedy(place, capsys):
    """A missing folder, a wrong limit, window or level, and a model without a reference end with exit code 2."""
    limits = [["--limit", limit] for limit in ("class=1", "classes=x", "classes=nan", "classes=2")]
    wrong = (["nowhere"], *limits, ["--window", "1"], ["--window", "5"], ["--alpha", "2"], ["--alpha", "0.0001"])
    for arguments in wrong:
        assert main(["monitor", "--model", "model", *arguments]) == 2
        assert "remedy" in capsys.readouterr().err
    classes = place / "data/ingested/classes.json"
    classes.write_text('["cat", "dog"]')
    assert main(["monitor", "--model", "model"]) == 2
    assert "without a reference" in capsys.readouterr().err


def test_one_check_at_a_time(place, capsys, monkeypatch):
    """While another check runs, the exit code is 75 (retry later)."""
    monkeypatch.setattr("darkroom.commands.monitor.WAIT", 0.0)
    with locks.hold(place / "reports/monitoring/.lock"):
        assert main(["monitor", "--model", "model"]) == 75
    assert "reports/monitoring" in capsys.readouterr().err


def test_damage_to_the_log_and_the_history_costs_itself_alone(place, capsys):
    """After a power cut a half line of the history takes no other with it, and a broken file of the log is
    set aside."""
    arrive(0, 20)
    monitor(capsys)
    with (place / "reports/monitoring/history.jsonl").open("ab") as file:
        file.write('{"summary": "ö'.encode()[:-1])
    (place / "reports/monitoring/log/00000000.parquet").write_bytes(b"")
    arrive(20, 1)
    assert monitor(capsys)["new"] == 1
    assert len(history.read(place / "reports/monitoring")) == 2
    assert (place / "reports/monitoring/log/00000000.damaged").exists()


def test_a_file_that_cannot_be_opened_is_tried_again(place, capsys, monkeypatch):
    """A file that the system does not open counts as unreadable, and is classified by the next check."""
    arrive(0, 3)
    read = Path.read_bytes

    def failing(self: Path) -> bytes:
        if self.name == "1.png":
            raise OSError(5, "Input/output error")
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        check = monitor(capsys)
    assert (check["new"], check["unreadable"]) == (3, 1)
    assert monitor(capsys)["new"] == 1


def test_only_images_of_the_named_folder_are_compared(place, capsys):
    """Images of another folder are in the log, and are not compared."""
    arrive(0, 25)
    monitor(capsys)
    (place / "elsewhere").mkdir()
    for file in (place / "data/inbox").iterdir():
        shutil.copy2(file, place / "elsewhere" / f"other-{file.name}")
    assert monitor(capsys, "elsewhere")["images"] == 25
    assert monitor(capsys)["images"] == 25
