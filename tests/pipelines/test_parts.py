"""What flows are made of, without a server: DVC's file of locks, worktrees, what may pass by itself, what Prefect's pages show."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
from email.message import Message
from pathlib import Path

import psutil
import pytest

from darkroom import cli
from darkroom.core import errors
from darkroom.core.errors import WeightsError, WorkspaceError
from pipelines import artifacts, dvc_runner, schedule, stages, worktree


def test_locks_of_the_dead_are_taken_out(tmp_path):
    """Entries of processes that have gone, or began after the file was written, go; those of one that is at work stay."""
    here = {"pid": os.getpid(), "cmd": "dvc repro"}
    gone = {"pid": 2**22 + 1, "cmd": "dvc repro"}
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = {"pid": child.pid, "cmd": "dvc repro"}
    file = tmp_path / "rwlock"
    file.write_text(json.dumps({"write": {"a": here, "b": gone, "c": other}, "read": {"d": [gone, here], "e": [gone]}}))
    before = psutil.Process().create_time() - 10
    os.utime(file, (before, before))
    try:
        dvc_runner.unblock(file)  # of before this process and the child began
        assert json.loads(file.read_text()) == {"write": {}, "read": {}}
        file.write_text(json.dumps({"write": {"a": here, "b": gone}, "read": {"d": [gone, here], "e": [gone]}}))
        dvc_runner.unblock(file)
        assert json.loads(file.read_text()) == {"write": {"a": here}, "read": {"d": [here]}}
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize("text", ["", '{"write": {"a"', "[]"])
def test_a_file_of_locks_that_was_half_written_blocks_nobody(tmp_path, text):
    """Where the process that wrote it was killed in the middle, it is as if there were no locks."""
    file = tmp_path / "rwlock"
    file.write_text(text)
    dvc_runner.unblock(file)
    assert json.loads(file.read_text()) == {}
    dvc_runner.unblock(tmp_path / "none")


@pytest.mark.parametrize(("error", "passes"), [
    (ConnectionResetError(), True), (TimeoutError(), True), (urllib.error.URLError("no route"), True),
    (http.client.IncompleteRead(b""), True), (urllib.error.HTTPError("", 503, "", Message(), None), True),
    (urllib.error.HTTPError("", 404, "", Message(), None), False), (ValueError("hash"), False), (None, False),
])  # fmt: skip
def test_which_errors_are_retryable(error, passes):
    """The network and a server that is down may work later, what is not there and what is wrong may not; causes count."""
    assert errors.is_retryable(error) == passes
    around = RuntimeError("cannot be fetched")
    around.__cause__ = error
    assert errors.is_retryable(around) == passes


def test_it_is_told_by_the_exit_code(monkeypatch, capsys):
    """A command ends with 75 where the same may work later, with 2 otherwise; flows know the same number."""
    assert dvc_runner.EX_TEMPFAIL == errors.EX_TEMPFAIL == 75
    for retryable, code in ((True, 75), (False, 2)):
        monkeypatch.setattr(cli, "_stage", lambda *_, retryable=retryable: (_ for _ in ()).throw(WeightsError("a", "b", retryable)))
        assert cli.main(["weights", "vgg16"]) == code
        assert capsys.readouterr().err == "error: a\n  remedy: b\n"


def test_pauses_grow():
    """Attempts are 5, 10, 20 … seconds apart, and ten minutes at most."""
    assert [stages.pause(attempt) for attempt in (0, 1, 2, 6, 7, 50)] == [5, 10, 20, 320, 600, 600]


@pytest.mark.parametrize("registered", [True, False])
def test_the_verdict_as_a_table(registered):
    """Every check is a row, a veto stands out, and no text breaks the table."""
    checks = [
        {"name": "accuracy", "passed": True, "words": "fine"},
        {"name": "size", "passed": False, "words": "too | large\nby far"},
    ]
    known = {"name": "darkroom", "version": "3", "aliases": ["challenger"]} if registered else None
    decision = {"model": "baseline", "accuracy": 0.9, "promoted": False, "registered": known, "verdict": {"checks": checks}}
    text = artifacts.promotion(decision)
    assert text.startswith("# Not promoted\n**baseline**")
    assert ("is version 3 of darkroom (challenger)" in text) == registered
    assert "| accuracy | passed | fine |" in text
    assert "| size | **veto** | too \\| large by far |" in text


def test_of_the_outputs_people_see_the_leaderboard(tmp_path, monkeypatch):
    """Its numbers have four decimals at most; what a graph does not make, or has not made yet, is not shown."""
    shown = {}
    monkeypatch.setattr(artifacts, "create_table_artifact", lambda rows, key, description: shown.update({key: rows}))
    (tmp_path / "leaderboard.csv").write_text("model,accuracy,parameters\nbaseline,0.98412698,295290\nv1.5,1.0,3\n")
    artifacts.results(tmp_path, ["reports/other.csv", "leaderboard.csv", "promotion.json"])
    assert shown == {"leaderboard": [
        {"model": "baseline", "accuracy": "0.9841", "parameters": "295290"}, {"model": "v1.5", "accuracy": "1", "parameters": "3"},
    ]}  # fmt: skip


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """Return a project with a commit, DVC, and raw images that are not committed."""
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (place / "params.yaml").write_text("ingest: {source: photos}\nweights: {source: imagenet}\n")
    (place / "dvc.yaml").write_text("stages: {}\n")
    (place / "photos").mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
    commit("as it is")
    return place


def commit(message: str) -> None:
    subprocess.run(["git", "add", "params.yaml", "dvc.yaml", ".dvc"], check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", message], check=True)


def test_a_worktree_shares_what_is_not_committed(clone):
    """It has the commit's files, this folder's raw images, `.darkroom` and DVC's cache, and follows later commits."""
    (clone / ".dvc" / "config.local").write_text("['remote \"store\"']\n    url = /somewhere\n")
    place = worktree.at(worktree.commit_of("HEAD"), "some")
    assert (place / "photos").resolve() == clone / "photos"
    assert (place / ".darkroom").resolve() == clone / ".darkroom"
    local = (place / ".dvc" / "config.local").read_text()
    assert "url = /somewhere" in local
    assert str(clone / ".dvc" / "cache") in local
    (place / "dvc.yaml").write_text("changed by a run")
    (clone / "dvc.yaml").write_text("stages: {}\n# newer\n")
    commit("newer")
    assert worktree.at(worktree.commit_of("main"), "some") == place
    assert (place / "dvc.yaml").read_text() == "stages: {}\n# newer\n"
    (place / "dvc.lock").write_text("what was run there")
    (clone / "dvc.lock").write_text("what was run here")
    subprocess.run(["git", "add", "dvc.lock"], check=True)
    commit("with a lock")
    worktree.at(worktree.commit_of("HEAD"), "some")
    assert (place / "dvc.lock").read_text() == "what was run there"
    (clone / "params.yaml").write_text("ingest: {source: ../photos}\n")
    (clone.parent / "photos").mkdir()
    commit("outside")
    with pytest.raises(WorkspaceError, match="lies outside the project") as caught:
        worktree.at(worktree.commit_of("HEAD"), "some")
    assert caught.value.remedy == "write its whole path"


def test_results_are_committed_beside_the_working_tree(clone):
    """They go to a branch of their own, with the commit that was run as a parent; the same results make no second commit."""
    place = worktree.at(worktree.commit_of("HEAD"), "some")
    head = worktree.git("rev-parse", "HEAD")
    (place / "dvc.lock").write_text("one")
    first = worktree.keep(place, ["dvc.lock"], "results", "first")
    assert worktree.git("show", "results:dvc.lock") == "one"
    assert worktree.git("rev-list", "--parents", "-n1", "results").split() == [first, head]
    assert worktree.keep(place, ["dvc.lock"], "results", "again") == ""
    (clone / "dvc.yaml").write_text("stages: {}\n# newer\n")
    commit("newer")
    newer = worktree.git("rev-parse", "HEAD")
    worktree.at(newer, "some")
    (place / "dvc.lock").write_text("two")
    second = worktree.keep(place, ["dvc.lock"], "results", "second")
    assert worktree.git("rev-list", "--parents", "-n1", "results").split() == [second, first, newer]
    assert worktree.git("rev-parse", "main") == newer
    assert "dvc.lock" not in worktree.git("status", "--porcelain")


def test_a_number_that_was_given_again_is_another_process():
    """A process counts as running only where it began when it was noted."""
    mine = {"pid": os.getpid(), "born": psutil.Process().create_time()}
    assert schedule._runs(mine)
    assert not schedule._runs(mine | {"born": time.time()})
    assert not schedule._runs({"pid": 2**22 + 1, "born": 0.0})
    assert not schedule._runs(None)


def test_the_time_zone_is_the_machines(monkeypatch):
    """TZ goes first, then where /etc/localtime leads, then UTC."""
    monkeypatch.setenv("TZ", ":Europe/Lisbon")
    assert schedule._timezone() == "Europe/Lisbon"
    monkeypatch.delenv("TZ")
    monkeypatch.setattr(os.path, "realpath", lambda _: "/usr/share/zoneinfo/Asia/Kolkata")
    assert schedule._timezone() == "Asia/Kolkata"
    monkeypatch.setattr(os.path, "realpath", lambda _: "/etc/localtime")
    assert schedule._timezone() == "UTC"


def lives(number: int) -> bool:
    """Tell whether there is a process of that number that has not ended; it may go while it is asked."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_process_of_dvc_is_a_failure(clone):
    """Where the process that runs DVC is killed, what it ran ends with it, and that is an error and no cancelling."""
    (clone / "dvc.yaml").write_text("stages:\n  long:\n    cmd: sleep 300 & echo $! > pid; wait\n")
    with stages.Stages() as made:
        with pytest.raises(WorkspaceError, match="was killed"):
            made.dvc(["repro", "long"], {}, lambda line: made.process.kill() if line.startswith("> sleep") else None)
        file = clone / "pid"
        if child := int(file.read_text() or 0) if file.exists() else 0:  # it may have been killed before it wrote its number
            end = time.monotonic() + 10
            while time.monotonic() < end and lives(child):
                time.sleep(0.05)
            assert not lives(child)


def test_what_was_cut_off_runs_again_but_not_for_ever(monkeypatch):
    """A run whose worker ended runs again, the third time it is given up and told of; one that was being cancelled is cancelled."""
    cut = [("RUNNING", 1), ("PENDING", 0), ("RUNNING", schedule.TRIES), ("CANCELLING", 1)]
    runs = [
        {"id": str(i), "name": f"run {i}", "flow_id": "f", "state_type": kind, "run_count": count}
        for i, (kind, count) in enumerate(cut)
    ]
    became, heard = {}, []

    def asked(api, what, content=None):
        if what.endswith("set_state"):
            became[what.split("/")[1]] = content["state"]["type"]
            return None
        return runs if what == "flow_runs/filter" else {"name": "repro"}

    monkeypatch.setattr(schedule, "_asked", asked)
    monkeypatch.setattr(schedule.told, "tell", lambda *words: heard.append(words))
    schedule._resume("http://nowhere", "small")
    assert became == {"0": "SCHEDULED", "1": "SCHEDULED", "2": "CRASHED", "3": "CANCELLED"}
    assert [words[:4] for words in heard] == [("repro", "run 2", "2", "Crashed")]
