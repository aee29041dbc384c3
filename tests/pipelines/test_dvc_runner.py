"""DVC as flows run it: temporary failures, time limits, locks of processes that ended, and the graph."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from darkroom.core import errors, shortage
from darkroom.core.errors import ParamsError, WorkspaceError
from pipelines import dvc_runner, stage_graph
from pipelines.dvc_runner import DvcRunner, retry_delay, skip_reason
from pipelines.process_groups import ProcessGroups
from tests.pipelines.processes import is_alive, wait_until

pytestmark = pytest.mark.pipeline
GRAPH = """\
stages:
  first:
    cmd: sh first.sh
    deps: [first.sh]
    outs: [first.txt]
  second:
    cmd: cp first.txt second.txt
    deps: [first.txt]
    outs: [{second.txt: {cache: false}}]
"""
FAILURES = {75: "exit 75", 2: "echo 'error: a\n  remedy: b'; exit 2"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """Return a folder with git, DVC and a graph of two stages."""
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    (folder / "dvc.yaml").write_text(GRAPH)
    return folder


@pytest.fixture
def runner(repository):
    """Yield a runner in the repository, whose stages have not run."""
    for path in (repository / "dvc.lock", repository / ".dvc" / "tmp" / "rwlock"):
        path.unlink(missing_ok=True)
    (repository / "first.sh").write_text("echo done | tee first.txt\n")
    with ProcessGroups() as processes:
        yield DvcRunner(processes, repository)


def hold_rwlock(repository: Path, pid: int) -> Path:
    """Write DVC's file of path locks as a process has it that runs the first stage."""
    file = repository / ".dvc" / "tmp" / "rwlock"
    content = {"write": {str(repository / "first.txt"): {"pid": pid, "cmd": "dvc repro"}}, "read": {}}
    file.write_text(json.dumps(content))
    return file


def test_a_stage_runs_and_is_then_skipped(runner):
    """The output of a stage is passed on without DVC's advice.

    The second time DVC tells why it did not run the stage.
    """
    lines: list[str] = []
    result = runner.dvc("repro", "--single-item", "first", on_line=lines.append)
    assert (result.returncode, skip_reason(result)) == (0, "")
    assert "done" in lines
    assert not [line for line in lines if "git add" in line or "dvc push" in line]
    assert "didn't change" in skip_reason(runner.dvc("repro", "--single-item", "first"))


@pytest.mark.parametrize("code", [75, 2])
def test_a_stage_that_exits_with_75_is_retryable(runner, code):
    """DVC's message gives the stage's exit code.

    A mistake is not retryable, and its message and remedy are kept.
    """
    (runner.folder / "first.sh").write_text(FAILURES[code])
    result = runner.dvc("repro", "--single-item", "first")
    assert result.returncode != 0
    assert result.retryable == (code == 75)
    if code == 2:
        assert result.error.startswith("error: a\n  remedy: b")


@pytest.mark.parametrize("command", ["kill -9 $$", "echo '... exited with -9'; exit 137"])
def test_a_killed_stage_is_retryable_and_has_a_sentence(runner, command):
    """A stage that SIGKILL ends, or whose shell says so, has the sentence of `darkroom repro`; other signals do not."""
    (runner.folder / "first.sh").write_text(command)
    result = runner.dvc("repro", "--single-item", "first")
    assert (result.retryable, result.killed) == (True, True)
    assert result.error == f"error: {shortage.killed('stage first')}"
    (runner.folder / "first.sh").write_text("echo 'exited with -9'; kill -TERM $$")
    result = runner.dvc("repro", "--single-item", "first")
    assert (result.retryable, result.killed) == (False, False)


def test_locks_of_other_processes_are_retryable(runner):
    """The messages by which DVC reports a lock on paths and the lock of the repository are recognised."""
    hold_rwlock(runner.folder, os.getpid())
    assert runner.dvc("repro", "--single-item", "first").retryable
    with FileLock(runner.folder / ".dvc" / "tmp" / "lock"):
        assert runner.dvc("status").retryable


@pytest.mark.parametrize("written", ["schema: '2.0'\nstages:\n  first:\n", "schema: '2.0'\nstages:\n  first: {cmd: [a"])
def test_a_lock_file_that_another_dvc_writes_is_retryable(runner, written):
    """DVC writes dvc.lock in place: one that is cut off and has just changed may be whole a moment later, an old one will not."""
    file = runner.folder / "dvc.lock"
    file.write_text(written)
    assert runner.dvc("status").retryable
    command = [sys.executable, str(dvc_runner.SCRIPT), "[]", "false"]
    codes = []
    for age in (0, 60):
        moment = time.time() - age
        os.utime(file, (moment, moment))
        codes.append(subprocess.run(command, cwd=runner.folder, capture_output=True, check=False).returncode)
    assert codes == [75, 2]


def test_the_graph_has_the_stages_in_order(runner):
    """Stages follow those whose outputs they read.

    A stage below a changed one is changed; targets limit the graph.
    """
    graph = runner.stages([])
    assert list(graph) == ["first", "second"]
    assert (graph["first"].upstream, graph["second"].upstream) == ([], ["first"])
    assert (graph["second"].outs, graph["second"].git_outs) == (["second.txt"], ["second.txt"])
    assert graph["first"].reasons == ["it has not run here yet"]
    assert list(runner.stages(["first"])) == ["first"]
    assert runner.dvc("repro").returncode == 0
    assert not any(stage.changed for stage in runner.stages([]).values())
    (runner.folder / "first.sh").write_text("echo again > first.txt\n")
    graph = runner.stages([])
    assert graph["first"].reasons == ["first.sh modified"]
    assert graph["second"].changed
    with pytest.raises(WorkspaceError, match="no-such-stage"):
        runner.stages(["no-such-stage"])


def test_a_command_of_the_package_returns_its_output_or_raises(runner):
    """A refused command raises an error with its message and remedy."""
    with pytest.raises(ParamsError) as caught:
        runner.darkroom("lineage-of-nothing")
    assert caught.value.remedy
    assert runner.darkroom("--version").startswith("darkroom ")


def test_stale_path_locks_do_not_block(runner):
    """DVC's file of path locks is removed where its processes ended, or began after it was written.

    A live one's stays.
    """
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        file = hold_rwlock(runner.folder, child.pid)
        stage_graph.remove_stale_rwlock(file)
        assert file.exists()
        before = psutil.Process(child.pid).create_time() - 10
        os.utime(file, (before, before))
        runner.stages([])  # a process that got the id after the file was written does not hold the lock
        assert runner.dvc("repro", "--single-item", "first").returncode == 0
    finally:
        child.communicate(b"\n")
    hold_rwlock(runner.folder, child.pid)
    stage_graph.remove_stale_rwlock(file)
    assert not file.exists()


@pytest.mark.parametrize("text", ["", '{"write": {"a"', "[]"])
def test_a_truncated_file_of_path_locks_does_not_block(tmp_path, text):
    """Where its writer was killed, the file is removed."""
    file = tmp_path / "rwlock"
    file.write_text(text)
    stage_graph.remove_stale_rwlock(file)
    assert not file.exists()
    stage_graph.remove_stale_rwlock(file)


def test_retry_delays_grow():
    """Attempts are 5, 10, 20 … seconds apart, and ten minutes at most."""
    assert [retry_delay(attempt) for attempt in (0, 1, 2, 6, 7, 50)] == [5, 10, 20, 320, 600, 600]


def test_the_graph_is_retried_while_dvc_is_locked(runner, monkeypatch, capsys):
    """While another process holds DVC's lock, reading the graph is retried, and fails with DVC's message in
    the end."""
    monkeypatch.setattr(dvc_runner, "RETRY_DELAYS", (0.0, 0.0))
    with FileLock(runner.folder / ".dvc" / "tmp" / "lock"), pytest.raises(WorkspaceError, match="lock"):
        runner.stages([], retries=1)
    assert "retrying in 0 s" in capsys.readouterr().out


def test_the_exit_code_of_temporary_failures_is_the_same_everywhere():
    """The script that imports DVC, but nothing of the package, has the package's exit code."""
    assert stage_graph.EX_TEMPFAIL == errors.EX_TEMPFAIL


def test_a_killed_dvc_is_a_failure(runner):
    """Where DVC is killed, its stage ends too, and the result is a failure that is not retried."""
    (runner.folder / "first.sh").write_text("echo started $$; sleep 600\n")
    stages: list[int] = []

    def kill_dvc(line: str) -> None:
        if line.startswith("started"):
            stages.append(int(line.split()[1]))
            os.kill(os.getpgid(stages[0]), signal.SIGKILL)  # the leader of the group

    result = runner.dvc("repro", "--single-item", "first", on_line=kill_dvc)
    assert (result.returncode, result.retryable) == (-signal.SIGKILL, False)
    wait_until(lambda: not is_alive(stages[0]))
