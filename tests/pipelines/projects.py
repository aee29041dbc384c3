"""A small project whose stages are shell commands, its Prefect server, and the requests of tests to it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

from prefect.context import refresh_global_settings_context

from darkroom import cli
from pipelines import command_line, dvc_runner, schedule, stage_graph
from pipelines.monitor import monitor
from pipelines.process_groups import CommandResult, ProcessGroups
from pipelines.repro import repro
from pipelines.retrain import retrain
from pipelines.study import study
from pipelines.tidy import tidy
from tests.conftest import NOT_SOURCES, ROOT
from tests.pipelines.processes import wait_until
from tests.postgresql import free_port

FLOWS = {"repro": repro, "retrain": retrain, "monitor": monitor, "study": study, "tidy": tidy}
DEPLOYMENTS = {
    "repro": "small-on-demand", "retrain": "small-nightly", "monitor": "small-hourly", "study": "small-on-demand",
    "tidy": "small-weekly",
}  # fmt: skip
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
GRAPH = """\
stages:
  left:
    cmd: python step.py left
    deps: [step.py, input.txt]
    params: [transfer.lr]
    outs: [left.txt]
  right:
    cmd: python step.py right
    deps: [step.py, input.txt]
    outs: [right.txt]
  both:
    cmd: cat left.txt right.txt > both.txt && printf 'model,accuracy\\nbaseline,0.5\\n' > leaderboard.csv
    deps: [left.txt, right.txt]
    outs:
      - both.txt: {cache: false}
      - leaderboard.csv
"""
# actions/NAME holds `hang` (until gates/NAME exists), `meet OTHER` (wait until OTHER has started), or one exit
# code per attempt
STEP = """\
import os, pathlib, subprocess, sys, time
name = sys.argv[1]
action = pathlib.Path("actions") / name
words = action.read_text().split() if action.exists() else []
log = pathlib.Path("log"); log.mkdir(exist_ok=True)

def wait_for(path):
    deadline = time.monotonic() + 500  # longer than a test waits
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)

(log / f"{name}.started").write_text(os.environ.get("DVC_EXP_NAME", ""))
print(f"{name}: 1 of 4 steps, 3 s left", flush=True)
if words[:1] == ["hang"]:
    child = subprocess.Popen(["sleep", "600"])
    pids = log / f"{name}.pids.new"
    pids.write_text(f"{os.getpid()} {child.pid}"); pids.rename(log / f"{name}.pids")
    wait_for(pathlib.Path("gates") / name)
    child.kill()
elif words[:1] == ["meet"]:
    wait_for(log / f"{words[1]}.started")
elif words:
    action.write_text(" ".join(words[1:]))
    if words[0] != "0":
        print(f"error: {name} refuses\\n  remedy: wait", flush=True)
        sys.exit(int(words[0]))
with (log / f"{name}.ends").open("a") as file:
    print("end", file=file)
pathlib.Path(f"{name}.txt").write_text(pathlib.Path("input.txt").read_text())
"""


run_as_process = ProcessGroups.run
one_at_a_time = threading.Lock()  # what runs here writes to sys.stdout


def run_here(
    groups: ProcessGroups,
    command: Sequence[str],
    on_line: Callable[[str], object],
    folder: Path = Path(),
    environment: Mapping[str, str] | None = None,
    limit: float | None = None,
    capture_stdout: bool = False,
) -> CommandResult:
    """Run a `darkroom` command, and the script that reads DVC's graph, as `ProcessGroups.run` does, in this process, which has
    imported what they need; all else, and what runs in another folder, as a process.
    """
    arguments = [argument for argument in command[1:] if argument != "-P"]
    is_script = arguments[0] == str(dvc_runner.SCRIPT.resolve())
    if folder.resolve() != Path.cwd() or not (is_script or arguments[:2] == ["-m", "darkroom"]):
        return run_as_process(groups, command, on_line, folder, environment, limit, capture_stdout)
    output = io.StringIO()
    errors = io.StringIO() if capture_stdout else output

    def work() -> int:
        with (
            one_at_a_time,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
            mock.patch.object(sys, "argv", arguments),
        ):
            return stage_graph.main() if is_script else cli.main(arguments[2:])

    with ThreadPoolExecutor(1) as thread:  # one that is not Prefect's, which logs what is printed
        code = thread.submit(work).result()
    lines = errors.getvalue().splitlines()
    for line in lines:
        on_line(line)
    return CommandResult(code, lines, output.getvalue() if capture_stdout else "")


class Project:
    """A project in a folder, and a server at a port that was free."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.slot = (datetime.now().hour + 12) % 24  # the hour of its schedules: none is due while tests run
        self.csrf: dict[str, str] = {}  # the server's token against forged requests, which lasts longer than the tests
        self.task_states: dict[str, str] = {}  # of the newest flow in this process, by the name of the task
        self.api = f"http://127.0.0.1:{self.port}/api"
        unset = ("PREFECT_", "DARKROOM_", "MLFLOW_", "DVC_", "GIT_")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(unset)} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder / "src"),
            "DARKROOM_TRACKING": "off", "DARKROOM_PROJECT": "small", "DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2", "PREFECT_WORKER_QUERY_SECONDS": "1",
        }  # fmt: skip

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start `python -m command`.

        Ctrl-C ends it also where this process ignores SIGINT, as a background job does.
        """
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=self.folder, env=self.environment | environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def run(self, *command: str, code: int = 0, **environment: str) -> str:
        """Return the output of `python -m command`, which must have this exit code."""
        process = self.start(*command, **environment)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == code, output[-4000:]
        return output

    def flow(self, name: str, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run a flow in this process, as `darkroom flow` does in one of its own, and in it what `run_here` runs.

        Return its output and its logs.
        """
        output = io.StringIO()
        handler = logging.StreamHandler(output)
        handler.addFilter(self._note_state)
        self.task_states.clear()
        loggers = [logging.getLogger(f"prefect.{runs}") for runs in ("flow_runs", "task_runs")]
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment | environment, clear=True),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
            mock.patch.object(ProcessGroups, "run", run_here),
        ):
            for logger in loggers:
                logger.addHandler(handler)
            try:
                result = command_line.main(FLOWS[name], arguments)
            finally:
                for logger in loggers:
                    logger.removeHandler(handler)
        assert result == code, output.getvalue()[-4000:]
        return output.getvalue()

    def schedule(self, *arguments: str, code: int = 0) -> str:
        """Return the output of `python -m pipelines.schedule`, run in this process."""
        output = io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment, clear=True),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            result = schedule.main(arguments)
        assert result == code, output.getvalue()[-4000:]
        return output.getvalue()

    @contextlib.contextmanager
    def default_server(self) -> Iterator[None]:
        """Let Prefect use this project's server in this process, also in its background threads."""
        environment = {
            "PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": self.password(), "PREFECT_HOME": str(self.folder / ".prefect"),
        }  # fmt: skip
        with mock.patch.dict(os.environ, environment):
            refresh_global_settings_context()
            yield
        refresh_global_settings_context()

    def _note_state(self, record: logging.LogRecord) -> bool:
        """Note the state in which a task ends, as its log says; the server learns it later, and a busy one perhaps never."""
        ended = re.match(r"Finished in state (\w+)", record.getMessage())
        if ended and hasattr(record, "task_run_name"):
            self.task_states[record.task_run_name] = ended[1]
        return True

    def prepare(self, **actions: str) -> None:
        """Set what the steps do, and change their input, so that they run."""
        for name in ("actions", "gates", "log"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("actions", "gates"):
            (self.folder / name).mkdir()
        for name, action in actions.items():
            (self.folder / "actions" / name).write_text(action)
        (self.folder / "input.txt").write_text(str(time.time_ns()))

    def open_gate(self, name: str) -> None:
        """Let a step end that hangs."""
        (self.folder / "gates" / name).touch()

    def pids(self, name: str) -> list[int]:
        """Return the processes of a step that hangs, once it does."""
        file = self.folder / "log" / f"{name}.pids"
        wait_until(file.exists)
        return [int(word) for word in file.read_text().split()]

    def ends(self, name: str) -> int:
        """Return how often a step has come to its end."""
        file = self.folder / "log" / f"{name}.ends"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def request(self, path: str, content: Any = None, method: str = "POST", **fields: Any) -> Any:
        """Return the response of the server; a busy one is asked again, as Prefect's own clients do."""
        data = None if method in ("GET", "DELETE") else json.dumps(fields if content is None else content).encode()
        if method == "GET" or not self.password():
            return self.send(method, path, data, self.login())
        self.csrf = self.csrf or self.csrf_headers()
        return self.send(method, path, data, self.csrf | self.login())

    def password(self) -> str:
        """Return the password of the server, "" where there is none yet: the person's, else that of `make schedule`."""
        file = self.folder / ".darkroom" / "schedule" / "password"
        return self.environment.get("PREFECT_API_AUTH_STRING") or (file.read_text().strip() if file.exists() else "")

    def login(self) -> dict[str, str]:
        password = self.password()
        return {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"} if password else {}

    def csrf_headers(self) -> dict[str, str]:
        client = str(uuid.uuid4())
        token = self.send("GET", f"csrf-token?client={client}", None, self.login())["token"]
        return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}

    def send(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Any:
        """Return the response to a request with these headers."""
        headers = {"Content-Type": "application/json"} | headers
        request = urllib.request.Request(f"{self.api}/{path}", data, headers, method=method)
        for _ in range(30):
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return json.loads(response.read() or b"null")
            except (urllib.error.HTTPError, TimeoutError) as error:
                if getattr(error, "code", 503 if method == "GET" else 0) != 503:
                    raise
                time.sleep(1)
        raise TimeoutError(f"{path}: the server is busy")

    def newest_run(self) -> dict[str, Any]:
        """Return the flow run that began last."""
        begun = {"state": {"type": {"not_any_": ["SCHEDULED", "PENDING"]}}}
        return self.request("flow_runs/filter", flow_runs=begun, sort="START_TIME_DESC", limit=1)[0]

    def tasks(self, run_id: str = "") -> dict[str, dict[str, Any]]:
        """Return the tasks of a flow run, by default of the newest one, by name, once the server knows how they ended."""
        run_id = run_id or self.newest_run()["id"]

        def ended() -> list[dict[str, Any]]:
            tasks = self.request("task_runs/filter", flow_runs={"id": {"any_": [run_id]}})
            is_final = all(task["state_type"] in FINAL or task["state_name"] == "NotReady" for task in tasks)
            return tasks if is_final else []

        return {task["name"]: task for task in wait_until(ended)}

    def holder(self) -> dict[str, Any]:
        """Return who holds the workspace."""
        return json.loads((self.folder / ".dvc" / "tmp" / "darkroom.json").read_text())

    def run_of(self, description: str) -> str:
        """Return the id of the flow run that a holder of the workspace describes."""
        name = description.removeprefix("the flow run ").rpartition(" ")[0]
        return str(self.request("flow_runs/filter", flow_runs={"name": {"any_": [name]}})[0]["id"])

    def artifacts(self) -> dict[str, dict[str, Any]]:
        """Return the latest artifact of each key."""
        return {item["key"]: item for item in self.request("artifacts/latest/filter")}

    def deployments(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the deployments by the names of their flow and their own."""
        flows = {flow["id"]: flow["name"] for flow in self.request("flows/filter")}
        return {(flows[item["flow_id"]], item["name"]): item for item in self.request("deployments/filter")}

    def deployment(self, flow: str) -> str:
        return str(self.request(f"deployments/name/{flow}/{DEPLOYMENTS[flow]}", method="GET")["id"])

    def deploy_run(self, flow: str, **parameters: Any) -> str:
        """Create a run of a deployment and return its id."""
        return str(self.request(f"deployments/{self.deployment(flow)}/create_flow_run", parameters=parameters)["id"])

    def state(self, run_id: str) -> tuple[str, str]:
        """Return the name and the message of the state of a flow run."""
        state = self.request(f"flow_runs/{run_id}", method="GET")["state"]
        return state["name"], state["message"] or ""

    def final_state(self, run_id: str) -> tuple[str, str] | None:
        """Return the name and the message of the state of a flow run that has ended; None before."""
        state = self.request(f"flow_runs/{run_id}", method="GET")["state"]
        return (state["name"], state["message"] or "") if state["type"] in FINAL else None

    def set_state(self, run_id: str, state: str, force: bool = False) -> None:
        self.request(f"flow_runs/{run_id}/set_state", state={"type": state}, force=force)

    @contextlib.contextmanager
    def paused_pool(self) -> Iterator[None]:
        """Let the worker start nothing during a block."""
        self.request("work_pools/small", method="PATCH", is_paused=True)
        try:
            yield
        finally:
            self.request("work_pools/small", method="PATCH", is_paused=False)

    def schedule_state(self) -> dict[str, Any]:
        """Return what `python -m pipelines.schedule` has started."""
        return json.loads((self.folder / ".darkroom" / "schedule.json").read_text())

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout


def create_project(folder: Path) -> Project:
    """Create a project of three stages in a folder of its own, with one commit."""
    project = Project(folder)
    fill_project(project)
    return project


def fill_project(project: Project) -> None:
    """Write the files of a project, with one commit."""
    folder = project.folder
    for name in ("src", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    for name in ("params.yaml", "prefect.toml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "step.py").write_text(STEP)
    deployments, count = re.subn(r'cron: "0 (3|5|\*) ', f'cron: "0 {project.slot} ', (ROOT / "prefect.yaml").read_text())
    assert count == 3, "every schedule of prefect.yaml is moved"
    (folder / "prefect.yaml").write_text(deployments)
    project.prepare()
    project.git("init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")
    project.git("add", "dvc.yaml", "params.yaml", "step.py", "input.txt", ".dvc", ".dvcignore", ".gitignore")
    project.git("commit", "-qm", "as it is")
