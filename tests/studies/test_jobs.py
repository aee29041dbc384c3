"""Runs of a study as jobs for other machines."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
import yaml

from darkroom import cli
from darkroom.commands import flow
from darkroom.studies import cache, jobs, trainer
from tests.studies.conftest import contents, enter_recorded, read_records, run_study, split_records, write_project


class Elsewhere:
    """The flow that runs jobs, as other machines do: in the folder of the graph, in the order that it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: int = 0) -> None:
        self.fails, self.ran = fails, []
        monkeypatch.setattr(flow, "run", self.run)

    def run(self, *words: str) -> int:
        assert words[:4] == ("study_members", "--pool", "gpus", "--folder")
        folder = Path(words[-1])
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            stages = yaml.safe_load(jobs.GRAPH.read_text())["stages"]
            todo = dict(stages)
            while todo:
                outs = [out for stage in todo.values() for out in stage["outs"]]
                name = next(name for name, stage in todo.items() if not set(stage["deps"]) & set(outs))
                stage = todo.pop(name)
                assert all(Path(dep).is_file() for dep in stage["deps"])
                if len(self.ran) >= len(stages) - self.fails:
                    return 1
                assert cli.main(stage["cmd"].split()[1:]) == 0
                assert all(Path(out).is_file() for out in stage["outs"])
                self.ran.append(name)
        return 0


@pytest.mark.parametrize(
    ("name", "work"), [("mlp", 0), ("cnn", jobs.WORK), ("transfer", 3e8), ("practice", 0), ("features", 0), ("tune", 0)]
)
def test_runs_of_other_machines_give_the_same_bytes(name, work, results_of, workspace, monkeypatch):
    """What jobs train, stacks, pretraining and predictions included, gives the files of a local run, and is trained once.

    A job has as many units as its work allows.
    """
    monkeypatch.setattr(jobs, "WORK", work)
    whole = results_of(name)
    elsewhere = Elsewhere(monkeypatch)
    results = run_study(name, options=("--pool", "gpus"))
    here = {path.name for path in cache.FOLDER.iterdir()}
    assert here == {path.name for path in (whole.parents[2] / cache.FOLDER).iterdir()}
    units = sum(file.endswith(".jsonl") for file in here)
    if work == 0 and name != "tune":  # whose trials are trained here
        assert len(elsewhere.ran) == units
    else:
        assert 0 < len(elsewhere.ran) < units
    assert contents(results) == contents(whole)
    monkeypatch.setattr(flow, "run", None)  # with all results in the cache nothing is asked for
    run_study(name, options=("--pool", "gpus"))
    assert not any(path.name.startswith("study_members") for path in Path(".darkroom").iterdir())


def test_a_pretraining_that_is_cached_here_is_still_a_job(results_of, workspace, monkeypatch):
    """Where the weights of a pretraining are cached and runs that begin with them are not, other machines get the weights, too."""
    whole = results_of("transfer")
    shutil.copytree(whole.parents[2] / cache.FOLDER, cache.FOLDER)
    (weights,) = cache.FOLDER.glob("*.safetensors")
    for file in cache.FOLDER.glob("*.jsonl"):
        if file.stem != weights.stem:
            file.unlink()
    Elsewhere(monkeypatch)
    assert contents(run_study("transfer", options=("--pool", "gpus"))) == contents(whole)


def test_each_run_of_another_machine_is_recorded_once(results_of, tmp_path, monkeypatch):
    """The machine that asks records each run, as where it trains itself; those that came before others failed stay."""
    write_project(tmp_path)
    enter_recorded(tmp_path, monkeypatch)
    monkeypatch.setattr(jobs, "WORK", 0)
    Elsewhere(monkeypatch, fails=1)
    with pytest.raises(AssertionError):
        run_study("cnn", options=("--pool", "gpus"))
    assert not Path("studies/results").exists()
    kept = len(list(cache.FOLDER.glob("*.jsonl")))
    _, members = split_records(read_records(tmp_path))
    assert len(members) == kept > 0
    whole = split_records(read_records(results_of("cnn").parents[2]))[1]
    elsewhere = Elsewhere(monkeypatch)
    run_study("cnn", options=("--pool", "gpus"))
    assert len(elsewhere.ran) == len(whole) - kept == 1


def test_a_flow_ends_with_the_command_that_waits_for_it(monkeypatch):
    """SIGTERM, which ends a command, is handed on to its flow, and the exit code is that of a shell."""
    monkeypatch.setattr(flow, "program", lambda module: [sys.executable, "-c", "import time; time.sleep(60)"])
    timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    before = signal.getsignal(signal.SIGTERM)
    assert flow.run("study_members") == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_machine_with_other_code_is_refused(workspace, monkeypatch, capsys):
    """A job whose content address is another one here ends with its remedy before it trains."""

    def spoil(*words: str) -> int:
        monkeypatch.chdir(words[-1])
        monkeypatch.setattr(cache, "code_digest", lambda: "other")
        monkeypatch.setattr(trainer, "train", None)
        job = next(Path(jobs.JOBS).iterdir())
        assert cli.main(["study-member", str(job)]) == 2
        message = capsys.readouterr().err
        assert "other libraries" in message
        assert "remedy:" in message
        monkeypatch.chdir(workspace)
        return 2

    monkeypatch.setattr(flow, "run", spoil)
    with pytest.raises(AssertionError):
        run_study("cnn", options=("--pool", "gpus"))
    assert cli.main(["study-member", "nothing.json"]) == 2
    assert "remedy:" in capsys.readouterr().err
