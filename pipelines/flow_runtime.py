"""What all flows have in common: the server, the lock of the workspace, a process that ends in time, and who hears of a failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import get_client, get_run_logger, runtime
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import MissingContextError, ParameterTypeError, TerminationSignal
from prefect.flows import Flow
from prefect.states import Cancelled, Completed, Failed, State

from darkroom.config import params
from darkroom.core import locks
from darkroom.core.errors import DarkroomError, WorkspaceError
from pipelines import notifications
from pipelines.stages import StoppedError

LOOK = 1.0  # seconds between looks whether this process is still wanted
ASK = 4  # of these looks, between two at which the server is asked
ENDING = 20.0  # seconds in which a cancelled run must have ended by itself
REFUSED = "Refused"  # what cannot be run as it was asked for


def skipped(why: str) -> State[Any]:
    """Return the state of a flow that had no reason to do anything."""
    return Completed(name="Skipped", message=why)


def turn(work: Callable[[list[Callable[[], object]]], State[Any]], wait: bool, alone: bool = True) -> State[Any]:
    """Do the work of a flow once no other run holds the workspace; return how it ended, mistakes and refusals included.

    What need not be `alone` does not wait for others. The work is handed a list, to which it adds what ends its stages. That is
    called where somebody cancels the run in Prefect's pages, and no worker sees to it. Where there is a worker and it is killed,
    this process is ended, and with it its stages.
    """
    if later := replaced_by():
        return skipped(f"the slot of {later.expected_start_time:%F %T %Z} replaces this one")
    ends: list[Callable[[], object]] = []
    over = threading.Event()
    parent = os.getppid() if os.environ.get("PREFECT__FLOW_RUN_ID") else 0
    threading.Thread(target=_watch, args=(over, ends, parent, runtime.flow_run.id), daemon=True).start()
    try:
        with locks.workspace(f"the flow run {name()}", get_run_logger().info, wait) if alone else nullcontext():
            return work(ends)
    except locks.BusyError as error:
        return skipped(error.problem)
    except StoppedError as error:
        return Cancelled(message=str(error))
    except DarkroomError as error:
        return Failed(name=REFUSED, message=str(error))
    finally:
        over.set()


def _watch(over: threading.Event, ends: list[Callable[[], object]], parent: int, run: str) -> None:
    looks = 0
    while not over.wait(LOOK):
        looks += 1
        if parent and os.getppid() != parent:
            break
        if not parent and looks % ASK == 0 and _is_cancelled(run):
            for end in ends:
                end()
            over.wait(ENDING)  # for the flow to say so itself
            break
    if not over.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True)
class Ran:
    """How a command of the package has ended: its exit code, what it wrote, its last words, whether it took too long."""

    code: int
    made: str
    said: str
    late: bool


def command(words: list[str], ends: list[Callable[[], object]], limit: float) -> Ran:
    """Run a command of the package, for `limit` seconds at most; what it reports goes to the log as it comes.

    Its processes end with this block, or as soon as what is added to `ends` is called: then StoppedError.
    """
    whole = [sys.executable, "-m", "darkroom", *words]
    process = subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    stopped, late, said, logger = threading.Event(), threading.Event(), deque[str](maxlen=12), get_run_logger()

    def kill(why: threading.Event | None = None) -> None:
        if why:
            why.set()
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)

    def report() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line.rstrip())
            logger.info(line.rstrip())

    ends.append(lambda: kill(stopped))
    timer, reporter = threading.Timer(limit, lambda: kill(late)), threading.Thread(target=report, daemon=True)
    timer.start()
    reporter.start()
    try:
        assert process.stdout is not None
        made = process.stdout.read()
        code = process.wait()
        reporter.join()
    finally:
        timer.cancel()
        if process.poll() is None:
            kill()
            process.wait()
    if stopped.is_set():
        raise StoppedError(f"darkroom {words[0]} was ended")
    text = "\n".join(said)
    return Ran(code, made, text.partition("error: ")[2] or text, late.is_set())


def _is_cancelled(run: str) -> bool:
    with suppress(Exception), get_client(sync_client=True) as client:  # a server that does not answer now
        state = client.read_flow_run(run).state  # type: ignore[arg-type]
        return bool(state and state.type == StateType.CANCELLING)
    return False


def name() -> str:
    """Return what the runs of this flow run are grouped by in MLflow."""
    try:
        return f"{runtime.flow_run.name} {str(runtime.flow_run.id)[:8]}"
    except (MissingContextError, AttributeError):
        return f"{Path(sys.argv[0]).stem} {os.getpid()}"


def replaced_by() -> FlowRun | None:
    """Return a run of the same deployment for a later slot that has come too: of the slots that were missed the last one counts."""
    run = runtime.flow_run.id
    if not run:
        return None
    with get_client(sync_client=True) as client:
        mine = client.read_flow_run(run)  # type: ignore[arg-type]
        if not (mine.deployment_id and mine.auto_scheduled and mine.expected_start_time):
            return None
        later = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"expected_start_time": {
                "after_": mine.expected_start_time, "before_": mine.start_time or mine.expected_start_time}}),
            deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [mine.deployment_id]}}),
        )  # fmt: skip
    return next((other for other in later if other.id != mine.id and other.auto_scheduled
                 and other.expected_start_time and other.expected_start_time > mine.expected_start_time), None)  # fmt: skip


def notify(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell of a failure: to the command and to the webhook that the environment names, once for a run."""
    notifications.tell(flow.name, flow_run.name, str(flow_run.id), state.name or "Failed", str(state.message), _page(flow_run))


def _page(run: FlowRun) -> str:
    from prefect.settings import PREFECT_UI_URL

    return f"{PREFECT_UI_URL.value()}/runs/flow-run/{run.id}" if PREFECT_UI_URL.value() else ""


def end(flow: Flow[..., Any], **parameters: Any) -> int:
    """Run a flow from the command line; return 0, 1 where it failed, 2 for a mistake with a remedy, 130 where it was ended."""
    try:
        if not Path("dvc.yaml").exists():
            raise WorkspaceError(f"there is no dvc.yaml here ({Path.cwd()})", "run it in the project's folder")
        params.read()
        flow.validate_parameters(parameters)
        state: Any = flow(**parameters, return_state=True)
    except DarkroomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ParameterTypeError as error:
        print(f"error: {error}\n  remedy: `--help` says what the options take", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, TerminationSignal):
        return 130
    if state.is_completed():
        print(f"{state.name}: {state.message}" if state.message else state.name)
        return 0
    if state.is_cancelled():
        print(state.message, file=sys.stderr)
        return 130
    print(f"error: {state.message}", file=sys.stderr)
    return 2 if state.name == REFUSED else 1
