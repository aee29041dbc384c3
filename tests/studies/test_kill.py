"""A study whose process is killed goes on where it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.studies import cache, search, trainer
from tests.conftest import ROOT
from tests.studies.conftest import run_study

pytestmark = pytest.mark.slow
KEPT = 3
KILLED = f"""
import sys, time
import pytest
from darkroom.studies import search, trainer
from tests.studies import conftest

count, train = 0, trainer.train

def train_some(*arguments, **options):
    global count
    results = train(*arguments, **options)
    count += 1
    if count > {KEPT}:
        print("a training is over, and not kept", flush=True)
        time.sleep(600)
    return results

trainer.train = search.train = train_some
conftest.shrink(pytest.MonkeyPatch())
conftest.run_study(sys.argv[1])
"""


@pytest.mark.parametrize("name", ["cnn", "tune"])
def test_a_study_that_was_killed_has_the_results_of_an_undisturbed_one(name, results_of, workspace, monkeypatch):
    """After SIGKILL a study, and a search, train what was not finished alone, and their tables have the same bytes."""
    whole = results_of(name)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    with subprocess.Popen([sys.executable, "-c", KILLED, name], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert any("not kept" in line for line in process.stdout), "the study ended before it was killed"
        process.kill()
    assert not Path("studies/results").exists()
    kept = {file: file.stat().st_mtime_ns for file in cache.FOLDER.glob("*.jsonl")}
    assert len(kept) == KEPT

    trained = []
    train = trainer.train

    def count(unit, *arguments, **options):
        trained.append(unit)
        return train(unit, *arguments, **options)

    monkeypatch.setattr(trainer, "train", count)
    monkeypatch.setattr(search, "train", count)
    results = run_study(name)
    units = [file.name for file in (whole.parents[2] / cache.FOLDER).glob("*.jsonl")]
    assert len(trained) == len(units) - KEPT > 0
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert sorted(file.name for file in cache.FOLDER.iterdir()) == sorted(units)
    tables = [file.name for file in whole.iterdir() if file.suffix in (".csv", ".json")]
    assert {"results.csv", "curves.csv", "layers.csv", "summary.json"} <= set(tables)
    for table in tables:
        assert (results / table).read_bytes() == (whole / table).read_bytes(), table
