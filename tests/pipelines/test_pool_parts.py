"""Stages on other machines: what goes there, what is refused, when a run counts as dead, and a worker's clones."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Failed

from darkroom.core.errors import EX_TEMPFAIL, ParamsError, WorkspaceError
from pipelines import flow_runtime, pool_clones, pool_runs, pool_setup, pool_stage, pool_worker, repro, retrain, stage_graph
from pipelines.dvc_runner import Stage
from pipelines.process_groups import CommandResult
from pipelines.repro import GraphRun, Options, RetryableError
from tests.conftest import ROOT


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with a commit, whose project is in a folder of it."""
    folder = tmp_path / "repository"
    (folder / "sub" / ".dvc").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for name, text in {
        "code/a.py": "1",
        "weights/README": "1",
        "mixed/a.py": "1",
        ".dvcignore": "__pycache__\n",
        ".gitignore": "*.weights\n__pycache__\n",
        ".dvc/config": "",
    }.items():
        (folder / "sub" / name).parent.mkdir(exist_ok=True)
        (folder / "sub" / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    return folder


def stage(*files: str, portable: bool = True) -> Stage:
    return Stage([], True, [], [], [], list(files), portable=portable)


def test_what_git_does_not_have_stays_here(repository):
    """A stage goes elsewhere where git has all its files; one with an untracked, ignored, outer or missing file runs here."""
    project = repository / "sub"
    for name in ("code/__pycache__/a.pyc", "weights/x.weights", "more/new.py", "mixed/new.py", "raw/cat/1.jpg"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    graph = {
        "tracked": stage("code"), "none": stage(), "ignored": stage("code", "weights"), "untracked": stage("more"),
        "mixed": stage("mixed"),
        "outside": stage("/photos"), "above": stage("../x"), "missing": stage("gone"), "uncached": stage("code", portable=False),
    }  # fmt: skip
    assert pool_setup._portable(graph, project) == {"tracked", "none"}


def out(path: str, cached: bool = True) -> SimpleNamespace:
    return SimpleNamespace(fs_path=f"/p/{path}", def_path=path, use_cache=cached, persist=False)


def test_what_a_stage_reads_of_others():
    """Outputs of other stages are pulled also where a dependency is a folder of several or lies in one; the rest are files."""
    outs = [out("models/a"), out("models/b"), out("data/in"), out("data/other")]
    deps = [out("models"), out("data/in/train"), out("code")]
    found = stage_graph.inputs(SimpleNamespace(cmd="x", deps=deps, outs=[out("o")]), outs)
    assert found == {"files": ["code"], "inputs": ["data/in", "models/a", "models/b"], "gathered": ["models"], "portable": True}
    added = SimpleNamespace(fs_path="/p/samples/a", def_path="a", use_cache=True)  # of samples/a.dvc
    reader = SimpleNamespace(cmd="x", deps=[out("samples/a")], outs=[out("o")])
    assert stage_graph.inputs(reader, [added])["inputs"] == ["samples/a"]
    for reads, writes in (([out("metrics", cached=False)], [out("o")]), ([out("data/in")], [out("decision", cached=False)])):
        assert not stage_graph.inputs(SimpleNamespace(cmd="x", deps=reads, outs=writes), reads)["portable"]


class Server:
    """A client of a server that has these workers, or no such pool."""

    def __init__(self, *statuses: WorkerStatus, exists: bool = True, is_paused: bool = False) -> None:
        self.workers, self.exists, self.is_paused = [SimpleNamespace(status=status) for status in statuses], exists, is_paused
        self.beats: list[object] = []

    def read_work_pool(self, name: str) -> Server:
        if not self.exists:
            raise ObjectNotFound(None)
        return self

    def read_workers_for_work_pool(self, name: str) -> list[SimpleNamespace]:
        return self.workers

    def read_events(self, events: object, limit: int) -> SimpleNamespace:
        return SimpleNamespace(events=[SimpleNamespace(id=beat) for beat in self.beats[-1:]])


@pytest.mark.parametrize(
    ("server", "problem", "retryable"),
    [
        (None, "temporary Prefect server", False),
        (Server(exists=False), "has no work pool gpus", False),
        (Server(WorkerStatus.ONLINE, is_paused=True), "is paused", False),
        (Server(WorkerStatus.OFFLINE), "no worker polls", True),
        (Server(WorkerStatus.OFFLINE, WorkerStatus.ONLINE), "", False),
    ],
)
def test_a_pool_without_workers_is_refused(monkeypatch, server, problem, retryable):
    """Each lack is one sentence with its remedy, which a worker's start may mend where nobody polls the pool."""

    @contextmanager
    def client(sync_client: bool):
        yield server

    monkeypatch.setattr(pool_setup, "get_client", client)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api" if server else "")
    if not problem:
        pool_setup.check_pool("gpus")
        return
    with pytest.raises(WorkspaceError, match=problem) as caught:
        pool_setup.check_pool("gpus")
    assert caught.value.retryable == retryable
    assert caught.value.remedy


def test_workers_clone_from_the_remote_of_the_branch(repository):
    """Without a remote there is a remedy; of several that of the branch counts, else origin."""
    with pytest.raises(WorkspaceError, match="git has no remote") as caught:
        pool_setup._git_remote(repository)
    assert "git remote add origin" in caught.value.remedy
    git(repository, "remote", "add", "first", "https://a.example/x.git")
    assert pool_setup._git_remote(repository) == ("first", "https://a.example/x.git")
    git(repository, "remote", "add", "second", "https://b.example/x.git")
    with pytest.raises(WorkspaceError, match="git has no remote"):
        pool_setup._git_remote(repository)
    git(repository, "config", "branch.main.remote", "second")
    assert pool_setup._git_remote(repository)[0] == "second"


def test_a_stage_that_was_killed_elsewhere_is_retried_once(tmp_path, monkeypatch):
    """A worker's run whose stage SIGKILL has ended says so, and is retried once; other temporary failures are retried each time."""
    work = pool_stage._Work(tmp_path, "left", {}, None)
    killed = work._failed(["repro"], CommandResult(EX_TEMPFAIL, ["error: it was killed"], killed=True))
    missing = Failed(name=flow_runtime.UNAVAILABLE, message="away")
    run = GraphRun(SimpleNamespace(), Options(), "", threading.Semaphore())
    monkeypatch.setattr(run, "_delay_retry", lambda: None)
    monkeypatch.setattr(repro, "get_run_logger", lambda: SimpleNamespace(info=print))

    def ends(name, state):
        pool = SimpleNamespace(run=lambda *_: SimpleNamespace(state=state, name="run"))
        return type(run.in_pool(pool, name, stage()).data)

    assert "it was killed" in killed.message
    assert [ends("left", state) for state in (killed, missing, killed, missing)] == [
        RetryableError, RetryableError, RuntimeError, RetryableError,
    ]  # fmt: skip
    assert ends("right", killed) is RetryableError


def test_a_server_that_is_away_is_a_temporary_failure(monkeypatch, capsys):
    """A stage in a pool is retried where the server does not respond; a flow that ends without it says so, exit code 75."""

    def fail(*_: object, **__: object) -> None:
        raise httpx.ConnectError("connection refused")

    run = GraphRun(SimpleNamespace(), Options(), "", threading.Semaphore())
    monkeypatch.setattr(run, "_delay_retry", lambda: None)
    monkeypatch.setattr(repro, "get_run_logger", lambda: SimpleNamespace(info=print))
    assert type(run.in_pool(SimpleNamespace(run=fail), "left", stage()).data) is RetryableError

    limits: list[int] = []
    monkeypatch.setattr(flow_runtime, "limit_end", limits.append)
    for module, name in (
        (flow_runtime.stage_code, "check"),
        (flow_runtime.params, "read"),
        (flow_runtime.server, "check_response"),
    ):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setenv("PREFECT_API_URL", "http://me:secret@host/api")
    monkeypatch.chdir(ROOT)
    flow = mock.Mock(side_effect=fail)
    assert flow_runtime.run_flow(flow, {}) == EX_TEMPFAIL
    assert limits == [EX_TEMPFAIL]
    printed = capsys.readouterr().err
    assert "http://host/api does not respond any more: connection refused" in printed
    assert "remedy:" in printed


def test_a_run_without_heartbeats_is_dead(monkeypatch):
    """A run that runs is dead after SILENCE without a new heartbeat or state, one that a worker took after PENDING; one that waits
    for a worker is not, nor one of a server that keeps no heartbeats.
    """
    now = 0.0
    monkeypatch.setattr(pool_runs.time, "monotonic", lambda: now)
    server, run_id = Server(), uuid4()

    def run(state: StateType, name: str) -> SimpleNamespace:
        return SimpleNamespace(id=run_id, state_type=state, state=SimpleNamespace(id=name))

    life = pool_runs._SignsOfLife(run(StateType.SCHEDULED, "s"))
    now = 10_000.0
    assert not life.missing(server, run(StateType.SCHEDULED, "s"))
    assert not life.missing(server, run(StateType.PENDING, "p"))
    now += pool_runs.PENDING - 1
    assert not life.missing(server, run(StateType.PENDING, "p"))
    assert not life.missing(server, run(StateType.RUNNING, "r"))
    now += 10 * pool_runs.SILENCE
    assert not life.missing(server, run(StateType.RUNNING, "r"))
    for _ in range(5):
        now += pool_runs.SILENCE - 1
        server.beats.append(uuid4())
        assert not life.missing(server, run(StateType.RUNNING, "r"))
    now += pool_runs.SILENCE - 1
    assert not life.missing(server, run(StateType.RUNNING, "r"))
    now += pool_runs.SIGN_POLL
    assert "no heartbeat" in life.missing(server, run(StateType.RUNNING, "r"))
    life = pool_runs._SignsOfLife(run(StateType.PENDING, "p"))
    assert not life.missing(server, run(StateType.PENDING, "p"))
    now += pool_runs.PENDING + 1
    assert "has not begun it" in life.missing(server, run(StateType.PENDING, "p"))


def test_a_clone_is_used_by_one_stage_at_a_time(repository, tmp_path, monkeypatch):
    """Two stages have two clones with one cache, each with the project's folder at the commit; what a killed stage left is gone,
    what MLflow does not have yet of an ended one stays.
    """
    monkeypatch.setenv(pool_clones.FOLDER, str(tmp_path / "worker"))
    commit = git(repository, "rev-parse", "HEAD")
    arguments = (str(repository), "HEAD", commit, "sub")
    with pool_clones.take(*arguments) as first, pool_clones.take(*arguments) as second:
        assert first != second
        assert (first / "code" / "a.py").read_text() == "1"
        caches = {(folder / ".dvc" / "config.local").read_text() for folder in (first, second)}
        assert len(caches) == 1
    (first / "code" / "a.py").write_text("edited")
    (first / "code" / "b.py").write_text("new")
    (first / "models").mkdir()
    (first / "models" / "old.weights").write_text("an ignored output stays")
    for name, kinds in {"killed": ["start"], "ended": ["start", "end"]}.items():
        record = first / ".darkroom" / "journal" / name / "record.jsonl"
        record.parent.mkdir(parents=True)
        record.write_text("".join(json.dumps({"kind": kind}) + "\n" for kind in kinds))
    git(repository, "commit", "-q", "--allow-empty", "-m", "two")
    with pool_clones.take(str(repository), "HEAD", git(repository, "rev-parse", "HEAD"), "sub") as again:
        assert again == first
        assert sorted(path.name for path in (again / "code").iterdir()) == ["a.py"]
        assert (again / "code" / "a.py").read_text() == "1"
        assert [path.parent.name for path in (again / ".darkroom" / "journal").glob("*/record.jsonl")] == ["ended"]
        assert not pool_clones.are_records_sent(again)
        assert (again / "models" / "old.weights").exists()
        pool_clones.clean(again, ["models"])
        assert not (again / "models").exists()


def test_a_commit_that_cannot_be_fetched_is_named(tmp_path, monkeypatch):
    """A worker without access to the repository says so in one sentence."""
    monkeypatch.setenv(pool_clones.FOLDER, str(tmp_path / "worker"))
    with (
        pytest.raises(WorkspaceError, match="cannot fetch") as caught,
        pool_clones.take(str(tmp_path / "none"), "HEAD", "1" * 40, ""),
    ):
        pass
    assert "git ls-remote" in caught.value.remedy


def test_a_worker_passes_on_where_its_clones_are(tmp_path):
    """Runs of a worker find its folder and this package; a person's own settings stay."""
    found = pool_worker.environment(
        tmp_path, {"PREFECT_API_URL": "http://h/api", "PREFECT_WORKER_QUERY_SECONDS": "9", "PYTHONPATH": "/x"}
    )
    assert found[pool_clones.FOLDER] == str(tmp_path)
    assert found["PYTHONPATH"].split(":") == [str(Path(pool_worker.__file__).parents[1]), "/x"]
    assert found["PREFECT_WORKER_QUERY_SECONDS"] == "9"


@pytest.mark.parametrize("option", [{"force": True}, {"max_age_days": 30.0}])
def test_a_pool_runs_nothing_again(monkeypatch, option):
    """A retraining that would run every stage again is refused in a pool, where the same result is not made twice."""
    monkeypatch.setattr(flow_runtime, "run_exclusively", lambda work, wait: work(None))
    with pytest.raises(ParamsError, match="do not go with --pool"):
        retrain.retrain.fn(pool="gpus", **option)
