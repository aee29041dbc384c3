"""What all flows share: the workspace's lock, cancellation, notifications, and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
from prefect import get_client, get_run_logger, runtime
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ParameterTypeError, TerminationSignal
from prefect.flows import Flow
from prefect.settings import PREFECT_UI_URL
from prefect.states import Cancelled, Completed, Failed, State

from darkroom.config import dvc_repair, params, stage_code
from darkroom.core import locks
from darkroom.core.command_line import report
from darkroom.core.errors import DRIFTED, EX_TEMPFAIL, MISTAKE, DarkroomError, ParamsError, WorkspaceError, without_login
from pipelines import crashed_run, notifications, server
from pipelines.process_groups import ProcessGroups, StoppedError

POLL = 1.0  # seconds between two checks that the worker lives
SERVER_POLLS = 4  # every so many of these checks, the server is asked whether the run was cancelled
CANCEL_TIMEOUT = 20.0  # seconds in which a cancelled run must end by itself
END_TIMEOUT = 30.0  # seconds in which the process of an interrupted run must: Prefect waits minutes for a server that is gone
REFUSED = "Refused"  # the name of the state of a run that cannot start because of a mistake
UNAVAILABLE = "Unavailable"  # of a run that lacks what may be there later, such as a worker or a remote
DRIFT = "Drifted"  # of a run that has found drift: it did its work, and somebody should look
INTERRUPTED = 130
INTERRUPTIONS = (KeyboardInterrupt, TerminationSignal)
EXIT_CODES = {REFUSED: MISTAKE, UNAVAILABLE: EX_TEMPFAIL}


def skipped(reason: str) -> State[Any]:
    """Return the state of a flow run that had nothing to do."""
    return Completed(name="Skipped", message=reason)


def run_exclusively(work: Callable[[ProcessGroups], State[Any]], wait: bool, exclusive: bool = True) -> State[Any]:
    """Do the work of a flow while no other run holds the workspace; return the final state.

    With `exclusive=False` it does not take the workspace's lock. The processes of `work` are ended where the
    run is cancelled in Prefect's pages or where its worker dies. Where this process is killed, the run's
    tasks, and without a worker the run itself, become *Crashed*.
    """
    if later := later_slot():
        return skipped(f"replaced by the run for {later.expected_start_time:%F %T %Z}")
    done = threading.Event()
    try:
        lock = locks.workspace(f"the flow run {run_name()}", get_run_logger().info, wait) if exclusive else nullcontext()
        parent = os.getppid() if os.environ.get("PREFECT__FLOW_RUN_ID") else 0
        with get_client(sync_client=True) as client:
            after_death = crashed_run.mark_command(str(client.api_url), str(runtime.flow_run.id), has_worker=bool(parent))
        with ProcessGroups(after_death) as processes:
            watch = threading.Thread(target=_watch, args=(done, processes, parent, runtime.flow_run.id), daemon=True)
            watch.start()
            with lock, dvc_repair.guard(get_run_logger().warning) if exclusive else nullcontext():
                return work(processes)
    except locks.BusyError as error:
        return skipped(error.problem)
    except StoppedError as error:
        return Cancelled(message=str(error))
    except DarkroomError as error:
        return Failed(name=UNAVAILABLE if error.retryable else REFUSED, message=str(error))
    except INTERRUPTIONS:
        limit_end()
        raise
    finally:
        done.set()


def limit_end(code: int = INTERRUPTED) -> None:
    """End this process with an exit code in `END_TIMEOUT` seconds, unless it has ended by then.

    What it leaves to do is done by its watchers (`process_groups`): they end what it has started, and mark the run.
    """

    def end() -> None:
        print(f"ended without the Prefect server, which has not taken the state of the run in {END_TIMEOUT:g} s", file=sys.stderr)
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(END_TIMEOUT, end)
    timer.daemon = True
    timer.start()


def _watch(done: threading.Event, processes: ProcessGroups, parent: int, flow_run_id: str) -> None:
    """End this process where its worker dies or, without a worker, where the run is cancelled.

    A worker cancels its runs itself.
    """
    polls = 0
    while not done.wait(POLL):
        polls += 1
        if parent and os.getppid() != parent:
            break
        if not parent and polls % SERVER_POLLS == 0 and _is_cancelled(flow_run_id):
            processes.stop()
            done.wait(CANCEL_TIMEOUT)
            break
    if not done.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _is_cancelled(flow_run_id: str) -> bool:
    with suppress(Exception), get_client(sync_client=True) as client:  # a server may be unreachable for a while
        state = client.read_flow_run(flow_run_id).state  # type: ignore[arg-type]
        return bool(state and state.type == StateType.CANCELLING)
    return False


def run_name() -> str:
    """Return the name that groups the runs of this flow run in MLflow."""
    return f"{runtime.flow_run.name} {str(runtime.flow_run.id)[:8]}"


def later_slot() -> FlowRun | None:
    """Return the run of a later slot of the same schedule that is due as well, if there is one.

    Of several missed slots only the last one runs.
    """
    flow_run_id = runtime.flow_run.id
    if not flow_run_id:
        return None
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run_id)  # type: ignore[arg-type]
        if not (run.deployment_id and run.auto_scheduled and run.expected_start_time):
            return None
        due = {"after_": run.expected_start_time, "before_": run.start_time or run.expected_start_time}
        others = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"expected_start_time": due}),
            deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [run.deployment_id]}}),
        )
    return next((other for other in others if other.id != run.id and other.auto_scheduled
                 and other.expected_start_time and other.expected_start_time > run.expected_start_time), None)  # fmt: skip


def notify(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send the failure notification of a flow run, a hook of Prefect's."""
    _send(flow.name, flow_run.name, str(flow_run.id), state)


def notify_now(state: State[Any], page: Path) -> None:
    """Send the notification of the flow run that is going on, which is about to end in this state, with its page."""
    _send(str(runtime.flow_run.flow_name), str(runtime.flow_run.name), str(runtime.flow_run.id), state, page)


def _send(flow: str, run: str, run_id: str, state: State[Any], page: Path | None = None) -> None:
    url = f"{PREFECT_UI_URL.value()}/runs/flow-run/{run_id}" if PREFECT_UI_URL.value() else ""
    notifications.send(flow, run, run_id, state.name or "Failed", str(state.message), url, page)


def run_flow(flow: Flow[..., Any], parameters: dict[str, Any]) -> int:
    """Run a flow from the command line; return the exit code.

    It is 0, 1 where the flow failed, 2 for a mistake with a remedy, 3 where it found drift, 75 where it may work later, 130
    where the run was interrupted or cancelled.
    """
    try:
        if not Path("dvc.yaml").exists():
            raise WorkspaceError(f"there is no dvc.yaml here ({Path.cwd()})", "run it in the project's folder")
        stage_code.check()
        params.read()
        flow.validate_parameters(parameters)
        server.check_response(os.environ.get("PREFECT_API_URL", ""))
        with crashed_run.temporary_server():
            state: Any = flow(**parameters, return_state=True)
    except DarkroomError as error:
        return report(error)
    except ParameterTypeError as error:
        return report(ParamsError(str(error), "see `--help`"))
    except INTERRUPTIONS:
        return INTERRUPTED
    except httpx.TransportError as error:
        limit_end(EX_TEMPFAIL)
        address = os.environ.get("PREFECT_API_URL") or "of this run"
        problem = f"the Prefect server {without_login(address)} does not respond any more: {error}"
        return report(WorkspaceError(problem, "start it, then the same command: what has run is not run again", retryable=True))
    if state.is_completed() or state.name == DRIFT:
        print(f"{state.name}: {state.message}" if state.message else state.name)
        return 0 if state.is_completed() else DRIFTED
    print(state.message if state.is_cancelled() else f"error: {state.message}", file=sys.stderr)
    return INTERRUPTED if state.is_cancelled() else EXIT_CODES.get(state.name, 1)
