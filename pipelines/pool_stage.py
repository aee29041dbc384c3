"""One stage of somebody's project, on the machine of a worker: the flow that `pool` deploys and starts there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.states import Completed, Failed, State

from darkroom.config import stage_code
from darkroom.core.errors import DarkroomError, WorkspaceError
from pipelines import artifacts, concurrency_limit, flow_runtime, pool_clones
from pipelines.dvc_runner import DvcRunner
from pipelines.process_groups import CommandResult, ProcessGroups

NAME = "stage"
TIMED_OUT = "TimedOut"
KILLED = "Killed"  # the state of a run whose stage SIGKILL has ended, as where memory runs out
RECORDS_TIMEOUT = 30.0  # seconds in which the records of a stage should be in MLflow; what is not is sent later


@flow(name=NAME, log_prints=True)
def stage(
    repository: str,
    ref: str,
    commit: str,
    project: str,
    name: str,
    inputs: list[str],
    gathered: list[str],
    lock: str,
    environment: dict[str, str],
    limit: float | None = None,
) -> State[Any]:
    """Run a stage of a project in a clone of it, with the outputs that dvc.lock names from DVC's remote, and send its own there.

    Args:
        repository: address of the git repository; this machine's own login counts.
        ref: ref of the repository that leads to the commit.
        commit: the commit whose code and params run.
        project: folder of the project in the repository.
        name: the stage.
        inputs: outputs of other stages that it reads.
        gathered: folders that it reads and that have outputs of several stages.
        lock: content of dvc.lock, in which these stand.
        environment: variables of the stage: how MLflow finds its run.
        limit: seconds that the stage may take.
    """
    try:
        with pool_clones.take(repository, ref, commit, project) as folder:
            os.chdir(folder)  # the workspace that `run_exclusively` holds
            (folder / "dvc.lock").write_text(lock, encoding="utf-8") if lock else (folder / "dvc.lock").unlink(missing_ok=True)
            stage_code.check()
            work = _Work(folder, name, environment, limit)
            return flow_runtime.run_exclusively(lambda processes: work.run(processes, inputs, gathered), wait=True)
    except DarkroomError as error:
        return Failed(name=flow_runtime.UNAVAILABLE if error.retryable else flow_runtime.REFUSED, message=str(error))


class _Work:
    """The steps of a stage in a clone."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str], limit: float | None) -> None:
        self.folder, self.name, self.limit = folder, name, limit
        self.environment = dict(environment)
        if own := os.environ.get("MLFLOW_TRACKING_URI"):  # the address by which this machine reaches MLflow
            self.environment["MLFLOW_TRACKING_URI"] = own
        source = folder / "src"
        if source.is_dir():  # the commit's own code, not that of this machine
            self.environment["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(self, processes: ProcessGroups, inputs: list[str], gathered: list[str]) -> State[Any]:
        """Pull, run and push; return Completed where the remote has the result."""
        logger = get_run_logger()
        runner = DvcRunner(processes, environment=self.environment)
        progress = artifacts.ProgressArtifact(self.name)

        def show(line: str) -> None:
            logger.info(line)
            progress.update(line)

        pool_clones.clean(self.folder, gathered)
        steps: list[tuple[list[str], float | None, Callable[[str], object]]] = [
            (["pull", "--force", *inputs], None, logger.info),
            (["--wait-for-lock", "repro", "--single-item", "--pull", self.name], self.limit, show),
            (["push", self.name], None, logger.info),
        ]
        for arguments, limit, on_line in steps[0 if inputs else 1 :]:
            with concurrency_limit.slot(processes.stopped, logger.info):
                result = runner.dvc(*arguments, on_line=on_line, limit=limit)
            if result.timed_out:
                return Failed(name=TIMED_OUT, message=f"{self.name} exceeded its time limit of {(limit or 0) / 60:g} minutes")
            if result.returncode:
                return self._failed(arguments, result)
        saved, _ = runner.run_cache("save", self.name)
        if "error" in saved:
            raise WorkspaceError(f"the run cache did not reach DVC's remote: {saved['error']}", "see `dvc push --run-cache`", True)
        self._await_records(processes)
        return Completed(message=f"on {socket.gethostname()}")

    def _failed(self, arguments: list[str], result: CommandResult) -> State[Any]:
        """Return why a step failed; failures of a remote are mostly temporary."""
        is_remote = arguments[0] in ("pull", "push")
        step = f"dvc {arguments[0]} for {self.name}" if is_remote else self.name
        message = f"{step} failed on {socket.gethostname()} (exit code {result.returncode}):\n{result.error}"
        if result.killed:
            return Failed(name=KILLED, message=message)
        return Failed(name=flow_runtime.UNAVAILABLE if is_remote or result.retryable else "Failed", message=message)

    def _await_records(self, processes: ProcessGroups) -> None:
        """Wait until MLflow has the run of the stage, so that whoever leads the pipeline finds it there."""
        deadline = time.monotonic() + RECORDS_TIMEOUT
        while not pool_clones.are_records_sent(self.folder):
            if time.monotonic() > deadline or processes.stopped.wait(0.25):
                get_run_logger().warning("MLflow does not have the run of this stage yet; the next stage here sends it")
                return
