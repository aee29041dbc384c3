"""Stages on other machines: each becomes a flow run in a work pool of Prefect's, which a worker runs (`pool_stage`).

The project goes there as a commit of its git repository, data come and go by DVC's remote and its run cache. So nothing of
this machine is named, and a stage whose result the remote has is not run again. A run that has ended without a result, or
that shows no sign of life, is started again, on whatever machine takes it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.events.filters import EventFilter
from prefect.states import Cancelled, Cancelling, Crashed

from darkroom.core.errors import WorkspaceError, without_login
from pipelines import flow_runtime
from pipelines.dvc_runner import DvcRunner, Stage
from pipelines.process_groups import STOPPED, StoppedError

POLL = 1.0  # seconds between two looks at a run
SIGN_POLL = 10.0  # seconds between two looks for a sign of life
SILENCE = 120.0  # seconds without one, four heartbeats, after which a run counts as dead
PENDING = 900.0  # seconds that a worker may take to begin a run: the image of a container may have to be fetched
NOTICE = 60.0  # seconds between two messages that a run waits for a worker
MAX_ATTEMPTS = 3  # of a stage whose worker dies, perhaps by the stage
HEARTBEAT = "prefect.flow-run.heartbeat"
UNFINISHED = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


@dataclass
class Pool:
    """A work pool, and where its workers find the project."""

    name: str
    runner: DvcRunner
    pipeline: str  # the name of the run in MLflow
    parameters: dict[str, str]  # of each flow run: repository, ref, commit, project
    portable: set[str]  # stages that another machine can run
    deployment: UUID
    entries: dict[str, dict[str, str]] = field(default_factory=dict)  # of the run cache, of stages that nothing runs before
    shared: set[str] = field(default_factory=set)  # stages whose outputs are in DVC's remote
    dvc: threading.Lock = field(default_factory=threading.Lock)  # one command at a time: each waits for the repository's lock

    def run(self, name: str, stage: Stage, limit: float | None, log: Callable[[str], object]) -> FlowRun | None:
        """Bring the result of a stage here, from DVC's remote or by a run in the pool; return the run, None where there was none.

        The run has ended, and not always well. Raises StoppedError where this flow is cancelled, WorkspaceError where
        DVC cannot exchange what is needed.
        """
        entry = self.entries.pop(name, None) or self._run_cache("find", name, log)["stages"][name]
        run = None
        if not entry["is_cached"]:
            self._share(stage, log)
            run = self._run_somewhere(name, stage, limit, entry, log)
            if run.state_type != StateType.COMPLETED:
                return run
        self._run_cache("restore", name, log)
        self.shared.add(name)
        return run

    def look_up(self, names: list[str]) -> None:
        """Ask the run cache for several stages at once, before any stage runs; where that fails, each asks by itself."""
        content, _ = self.runner.run_cache("find", *names) if names else ({}, False)
        self.entries = content.get("stages", {})

    def _run_cache(self, action: str, name: str, log: Callable[[str], object]) -> dict[str, Any]:
        while True:
            with self.dvc:
                content, is_retryable = self.runner.run_cache(action, name)
            if "error" not in content:
                return content
            if not is_retryable:
                remedy = "`darkroom tidy` removes outputs of earlier backbones; see `dvc status` and `git status`"
                raise WorkspaceError(f"{name}: {content['error']}", remedy)
            log(f"waiting for another process of DVC: {content['error']}")
            if self.runner.processes.stopped.wait(5):
                raise StoppedError(STOPPED)

    def _share(self, stage: Stage, log: Callable[[str], object]) -> None:
        """Send what a stage reads to DVC's remote."""
        with self.dvc:
            names = [name for name in stage.upstream if name not in self.shared]
            if names and stage.inputs:
                result = self.runner.dvc("push", *names, on_line=log)
                if result.returncode:
                    remedy = "see `dvc remote list` and `dvc push`"
                    raise WorkspaceError(f"dvc push {' '.join(names)}: {result.error}", remedy, retryable=True)
                self.shared.update(names)

    def _run_somewhere(
        self, name: str, stage: Stage, limit: float | None, entry: dict[str, str], log: Callable[[str], object]
    ) -> FlowRun:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            run = self._unfinished(entry["key"]) or self._start(name, stage, limit, entry)
            log(f"{name} is the flow run {run.name} of the pool {self.name}")
            run = self._follow(run, log)
            if run.state_type != StateType.CRASHED:
                break
            then = "; another one takes it over" if attempt < MAX_ATTEMPTS else ""
            log(f"the flow run {run.name} has crashed: {run.state.message if run.state else ''}{then}")
        return run

    def _unfinished(self, key: str) -> FlowRun | None:
        """Return a run of the same stage with the same inputs, that another flow has started or that one was killed after."""
        with get_client(sync_client=True) as client:
            states = {"type": {"any_": [state.value for state in UNFINISHED]}}
            runs = client.read_flow_runs(
                flow_run_filter=FlowRunFilter.model_validate({"tags": {"all_": [_tag(key)]}, "state": states})
            )
        return runs[0] if runs else None

    def _start(self, name: str, stage: Stage, limit: float | None, entry: dict[str, str]) -> FlowRun:
        key = hashlib.sha256(f"{self.pipeline} {name}".encode()).hexdigest()[:32]  # the same for each attempt
        environment = {"DARKROOM_PIPELINE": self.pipeline, "DARKROOM_RUN_KEY": key} | _tracking(self.runner)
        run = run_deployment(
            self.deployment, timeout=0, tags=[_tag(entry["key"])], flow_run_name=f"{name} of {flow_runtime.run_name()}",
            parameters=self.parameters | {
                "name": name, "inputs": stage.inputs, "gathered": stage.gathered, "lock": entry["lock"], "limit": limit,
                "environment": environment,
            },
        )  # fmt: skip
        return cast(FlowRun, run)  # a coroutine in code that is asynchronous alone

    def _follow(self, run: FlowRun, log: Callable[[str], object]) -> FlowRun:
        """Return a run when it has ended, or when it shows no sign of life, which makes it crashed."""
        life = _SignsOfLife(run)
        noticed = time.monotonic()
        while not (run.state and run.state.is_final()):
            if self.runner.processes.stopped.wait(POLL):
                self._cancel(run)
                raise StoppedError(STOPPED)
            with get_client(sync_client=True) as client:
                run = client.read_flow_run(run.id)
                if run.state_type == StateType.SCHEDULED and time.monotonic() - noticed > NOTICE:
                    noticed = time.monotonic()
                    log(f"the flow run {run.name} waits for a worker of the pool {self.name}")
                if reason := life.missing(client, run):
                    client.set_flow_run_state(run.id, Crashed(message=reason), force=True)
                    run = client.read_flow_run(run.id)
        return run

    def _cancel(self, run: FlowRun) -> None:
        with suppress(Exception), get_client(sync_client=True) as client:
            is_running = client.read_flow_run(run.id).state_type in (StateType.RUNNING, StateType.PENDING)
            client.set_flow_run_state(run.id, Cancelling() if is_running else Cancelled())


class _SignsOfLife:
    """Tells whether a run lives: by its states and heartbeats as they appear here, so that no clock of another machine matters."""

    def __init__(self, run: FlowRun) -> None:
        self.sign: tuple[object, object] = (None, None)
        self.last_sign_at = self.polled_at = time.monotonic()

    def missing(self, client: object, run: FlowRun) -> str:
        """Return why a run counts as dead; "" where it lives, waits or has ended."""
        now = time.monotonic()
        state = run.state.id if run.state else None
        if state == self.sign[0] and now - self.polled_at < SIGN_POLL:
            return ""
        self.polled_at = now
        sign = (state, _last_heartbeat(client, run.id) if run.state_type == StateType.RUNNING else None)
        if sign != self.sign:
            self.sign, self.last_sign_at = sign, now
        silence = now - self.last_sign_at
        if run.state_type == StateType.RUNNING and self.sign[1] and silence > SILENCE:  # its server may keep no events
            return f"no heartbeat for {silence:.0f} s: its machine is off or cut off"
        if run.state_type in (StateType.PENDING, StateType.CANCELLING) and silence > PENDING:
            return f"its worker has not {'begun' if run.state_type == StateType.PENDING else 'ended'} it in {silence:.0f} s"
        return ""


def _last_heartbeat(client: object, run_id: UUID) -> object:
    """Return the id of the last heartbeat of a run; None where it has none yet."""
    events = EventFilter.model_validate({"event": {"name": [HEARTBEAT]}, "resource": {"id": [f"prefect.flow-run.{run_id}"]}})
    page = client.read_events(events, limit=1)  # type: ignore[attr-defined]
    return page.events[0].id if page.events else None


def _tag(key: str) -> str:
    return f"darkroom:{key[:32]}"


def _tracking(runner: DvcRunner) -> dict[str, str]:
    """Return by which variables a worker records the run: on the MLflow server of this machine, or else nowhere."""
    address = runner.environment.get("MLFLOW_TRACKING_URI", "")
    is_off = runner.environment.get("DARKROOM_TRACKING", "").lower() in ("off", "0", "false")
    if is_off or not address.startswith(("http://", "https://")):
        return {"DARKROOM_TRACKING": "off"}
    return {"MLFLOW_TRACKING_URI": without_login(address)}
