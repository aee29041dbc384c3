"""Flows on a real Prefect server with a real worker, as `make schedule` starts them, over a small graph of shell commands."""

from __future__ import annotations

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
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from tests.conftest import ROOT
from tests.postgresql import free_port

pytestmark = pytest.mark.pipeline
SETTLED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
GRAPH = """\
stages:
  left:
    cmd: python step.py left
    deps: [step.py, given.txt]
    outs: [left.txt]
  right:
    cmd: python step.py right
    deps: [step.py, given.txt]
    outs: [right.txt]
  both:
    cmd: cat left.txt right.txt > both.txt
    deps: [left.txt, right.txt]
    outs:
      - both.txt: {cache: false}
"""
STUDIES = """\
stages:
  study:
    matrix:
      name: [depth, width]
    wdir: ..
    cmd: >-
      python -c "import time; a = time.time(); time.sleep(3); open('${item.name}.times', 'w').write(f'{a} {time.time()}')"
      && mkdir -p reports/studies/${item.name} && cp studies/found.json reports/studies/${item.name}/summary.json
    outs: ['reports/studies/${item.name}']
"""
# how/NAME says what a step does: seconds to take, or the exit codes of its attempts, one after another
STEP = """\
import pathlib, subprocess, sys, time
name = sys.argv[1]
how = pathlib.Path("how") / name
words = how.read_text().split() if how.exists() else []
log = pathlib.Path("log"); log.mkdir(exist_ok=True)
begun = time.time()
print(f"{name}: 1 of 4 steps, 3 s left", flush=True)
if words[:1] == ["sleep"]:
    child = subprocess.Popen(["sleep", words[1]])
    (log / f"{name}.pid").write_text(str(child.pid))
    child.wait()
elif words:
    how.write_text(" ".join(words[1:]))
    if words[0] != "0":
        print(f"error: {name} refuses\\n  remedy: wait", flush=True)
        sys.exit(int(words[0]))
with (log / f"{name}.times").open("a") as file:
    print(begun, time.time(), file=file)
pathlib.Path(f"{name}.txt").write_text(pathlib.Path("given.txt").read_text())
"""


class Project:
    """A small project, its Prefect server, and what the server knows."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        off = ("PREFECT_", "DARKROOM_", "MLFLOW_", "DVC_", "GIT_")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(off)} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(place / "src"),
            "DARKROOM_TRACKING": "off", "DARKROOM_PROJECT": "small", "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3",
        }  # fmt: skip

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=self.place, env=self.environment | more, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *command: str, code: int = 0, **more: str) -> str:
        process = self.start(*command, **more)
        text = process.communicate(timeout=200)[0]
        assert process.returncode == code, text[-4000:]
        return text

    def flow(self, *arguments: str, code: int = 0, **more: str) -> str:
        return self.run("darkroom", "flow", *arguments, code=code, **more)

    def how(self, **steps: str) -> None:
        """Say what steps do, and change what they read, so that they run."""
        shutil.rmtree(self.place / "how", ignore_errors=True)
        shutil.rmtree(self.place / "log", ignore_errors=True)
        (self.place / "how").mkdir()
        for name, words in steps.items():
            (self.place / "how" / name).write_text(words)
        (self.place / "given.txt").write_text(str(time.time_ns()))

    def asked(self, what: str, content: Any = None, method: str = "POST", **more: Any) -> Any:
        """Return what the server answers; one that is busy is asked again, as Prefect's own clients do."""
        data = json.dumps(more if content is None else content).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self.api}/{what}", data, {"Content-Type": "application/json"}, method=method)
        for _ in range(5):
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return json.loads(response.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(2)
        raise TimeoutError(f"{what} is not answered")

    def newest(self) -> dict[str, Any]:
        """Return the flow run that began last."""
        begun = {"state": {"type": {"not_any_": ["SCHEDULED", "PENDING"]}}}
        return self.asked("flow_runs/filter", flow_runs=begun, sort="START_TIME_DESC", limit=1)[0]

    def last(self) -> dict[str, Any]:
        """Return the newest flow run, with its tasks by name, once the server has noted how they ended."""

        def found() -> dict[str, Any] | None:
            run = self.newest()
            tasks = self.asked("task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
            settled = tasks and all(task["state_type"] in SETTLED or task["state_name"] == "NotReady" for task in tasks)
            return run | {"tasks": {task["name"]: task for task in tasks}} if settled else None

        return until(found)

    def known(self) -> dict[str, Any]:
        """Return what `python -m pipelines.schedule` has noted of what it started."""
        return json.loads((self.place / ".darkroom" / "schedule.json").read_text())

    def states(self) -> dict[str, str]:
        return {name: task["state_name"] for name, task in self.last()["tasks"].items()}

    def deployed(self, flow: str, **parameters: Any) -> str:
        """Start a run of a deployment and return its id."""
        deployment = self.asked(f"deployments/name/{flow}/small", method="GET")["id"]
        return self.asked(f"deployments/{deployment}/create_flow_run", parameters=parameters)["id"]

    def state(self, run: str) -> tuple[str, str]:
        state = self.asked(f"flow_runs/{run}", method="GET")["state"]
        return state["name"], state["message"] or ""

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=self.place, check=True, capture_output=True, text=True).stdout


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found


def lives(pid: int) -> bool:
    """Tell whether a process still does something; one that has ended and waits to be noticed does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def small(place: Path) -> Project:
    """Make a project of three stages in a folder of its own."""
    for name in ("src", "pipelines"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("params.yaml", ".dvcignore", ".gitignore", "prefect.yaml"):
        shutil.copy(ROOT / name, place)
    (place / "dvc.yaml").write_text(GRAPH)
    (place / "step.py").write_text(STEP)
    made = Project(place)
    made.how()
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=place, check=True)
    made.run("dvc", "init", "-q")
    made.run("dvc", "config", "core.analytics", "false")
    made.git("add", "dvc.yaml", "params.yaml", "step.py", "given.txt", ".dvc", ".dvcignore", ".gitignore")
    made.git("commit", "-qm", "as it is")
    return made


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Project]:
    """Yield a project with its server and worker, which `python -m pipelines.schedule` starts."""
    made = small(tmp_path_factory.mktemp("flows") / "small")
    try:
        said = made.run("pipelines.schedule", "start", "--port", str(made.port))
        assert "worker     runs" in said
        yield made
    finally:
        said = made.run("pipelines.schedule", "stop")
    assert said.split() == ["worker", "ended", "server", "ended"]
    assert "does not run" in made.run("pipelines.schedule", "status", code=1)


def test_starting_twice_changes_nothing(project):
    """`start` leaves alone what runs, and says where it is and what comes next."""
    before = project.known()
    said = project.run("pipelines.schedule", "start")
    assert project.known() == before
    assert f"http://127.0.0.1:{project.port}" in said
    assert until(lambda: [line for line in project.run("pipelines.schedule", "status").splitlines() if "03:00" in line])


def test_a_server_of_others_gets_a_worker_alone(project, tmp_path):
    """With PREFECT_API_URL only a worker is started, once, and `stop` leaves the server alone; none that answers is a mistake."""
    place = tmp_path / "other"
    shutil.copytree(project.place, place, ignore=shutil.ignore_patterns(".darkroom", ".prefect", "log"))
    other = Project(place)
    there = {"PREFECT_API_URL": project.api, "DARKROOM_PROJECT": "other", "PREFECT_HOME": str(tmp_path / "home")}
    first = other.run("pipelines.schedule", "start", **there)
    known = json.loads((place / ".darkroom" / "schedule.json").read_text())
    assert (known["api"], set(known)) == (project.api, {"api", "worker"})
    assert f"runs: {project.api.removesuffix('/api')}" in first
    other.run("pipelines.schedule", "start", **there)
    assert json.loads((place / ".darkroom" / "schedule.json").read_text()) == known
    assert other.run("pipelines.schedule", "stop", **there).split() == ["worker", "ended", "server", "did", "not", "run"]
    project.asked("deployments/filter")
    said = other.run("pipelines.schedule", "start", code=2, PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    assert "remedy: start it, or unset PREFECT_API_URL" in said


def test_stages_are_tasks_and_run_side_by_side(project):
    """Each stage is a task; two that do not need each other run at the same time where two may; the third waits for both."""
    project.how(left="sleep 4", right="sleep 4")
    said = project.flow("repro", "--concurrency", "2")
    assert "Completed: 3 of 3 stages ran" in said
    assert project.states() == dict.fromkeys(["left", "right", "both"], "Completed")
    left, right = (
        [float(word) for word in (project.place / "log" / f"{name}.times").read_text().split()] for name in ("left", "right")
    )
    assert max(left[0], right[0]) < min(left[1], right[1])
    (shown,) = (item for item in project.asked("artifacts/latest/filter") if item["key"] == "progress-left")
    assert (shown["type"], shown["data"]) == ("progress", 25.0)


def test_what_is_up_to_date_is_cached(project):
    """The second time every task is Cached and no process runs; a stage that DVC restores from its run cache is Cached too."""
    project.flow("repro")
    times = (project.place / "log" / "left.times").read_text()
    assert "0 of 3 stages ran" in project.flow("repro")
    assert project.states() == dict.fromkeys(["left", "right", "both"], "Cached")
    assert (project.place / "log" / "left.times").read_text() == times
    given = (project.place / "given.txt").read_text()
    project.how()
    project.flow("repro", "left")
    assert set(project.states()) == {"left"}
    (project.place / "given.txt").write_text(given)
    project.flow("repro", "left")
    assert project.states() == {"left": "Cached"}
    assert len((project.place / "log" / "left.times").read_text().splitlines()) == 1


class Heard(http.server.BaseHTTPRequestHandler):
    """Keeps what it is told."""

    said: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.said.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[str]:
    Heard.said.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Heard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()


def test_a_failure_is_named_and_told_once(project, webhook):
    """A mistake is not tried again: task and flow fail with its words, what needs it does not run, and people hear of it."""
    project.how(left="2 2 2")
    told = project.place / "told"
    said = project.flow(
        "repro",
        code=1,
        DARKROOM_NOTIFY_WEBHOOK=webhook,
        DARKROOM_NOTIFY_COMMAND=f'cat >> "{told}"; echo " $DARKROOM_FLOW" >> "{told}"',
    )
    assert "left failed" in said
    run = project.last()
    assert (run["state_name"], run["tasks"]["left"]["state_name"]) == ("Failed", "Failed")
    assert "error: left refuses\n  remedy: wait" in run["tasks"]["left"]["state"]["message"]
    assert "error: left refuses" in run["state"]["message"]
    assert run["tasks"]["right"]["state_name"] == "Completed"
    assert run["tasks"]["both"]["state_name"] == "NotReady"
    assert (project.place / "how" / "left").read_text() == "2 2"
    (heard,) = Heard.said
    assert (heard["flow"], heard["id"]) == ("repro", run["id"])
    assert "left refuses" in heard["text"]
    assert told.read_text().count("left refuses") == 1
    assert told.read_text().endswith(" repro\n")


def test_retryable_failures_are_tried_again(project, webhook):
    """A stage that says it may work later (exit code 75) is tried again, and nobody is told where it then works."""
    project.how(left="75 0")
    said = project.flow("repro", DARKROOM_NOTIFY_WEBHOOK=webhook)
    assert "tries again in 5 s" in said
    assert (project.last()["tasks"]["left"]["run_count"], project.states()["both"]) == (2, "Completed")
    assert Heard.said == []
    project.how(left="75 75 75")
    project.flow("repro", "left", "--retries", "1", code=1, DARKROOM_NOTIFY_WEBHOOK=webhook)
    assert len(Heard.said) == 1
    assert (project.place / "how" / "left").read_text() == "75"


def test_somebody_elses_dvc_and_a_flow_do_not_break_each_other(project):
    """While a plain `dvc repro` holds a stage's files the flow is refused, tries again and ends well, and so does the other."""
    project.how(left="sleep 6")
    person = project.start("dvc", "repro", "left")
    until(lambda: (project.place / "log" / "left.pid").exists())
    said = project.flow("repro", "left")
    assert "is busy, it is being blocked by" in said
    assert project.last()["state_name"] == "Completed"
    assert person.wait(60) == 0


def test_a_time_limit_ends_the_whole_tree(project):
    """A stage that takes longer than it may is ended with its processes, and the state says TimedOut."""
    project.how(left="sleep 600")
    started = time.monotonic()
    project.flow("repro", "left", "--limit", "left=0.05", code=1)
    assert time.monotonic() - started < 60
    assert project.states() == {"left": "TimedOut"}
    assert not lives(int((project.place / "log" / "left.pid").read_text()))


def test_flows_take_turns(project):
    """A second flow waits for the first, or is skipped where it is told not to wait; so does `darkroom repro`."""
    project.how(left="sleep 12")
    first = project.start("darkroom", "flow", "repro", "left")
    until(lambda: (project.place / "log" / "left.pid").exists())
    waiting = project.start("darkroom", "repro", "left")
    said = project.flow("repro", "left", "--no-wait")
    assert "Skipped: the workspace is taken by the flow run" in said
    assert waiting.poll() is None
    text = waiting.communicate(timeout=60)[0]
    assert text.startswith("waits for the flow run")
    assert "didn't change, skipping" in text
    assert first.wait(60) == 0


@pytest.mark.parametrize("how", ["cancelled", "its worker killed"])
def test_no_process_is_left(project, how):
    """Where a run is cancelled, or its worker killed, all processes of its stage are gone within 10 s, and the next run goes on."""
    project.how(left="sleep 600")
    run = project.deployed("repro", targets=["left"])
    pid = int(until(lambda: (file := project.place / "log" / "left.pid").exists() and file.read_text()))
    tree = [process.pid for process in psutil.Process(pid).parents() if process.pid > 1]
    stage = [number for number in tree if "step.py" in " ".join(psutil.Process(number).cmdline())]
    assert stage
    if how == "cancelled":
        project.asked(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"}, force=False)
    else:
        worker = project.known()["worker"]["pid"]
        os.kill(worker, signal.SIGKILL)
    until(lambda: not any(lives(number) for number in (pid, *stage)), 10)
    project.how()
    if how == "cancelled":
        assert until(lambda: project.state(run)[0] in ("Cancelled",), 60)
    else:
        until(lambda: project.state(run)[0] in ("Crashed", "Cancelled"), 60)
        assert "worker     runs" in project.run("pipelines.schedule", "start")
    assert "Completed" in project.flow("repro", "left")


def test_cancelled_in_a_terminal(project):
    """A run that a terminal started is ended too where somebody cancels it in Prefect's pages, and Ctrl-C ends all as well."""
    project.how(left="sleep 600")
    for cancel in (True, False):
        process = project.start("pipelines.repro", "left")
        pid = int(until(lambda: (file := project.place / "log" / "left.pid").exists() and file.read_text()))
        run = project.newest()["id"]
        if cancel:
            project.asked(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"}, force=False)
        else:
            process.send_signal(signal.SIGINT)
        until(lambda pid=pid: not lives(pid), 15)
        assert process.wait(30) == 130
        assert project.state(run)[0] == ("Cancelled" if cancel else "Crashed")
        (project.place / "log" / "left.pid").unlink()


def test_of_missed_slots_the_last_one_runs(project):
    """Scheduled runs fire; where several slots have passed while no worker was there, a later one replaces all but the last."""
    project.how()
    project.git("commit", "-qam", "changed")
    project.flow("retrain")
    deployment = project.asked("deployments/name/retrain/small", method="GET")["id"]
    worker = project.known()["worker"]["pid"]
    os.kill(worker, signal.SIGSTOP)
    (made,) = project.asked(f"deployments/{deployment}/schedules", [{"schedule": {"interval": 4}, "active": True}])
    of = {"deployments": {"id": {"any_": [deployment]}}}

    def slots(*types: str, of: dict[str, Any] = of) -> list[dict[str, Any]]:
        return project.asked("flow_runs/filter", of | {"flow_runs": {"state": {"type": {"any_": list(types)}}}})

    def missed() -> set[str]:
        return {run["id"] for run in slots("SCHEDULED") if datetime.fromisoformat(run["expected_start_time"]) < datetime.now(UTC)}

    try:
        known = until(lambda: len(found := missed()) >= 3 and found)
        os.kill(worker, signal.SIGCONT)
        until(lambda: not known & {run["id"] for run in slots("SCHEDULED")})
    finally:
        os.kill(worker, signal.SIGCONT)
        project.asked(f"deployments/{deployment}/schedules/{made['id']}", method="DELETE")
    ended = until(lambda: len(found := [run for run in slots("COMPLETED") if run["id"] in known]) == len(known) and found)
    assert {run["state_name"] for run in ended} == {"Skipped"}
    assert sum("replaces this one" in run["state"]["message"] for run in ended) >= len(known) - 1


def test_a_committed_state_is_run_where_there_is_a_reason(project):
    """`retrain` is skipped without a reason; with one it runs the commit, leaves the working tree alone, keeps what came out."""
    project.how()
    project.git("commit", "-qam", "new data")
    project.flow("retrain")
    assert "Skipped: no reason: all 3 stages are up to date" in project.flow("retrain")
    project.how()
    project.git("commit", "-qam", "newer data")
    committed = (project.place / "given.txt").read_text()
    (project.place / "given.txt").write_text("somebody is working on it")
    before = project.git("status", "--porcelain")
    said = project.flow("retrain", "--branch", "retrained")
    assert "Completed: 3 of 3 stages ran: left, right, both; reason: given.txt modified (left, right)" in said
    assert (project.git("status", "--porcelain"), (project.place / "given.txt").read_text()) == (
        before,
        "somebody is working on it",
    )
    assert project.git("show", "retrained:both.txt") == 2 * committed
    assert "left:" in project.git("show", "retrained:dvc.lock")
    assert project.git("rev-parse", "retrained^") == project.git("rev-parse", "HEAD")
    assert "Skipped" in project.flow("retrain", "--branch", "retrained")
    assert "reason: it drifts" in project.flow("retrain", "--reason", "it drifts", "--branch", "retrained")
    assert project.git("rev-parse", "retrained^") == project.git("rev-parse", "HEAD")
    known = project.place / ".darkroom" / "retrained.json"
    known.write_text(json.dumps(json.loads(known.read_text()) | {"time": time.time() - 40 * 86400}))
    said = project.flow("retrain", "--max-age", "30")
    assert "3 of 3 stages ran" in said
    assert "everything was run 40.0 days ago" in said
    project.git("checkout", "-q", "given.txt")


def test_a_drift_starts_a_retraining_once(project):
    """`monitor` is skipped where nothing arrives; where a drift begins, its event starts `retrain` with the reason, once."""

    def arrive(*what: str) -> None:
        project.run("tests.monitoring.arrivals", *what, PYTHONPATH=f"{project.place / 'src'}{os.pathsep}{ROOT}")

    def monitor(*arguments: str, code: int = 0) -> str:
        return project.flow("monitor", "--window", "30", *arguments, code=code, PREFECT_API_URL=project.api)

    def started() -> Any:
        runs = project.asked("flow_runs/filter", flows={"name": {"any_": ["retrain"]}}, limit=200)
        return [run for run in runs if str(run["parameters"].get("reason", "")).startswith("drift: the last 30 images are not")]

    assert "Skipped: nothing arrives: there is no data/inbox" in monitor()
    arrive("model")
    arrive("bright", "0", "30")
    assert "Completed: 30 new images; the last 30 images are like those" in monitor("--model", "model")
    assert "Skipped: no new images" in monitor("--model", "model")
    arrive("dark", "30", "30")
    assert "DRIFT" in project.run("darkroom", "monitor", "--window", "30", "--model", "model")  # a person sees it first
    assert "Skipped: no new images; the last 30 images are not like those" in monitor("--model", "model")
    (run,) = until(started)
    shown = project.asked("artifacts/latest/filter", artifacts={"key": {"any_": ["drift", "monitoring"]}})
    assert {item["key"] for item in shown} == {"drift", "monitoring"}
    until(lambda: project.state(run["id"])[0].upper() in ("COMPLETED", "SKIPPED", "FAILED", "REFUSED"), 120)
    arrive("dark", "60", "1")
    assert "Drifted: 1 new images" in monitor("--model", "model")
    time.sleep(3)
    assert len(started()) == 1
    assert "no champion yet" in monitor()


def test_studies_run_side_by_side_and_show_what_they_found(project):
    """`study` runs the studies that are named, or all, side by side, and shows what each found."""
    assert "there is no studies/dvc.yaml" in project.flow("study", code=2)
    found = {"study": "depth", "question": "Which?", "finding": "The deeper one.", "equal": "Equal steps."}
    (project.place / "studies").mkdir()
    (project.place / "studies" / "dvc.yaml").write_text(STUDIES)
    (project.place / "studies" / "found.json").write_text(json.dumps(found))
    try:
        said = project.flow("study", "depth", PREFECT_API_URL=project.api)
        assert "1 of 1 stages ran: studies/dvc.yaml:study@depth" in said
        shown = project.asked("artifacts/latest/filter", artifacts={"key": {"any_": ["study-depth"]}})
        assert "**The deeper one.**" in shown[0]["data"]
        assert "1 of 2 stages ran" in project.flow("study", "--concurrency", "2")
        assert "2 of 2 stages ran" in project.flow("study", "--concurrency", "2", "--force")
        times = [[float(item) for item in (project.place / f"{name}.times").read_text().split()] for name in ("depth", "width")]
        assert max(begun for begun, _ in times) < min(ended for _, ended in times)
        assert "breadth" in project.flow("study", "breadth", code=2)
    finally:
        shutil.rmtree(project.place / "studies")


def test_what_would_be_run_is_what_is_seen(project):
    """`retrain` refuses, with the remedy, where params.yaml here is not the committed one, and for a commit that is not there."""
    text = (project.place / "params.yaml").read_text()
    (project.place / "params.yaml").write_text(text.replace("views: 4", "views: 5"))
    said = project.flow("retrain", code=2)
    assert "params.yaml here is not that of commit HEAD" in said
    assert "git commit params.yaml" in said
    (project.place / "params.yaml").write_text(text)
    assert "there is no commit nowhere here" in project.flow("retrain", "--ref", "nowhere", code=2)


def test_outputs_come_from_a_remote_and_go_there(project, tmp_path):
    """`push` sends what DVC has to its remote, `pull` brings it back; without a remote both are refused before anything runs."""
    project.how()
    assert "DVC has no remote" in project.flow("repro", "--push", code=2)
    assert not (project.place / "log").exists()
    project.run("dvc", "remote", "add", "--local", "-d", "store", str(tmp_path))
    project.flow("repro", "--push")
    assert set(project.states()) == {"left", "right", "both", "push"}
    assert list(tmp_path.rglob("*"))
    shutil.rmtree(project.place / ".dvc" / "cache")
    (project.place / "left.txt").unlink()
    project.flow("repro", "--pull")
    assert project.states() == {"pull": "Completed", "left": "Cached", "right": "Cached", "both": "Cached"}
    project.run("dvc", "remote", "remove", "--local", "store")


def test_mistakes_are_refused_before_anything_runs(project):
    """A wrong param, stage or number ends with a remedy and exit code 2; right params are written into params.yaml."""
    project.how()
    text = (project.place / "params.yaml").read_text()
    said = project.flow("repro", "--set", "transfer.lrr=1", code=2)
    assert "remedy:" in said
    assert "lrr" in said
    assert "no-such-stage" in project.flow("repro", "no-such-stage", code=2)
    assert "remedy:" in project.flow("repro", "--concurrency", "0", code=2)
    assert (project.place / "params.yaml").read_text() == text
    assert not (project.place / "log").exists()
    assert "Traceback" not in said
