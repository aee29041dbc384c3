"""Flows on a real Prefect server with a real worker, as `make schedule` starts them, over a small graph of
shell commands."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import psutil
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from darkroom import cli
from darkroom.core import log_files, shortage
from pipelines import dvc_runner, flow_runtime, process_watcher, schedule
from pipelines import monitor as monitor_module
from tests import browser
from tests.conftest import ROOT
from tests.monitoring.arrivals import arrive, write_model
from tests.pipelines.processes import is_alive, wait_until
from tests.pipelines.projects import DEPLOYMENTS, Project, create_project

pytestmark = pytest.mark.pipeline
STUDIES = """\
stages:
  study:
    matrix:
      name: [left, right]
    cmd: >-
      (cd .. && python step.py ${item.name})
      && mkdir -p results/${item.name} && cp summary.json results/${item.name}/summary.json
    outs: ['results/${item.name}']
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Project]:
    """Yield a project with its server and worker, which `python -m pipelines.schedule` starts and stops."""
    project = create_project(tmp_path_factory.mktemp("flows") / "small")
    try:
        output = project.run("pipelines.schedule", "start", "--port", str(project.port))
        assert f"http://127.0.0.1:{project.port}" in output
        with project.default_server():
            yield project
    finally:
        project.run("pipelines.schedule", "stop")
    assert "worker" not in project.schedule_state()
    project.run("pipelines.schedule", "status", code=1)


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch):
    monkeypatch.setattr(dvc_runner, "RETRY_DELAYS", (0.1, 0.5))


class Webhook(http.server.BaseHTTPRequestHandler):
    """Keeps the notifications that it receives."""

    received: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[str]:
    """Yield the address of a webhook that has received nothing."""
    Webhook.received.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()


def test_starting_twice_changes_nothing(project, monkeypatch):
    """`start` leaves running processes alone.

    `status` prints the server's address, and each deployment with its next run.
    """
    monkeypatch.setattr(schedule, "_prefect", lambda *_: None)  # what it deploys, it has deployed
    state = project.schedule_state()
    output = project.schedule("start")
    assert project.schedule_state() == state
    assert f"http://127.0.0.1:{project.port}" in output
    assert all(f"{flow}/{name}" in output for flow, name in DEPLOYMENTS.items())
    wait_until(lambda: f"{project.slot:02}:00" in project.schedule("status"))


def test_deployments_of_an_older_version_are_replaced(project, monkeypatch):
    """Deployments that have the project's name are deleted with their triggers, and a paused one is succeeded by a paused one.

    Where prefect.yaml still names them so, they stay, and so do all others.
    """
    monkeypatch.setattr(schedule, "_prefect", lambda *_: None)
    for flow, paused in (("retrain", True), ("monitor", False)):
        flow_id = project.request("flows/", name=flow)["id"]
        old = project.request("deployments/", name="small", flow_id=flow_id, work_pool_name="small", paused=paused)["id"]
        trigger = {"type": "event", "posture": "Reactive", "expect": ["nothing"], "threshold": 1, "within": 0}
        owner = f"prefect.deployment.{old}"
        project.request("automations/", name="old", trigger=trigger, actions=[{"type": "do-nothing"}], owner_resource=owner)
        project.request("deployments/", name="mine", flow_id=flow_id, work_pool_name="small", paused=True)
    file = project.folder / "prefect.yaml"
    text = file.read_text()
    file.write_text(text.replace("-nightly", ""))
    project.schedule("start")
    assert {("retrain", "small"), ("monitor", "small")} < set(project.deployments())
    file.write_text(text)
    project.schedule("start")
    after = project.deployments()
    assert set(after) == {*DEPLOYMENTS.items(), ("retrain", "mine"), ("monitor", "mine")}
    assert {item["name"] for item in project.request("automations/filter")} == {"small-nightly__automation_1"}
    paused = [name for name, deployment in after.items() if deployment["paused"] and name[1] != "mine"]
    assert paused == [("retrain", DEPLOYMENTS["retrain"])]
    for deployment in after.values():
        if deployment["name"] == "mine":
            project.request(f"deployments/{deployment['id']}", method="DELETE")
    project.request(f"deployments/{after[paused[0]]['id']}", method="PATCH", paused=False)


def test_prefect_explains_the_parameters(project):
    """The schema of each deployment's parameters, from which Prefect makes its form, describes every parameter."""
    for deployment in project.deployments().values():
        properties = deployment["parameter_openapi_schema"]["properties"]
        assert properties
        assert all(len(field["description"]) > 10 for field in properties.values())


def test_prefect_in_the_folder_uses_its_server(project, tmp_path):
    """In a new shell, without its variables, Prefect uses the project's server, and writes nothing to the person's home."""
    code = "from prefect.settings import get_current_settings as get; print(get().api.url, get().home, get().profiles_path)"
    environment = project.environment | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    words = subprocess.run(command, cwd=project.folder, env=environment, check=True, capture_output=True, text=True).stdout.split()
    assert words == [project.api, ".prefect", ".prefect/profiles.toml"]
    assert not list(tmp_path.iterdir())


def test_the_password_is_nowhere_else(project):
    """The server's password is in two files that their owner alone can read: in no log, in no other file and in no command."""
    project.prepare()
    project.flow("repro", "left")
    password = project.password()
    files = [path for path in project.folder.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    names = sorted(path.relative_to(project.folder).as_posix() for path in files)
    assert names == [".darkroom/schedule/password", ".prefect/profiles.toml"]
    assert project.git("check-ignore", *names).split() == names
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert not [process for process in psutil.process_iter(["cmdline"]) if password in " ".join(process.info["cmdline"] or [])]


def attack(project: Project, headers: dict[str, str]) -> int | str:
    """Ask for a run of a deployment with a command of the attacker's; return the status of a refusal, or the id of the run."""
    body = {"job_variables": {"command": f"touch {project.folder}/attacked"}, "parameters": {"targets": ["left"]}}
    path = f"deployments/{project.deployment('repro')}/create_flow_run"
    try:
        return str(project.send("POST", path, json.dumps(body).encode(), headers)["id"])
    except urllib.error.HTTPError as error:
        return error.code


def count_runs(project: Project) -> int:
    return int(project.request("flow_runs/count", flows={"name": {"any_": ["repro"]}}))


def open_events(project: Project, protocols: list[Any], host: str | None, message: dict[str, str]) -> None:
    """Open the stream of events; raise WebSocketException where the server closes it."""
    address, headers = f"{project.api.replace('http', 'ws')}/events/in", {"Host": host} if host else {}
    with connect(address, subprotocols=protocols, additional_headers=headers) as stream:
        stream.send(json.dumps(message))
        stream.recv(timeout=60)


def test_whoever_has_no_password_runs_nothing(project):
    """The server refuses changes without the password, with a wrong one, for another host or without a token against forged
    requests, and event streams as well; another origin may read nothing. The owner's run takes its command from the deployment.
    """
    login, token = project.login(), project.csrf_headers()
    wrong = {"Authorization": "Basic ZGFya3Jvb206d3Jvbmc="}
    runs = count_runs(project)
    refused = ({}, token, wrong, wrong | token, login | token | {"Host": "attacker.example.org"}, login, login | {
        "Prefect-Csrf-Token": "0", "Prefect-Csrf-Client": "tests"})  # fmt: skip
    assert [attack(project, headers) for headers in refused] == [403, 401, 403, 401, 400, 403, 403]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        project.send("GET", "csrf-token?client=attacker", None, {})
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with pytest.raises(urllib.error.HTTPError, match="400"):
        project.send("OPTIONS", "flow_runs/filter", None, {"Origin": "http://127.0.0.1:1"} | asks)
    for protocols, host, message in (
        ([], None, {}), (["prefect"], None, {"type": "auth"}), (["prefect"], None, {"type": "auth", "token": "wrong"}),
        (["prefect"], "attacker.example.org", {"type": "auth", "token": project.password()}),
    ):  # fmt: skip
        with pytest.raises(WebSocketException):
            open_events(project, protocols, host, message)
    assert count_runs(project) == runs
    project.prepare()
    run_id = attack(project, login | token)
    assert wait_until(lambda: project.final_state(run_id))[0] == "Completed"
    assert project.ends("left") == 1
    assert not (project.folder / "attacked").exists()


def test_a_web_page_runs_nothing_and_its_owner_logs_in(project):
    """A page of another port that a person has open can send the server nothing and read nothing of it; with the password the
    owner sees Prefect's pages.
    """
    path = f"{project.api}/deployments/{project.deployment('repro')}/create_flow_run"
    body = json.dumps({"job_variables": {"command": f"touch {project.folder}/attacked"}})
    page = f"""<form id=form method=post enctype=text/plain target=frame action="{path}">
        <input name='{{"ignored":"' value='"}}'></form><iframe name=frame></iframe><script>
        const body = {json.dumps(body)}, tries = {{}};
        const attempt = (name, options) => fetch("{path}", {{method: "POST", body, ...options}})
            .then(answer => answer.type + answer.status, error => "refused").then(result => tries[name] = result);
        const stream = new WebSocket("{project.api.replace("http", "ws")}/events/in", ["prefect"]);
        const closed = new Promise(done => stream.onclose = () => done(tries.stream = "refused"));
        stream.onopen = () => stream.send('{{"type": "auth", "token": "guessed"}}');
        document.getElementById("form").submit();
        const all = Promise.all([closed, attempt("json", {{headers: {{"Content-Type": "application/json"}}}}),
            attempt("login", {{headers: {{Authorization: "Basic ZGFya3Jvb206d3Jvbmc="}}}}),
            attempt("blind", {{mode: "no-cors", credentials: "include"}}),
            fetch("{project.api}/flows/filter").then(() => 0, () => tries.read = "refused")]).then(() => tries);
        </script>"""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: Any) -> None:
            pass

    runs = count_runs(project)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server, browser.tab() as tab:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        tab.goto(f"http://127.0.0.1:{server.server_port}")
        tries = tab.evaluate("all")
        server.shutdown()
        assert tries == {"stream": "refused", "json": "refused", "login": "refused", "blind": "opaque0", "read": "refused"}
        assert count_runs(project) == runs
        assert not (project.folder / "attacked").exists()
        tab.goto(f"{project.api.removesuffix('/api')}/runs")
        tab.get_by_placeholder("admin:pass").fill(project.password(), timeout=120_000)
        tab.keyboard.press("Enter")
        name = project.newest_run()["name"]
        tab.get_by_text(name).first.wait_for(timeout=120_000)


def test_stages_are_tasks_that_run_side_by_side(project):
    """Each stage is a task.

    Independent ones run at the same time; the one below waits for both; up to date, all are Cached, and the leaderboard is
    an artifact of that run too.
    """
    project.prepare(left="meet right", right="meet left")
    assert "3 of 3 stages ran" in project.flow("repro", "--concurrency", "2")
    assert project.task_states == dict.fromkeys(["left", "right", "both"], "Completed")
    artifacts = project.artifacts()
    assert (artifacts["progress-left"]["type"], artifacts["progress-left"]["data"]) == ("progress", 25.0)
    assert "0 of 3 stages ran" in project.flow("repro")
    assert project.task_states == dict.fromkeys(["left", "right", "both"], "Cached")
    assert project.ends("left") == 1
    assert project.artifacts()["leaderboard"]["flow_run_id"] == project.newest_run()["id"]


def test_params_are_set_for_one_run_or_for_good(project):
    """With `--temporary` a param counts for the run alone: params.yaml, dvc.lock and the outputs here stay as they are,
    uncommitted changes are part of the run, and nothing is promoted. Without it params.yaml keeps the value, and DVC restores
    the result, so that the stage is Cached. Only stages that the target needs are tasks.
    """
    project.prepare()
    files = [project.folder / name for name in ("params.yaml", "dvc.lock", "left.txt", "input.txt")]
    before = [file.read_bytes() for file in files]
    output = project.flow("repro", "left", "--set", "transfer.lr=0.5", "--temporary")
    assert project.task_states == {"left": "Completed"}
    assert [file.read_bytes() for file in files] == before
    tree = project.folder / ".darkroom" / "worktrees" / "temporary"
    assert (tree / "left.txt").read_text() == (project.folder / "input.txt").read_text()
    assert "lr: 0.5" in (tree / "params.yaml").read_text()
    assert (tree / "log" / "left.started").read_text()  # in an experiment
    assert "prefect.yaml" in output  # git does not track it
    try:
        assert "params.yaml" in project.flow("repro", "left", "--set", "transfer.lr=0.5")
        assert project.task_states == {"left": "Cached"}
        assert "lr: 0.5" in files[0].read_text()
    finally:
        files[0].write_bytes(before[0])


def test_a_mistake_is_not_retried_and_notifies_once(project, webhook):
    """Task and flow fail with the stage's message.

    The stages below do not run; each channel gets one notification.
    """
    project.prepare(left="2 2 2")
    log = project.folder / "notifications"
    environment = {
        "DARKROOM_NOTIFY_WEBHOOK": webhook,
        "DARKROOM_NOTIFY_COMMAND": f'cat >> "{log}"; echo " $DARKROOM_FLOW" >> "{log}"',
    }
    project.flow("repro", code=1, **environment)
    run, tasks = project.newest_run(), project.tasks()
    assert {name: task["state_name"] for name, task in tasks.items()} == {
        "left": "Failed",
        "right": "Completed",
        "both": "NotReady",
    }
    assert "error: left refuses\n  remedy: wait" in tasks["left"]["state"]["message"]
    assert "error: left refuses" in run["state"]["message"]
    assert (project.folder / "actions" / "left").read_text() == "2 2"
    (notification,) = Webhook.received
    assert (notification["flow"], notification["id"]) == ("repro", run["id"])
    assert "left refuses" in notification["text"]
    assert log.read_text().count("left refuses") == 1
    assert log.read_text().endswith(" repro\n")


def test_a_temporary_failure_is_retried(project, webhook):
    """A stage that exits with 75 is retried, without a notification where it then works, and at most
    `--retries` times."""
    project.prepare(left="75 0")
    project.flow("repro", "left", DARKROOM_NOTIFY_WEBHOOK=webhook)
    task = project.tasks()["left"]
    assert (task["run_count"], task["state_name"]) == (2, "Completed")
    assert Webhook.received == []
    project.prepare(left="75 75 75")
    project.flow("repro", "left", "--retries", "1", code=1, DARKROOM_NOTIFY_WEBHOOK=webhook)
    assert len(Webhook.received) == 1
    assert (project.folder / "actions" / "left").read_text() == "75"


def test_a_killed_stage_is_retried_once(project):
    """A stage that SIGKILL ends is retried once, however many retries there are, and the flow then fails with what to do."""
    project.prepare(left="137 137 137")
    project.flow("repro", "left", code=1)
    assert (project.folder / "actions" / "left").read_text() == "137"
    message = project.newest_run()["state"]["message"]
    assert "stage left was killed, as the operating system does where memory runs out" in message
    assert shortage.FREE_MEMORY in message


def test_a_flow_waits_for_a_dvc_repro_in_a_terminal(project, monkeypatch):
    """While a plain `dvc repro` holds a stage's files, the flow retries until it ends; both complete."""
    project.prepare(left="hang")
    terminal = project.start("dvc", "repro", "left")
    project.pids("left")
    attempts = []

    def open_gate(attempt: int) -> float:
        attempts.append(attempt)
        project.open_gate("left")
        return 0.1

    monkeypatch.setattr(dvc_runner, "retry_delay", open_gate)
    project.flow("repro", "left", "--retries", "1000")
    assert attempts
    assert project.task_states == {"left": "Cached"}
    assert terminal.wait(180) == 0


def test_a_time_limit_ends_the_whole_stage(project, monkeypatch):
    """A stage that exceeds its time limit is ended with its processes, and its state is TimedOut."""
    limits = []

    class Timer(threading.Timer):
        """Goes off as soon as the stage hangs."""

        def run(self) -> None:
            limits.append(self.interval)
            project.pids("left")
            self.function()

    monkeypatch.setattr(threading, "Timer", Timer)
    project.prepare(left="hang")
    project.flow("repro", "left", "--limit", "left=0.1", code=1)
    assert limits == [6]
    assert project.task_states == {"left": "TimedOut"}
    assert not any(map(is_alive, project.pids("left")))


def test_flows_take_turns(project):
    """A second run waits for the first one, or is skipped with `--no-wait`; `darkroom repro` waits too.

    Cancelled in Prefect's pages, a run in a terminal ends the processes of its stage, and the next one takes its turn.
    """
    project.prepare(left="hang")
    first = project.start("darkroom", "flow", "repro", "left")
    pids, run_id = project.pids("left"), project.newest_run()["id"]
    waiting = project.start("darkroom", "repro", "left")
    assert "Skipped" in project.flow("repro", "left", "--no-wait")
    assert waiting.poll() is None
    assert "the flow run" in waiting.stdout.readline()
    (project.folder / "actions" / "left").unlink()
    project.set_state(run_id, "CANCELLING")
    assert first.wait(180) == 130
    assert not any(map(is_alive, pids))
    assert project.state(run_id)[0] == "Cancelled"
    assert waiting.wait(180) == 0
    assert project.ends("left") == 1


def test_what_notices_an_end_is_fast_enough():
    """The intervals at which an end is noticed, and the time that processes get, add up to less than 10 s."""
    assert flow_runtime.POLL * flow_runtime.SERVER_POLLS + process_watcher.GRACE < 10


def test_deployed_runs_leave_no_process(project):
    """Where a run is cancelled or its worker killed, the processes of its stage end, and the next run takes its turn."""
    project.prepare(left="hang")
    runs = [project.deploy_run("repro", targets=["left"]) for _ in range(2)]
    pids = project.pids("left")
    cancelled = next(run_id for run_id in runs if run_id[:8] in project.holder()["description"])
    (project.folder / "log" / "left.pids").unlink()
    project.set_state(cancelled, "CANCELLING")
    wait_until(lambda: not any(map(is_alive, pids)))
    wait_until(lambda: project.state(cancelled)[0] == "Cancelled")
    pids = project.pids("left")
    os.kill(project.schedule_state()["worker"]["pid"], signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)))
    assert project.ends("left") == 0
    wait_until(lambda: all(project.final_state(run_id) for run_id in runs))
    server = project.schedule_state()["server"]
    project.run("pipelines.schedule", "start")
    assert project.schedule_state()["server"] == server
    project.prepare()
    project.flow("repro", "left")
    assert project.ends("left") == 1


def test_runs_in_a_terminal_leave_no_process(project):
    """Interrupted or killed, a run ends the processes of its stage, and releases what it held; it and its tasks are Crashed."""
    project.prepare(left="hang")
    processes = [project.start("pipelines.repro", "left") for _ in range(2)]
    pids = project.pids("left")
    interrupted, killed = sorted(processes, key=lambda process: process.pid != project.holder()["pid"])
    (project.folder / "log" / "left.pids").unlink()
    runs = [project.holder()["description"]]
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.wait(180) == 130
    assert not any(map(is_alive, pids))
    pids = project.pids("left")
    runs.append(project.holder()["description"])
    killed.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)))
    assert killed.wait(180) == -signal.SIGKILL
    assert project.ends("left") == 0
    for description in runs:
        run_id = project.run_of(description)
        wait_until(lambda run_id=run_id: project.state(run_id)[0] == "Crashed")
        assert {task["state_name"] for task in project.tasks(run_id).values()} <= {"Crashed", "Cancelled"}
    project.prepare()
    project.flow("repro", "left")
    assert project.ends("left") == 1


def test_of_missed_slots_the_last_one_runs(project):
    """Of the scheduled runs whose slots passed while no worker ran, the worker runs all, but each is skipped
    except the last."""
    project.prepare()
    deployment, now = project.deployment("repro"), datetime.now(UTC)
    hourly = {"interval": 3600, "anchor_date": (now - timedelta(minutes=10)).isoformat()}
    left = {"schedule": hourly, "active": True, "parameters": {"targets": ["left"]}}
    with project.paused_pool():
        (schedule,) = project.request(f"deployments/{deployment}/schedules", [left])
        past = {"start_time": (now - timedelta(hours=2)).isoformat(), "end_time": now.isoformat()}
        project.request(f"deployments/{deployment}/schedule", past)
        runs = project.request("flow_runs/filter", {
            "deployments": {"id": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC",
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": now.isoformat()}},
        })  # fmt: skip
    ids = [run["id"] for run in runs]
    try:
        assert len(ids) == 2
        states = [wait_until(lambda run_id=run_id: project.final_state(run_id)) for run_id in ids]
    finally:
        project.request(f"deployments/{deployment}/schedules/{schedule['id']}", method="DELETE")
    assert [name for name, _ in states] == ["Skipped", "Completed"]
    assert "replaced by the run for" in states[0][1]
    assert project.ends("left") == 1


def test_a_commit_is_run_where_there_is_a_reason(project):
    """`retrain` runs a commit where something changed, leaves the working tree alone and commits the results
    to a branch.

    A new worktree begins with the outputs of this folder, so that without a change it has no reason.
    """
    project.prepare()
    project.git("commit", "-qam", "new data")
    project.flow("repro")
    assert "Skipped: no reason" in project.flow("retrain", "--branch", "retrained")
    committed = str(time.time_ns())
    (project.folder / "input.txt").write_text(committed)
    project.git("commit", "-qam", "newer data")
    (project.folder / "input.txt").write_text("somebody is working on it")
    status = project.git("status", "--porcelain")
    output = project.flow("retrain", "--branch", "retrained")
    assert "3 of 3 stages ran: left, right, both; reason: input.txt modified" in output
    assert project.git("status", "--porcelain") == status
    assert (project.folder / "input.txt").read_text() == "somebody is working on it"
    assert project.git("show", "retrained:both.txt") == 2 * committed
    assert "left:" in project.git("show", "retrained:dvc.lock")
    assert project.git("rev-parse", "retrained^") == project.git("rev-parse", "HEAD")
    last_run = project.folder / ".darkroom" / "retrained.json"
    last_run.write_text(json.dumps(json.loads(last_run.read_text()) | {"time": time.time() - 40 * 86400}))
    output = project.flow("retrain", "--max-age", "30", "--reason", "it drifts", "--branch", "retrained")
    assert "3 of 3 stages ran" in output
    assert "reason: it drifts; " in output
    assert "40.0 days ago" in output
    assert project.git("rev-parse", "retrained^") == project.git("rev-parse", "HEAD")  # the same results make no commit
    project.git("checkout", "-q", "input.txt")


def test_retrain_refuses_what_differs_from_the_commit(project):
    """`retrain` refuses, with a remedy, where params.yaml differs from the committed one, and an unknown
    commit."""
    params = project.folder / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("views: 8", "views: 5"))
    try:
        output = project.flow("retrain", code=2)
    finally:
        params.write_text(text)
    assert "params.yaml" in output
    assert "git commit params.yaml" in output
    assert "nowhere" in project.flow("retrain", "--ref", "nowhere", code=2)


def test_a_drift_starts_a_retraining_once(project, monkeypatch):
    """`monitor` is skipped where nothing arrives.

    Where a drift begins, its event starts `retrain` with the reason, and a notification is sent, once. The run ends as
    *Drifted*, which is no success and no crash, with exit code 3.
    """
    events = []
    emit_event = monitor_module.emit_event
    monkeypatch.setattr(monitor_module, "emit_event", lambda *args, **fields: events.append(args) or emit_event(*args, **fields))
    sent, page = project.folder / "sent.txt", project.folder / "reports" / "monitoring" / "index.html"

    def monitor(*arguments: str, code: int = 0) -> str:
        command = f'echo "$DARKROOM_STATE $DARKROOM_PAGE $DARKROOM_MESSAGE" >> {sent}'
        return project.flow("monitor", "--window", "30", *arguments, code=code, DARKROOM_NOTIFY_COMMAND=command)

    def retrainings() -> list[dict[str, Any]]:
        runs = project.request("flow_runs/filter", flows={"name": {"any_": ["retrain"]}}, limit=200)
        return [run for run in runs if str(run["parameters"].get("reason") or "").startswith("drift: ")]

    assert "Skipped: there is no data/inbox" in monitor()
    write_model(project.folder)
    arrive(0, 30, place=project.folder)
    assert "Completed: 30 new images" in monitor("--model", "model")
    arrive(30, 30, dark=True, place=project.folder)
    with contextlib.chdir(project.folder):  # a person sees it first
        assert cli.main(["monitor", "--window", "30", "--model", "model"]) == 3
    assert events == []
    with project.paused_pool():
        assert not sent.exists()
        assert "Drifted: no new images" in monitor("--model", "model", code=3)
        assert project.newest_run()["state"]["type"] == "FAILED"
        (run,) = wait_until(retrainings)
        project.set_state(run["id"], "CANCELLED", force=True)
    artifacts = project.artifacts()
    assert page.as_uri() in artifacts["drift"]["data"]
    assert page.as_uri() in artifacts["monitoring"]["data"]
    arrive(60, 1, dark=True, place=project.folder)
    assert "Drifted: 1 new images" in monitor("--model", "model", code=3)
    assert "Skipped: no new images" in monitor("--model", "model")
    (line,) = sent.read_text().splitlines()
    assert line.startswith(f"Drifted {page} no new images; drift in the last 30 images")
    assert [name for name, *_ in events] == ["darkroom.drift"]
    assert "Skipped" in monitor()  # there is no champion yet


def test_studies_run_side_by_side_and_show_their_findings(project):
    """`study` runs the studies that are named, or all, side by side, and shows the finding of each."""
    assert "studies/dvc.yaml" in project.flow("study", code=2)
    summary = {"study": "left", "question": "Which?", "finding": "The deeper one.", "held_constant": "Equal steps."}
    (project.folder / "studies" / ".dvc").mkdir(parents=True)
    (project.folder / "studies" / "dvc.yaml").write_text(STUDIES)
    assert "git checkout HEAD -- studies/.dvc/config" in project.flow("study", code=2)
    shutil.copy(ROOT / "studies" / ".dvc" / "config", project.folder / "studies" / ".dvc")
    (project.folder / "studies" / "summary.json").write_text(json.dumps(summary))
    try:
        project.prepare()
        assert "1 of 1 stages ran: study@left" in project.flow("study", "left")
        assert "**The deeper one.**" in project.artifacts()["study-left"]["data"]
        project.prepare(left="meet right", right="meet left")
        assert "2 of 2 stages ran" in project.flow("study", "--concurrency", "2", "--force")
        assert "breadth" in project.flow("study", "breadth", code=2)
    finally:
        shutil.rmtree(project.folder / "studies")


def test_outputs_are_pushed_and_pulled(project, tmp_path):
    """`--push` sends outputs to DVC's remote, `--pull` fetches them.

    Without a remote both are refused before a stage runs.
    """
    project.prepare()
    assert "remote" in project.flow("repro", "--push", code=2)
    assert not (project.folder / "log").exists()
    project.run("dvc", "remote", "add", "--local", "-d", "store", str(tmp_path))
    try:
        project.flow("repro", "left", "--push")
        assert project.task_states == {"left": "Completed", "push": "Completed"}
        shutil.rmtree(project.folder / ".dvc" / "cache")
        for name in ("left.txt", "right.txt"):  # DVC pulls over no file that its cache lacks
            (project.folder / name).unlink(missing_ok=True)
        project.flow("repro", "left", "--pull")
        assert project.task_states == {"pull": "Completed", "left": "Cached"}
        assert (project.folder / "left.txt").exists()
    finally:
        project.run("dvc", "remote", "remove", "--local", "store")


def test_tidy_removes_results_that_nothing_refers_to(project, monkeypatch):
    """Of two runs the results of the last one stay, and logs are limited; the second time nothing is left to do."""
    monkeypatch.setattr(log_files, "LIMIT", 100)
    log = project.folder / ".darkroom" / "schedule" / "of-an-older-version.log"
    log.write_text("line\n" * 100)
    for _ in range(2):
        project.prepare()
        project.flow("repro", "left")
    result = (project.folder / "left.txt").read_text()
    assert "DVC's cache: Removed" in project.flow("tidy", "--older-than", "1")
    assert (log.stat().st_size, log.with_name(f"{log.name}.old").stat().st_size) == (0, 500)
    (project.folder / "left.txt").unlink()
    project.run("dvc", "checkout", "left")
    assert (project.folder / "left.txt").read_text() == result
    assert "Removed" not in project.flow("tidy", "--older-than", "1")


def test_mistakes_are_refused_before_a_stage_runs(project):
    """A wrong param, stage, number or pair ends with a remedy and exit code 2, and changes nothing."""
    project.prepare()
    text = (project.folder / "params.yaml").read_text()
    for fact, arguments in {
        "lrr": ("--set", "transfer.lrr=1"), "--set": ("--temporary",),
        "no-such-stage": ("no-such-stage",), "concurrency": ("--concurrency", "0"),
        "STAGE=MINUTES": ("--limit", "left"),
    }.items():  # fmt: skip
        output = project.flow("repro", *arguments, code=2)
        assert fact in output
        assert "remedy:" in output
        assert "Traceback" not in output
    assert (project.folder / "params.yaml").read_text() == text
    assert not (project.folder / "log").exists()
