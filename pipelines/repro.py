"""Run the DVC graph as a Prefect flow with a task per stage.

Stages that DVC reports as unchanged become *Cached* tasks without a process. Each other stage waits for the
stages above it and runs as `dvc repro --single-item`, so that DVC still decides and a plain `dvc repro` gives
the same bytes.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from darkroom.core.errors import DarkroomError, ParamsError, WorkspaceError
from pipelines import artifacts, command_line, concurrency_limit, flow_runtime, pool_setup, pool_stage, worktree
from pipelines.dvc_runner import DvcRunner, Stage, retry_delay, skip_reason
from pipelines.pool_runs import Pool
from pipelines.process_groups import ProcessGroups, StoppedError

EXPERIMENT = "DVC_EXP_NAME"  # DVC sets it in experiments, and `register` promotes nothing in one
REMOTE_RETRIES = 3  # a remote that cannot be reached may as well have a wrong password

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Retries = Annotated[int, Field(ge=0)]


class RetryableError(Exception):
    """A stage failed for a reason that may go away: a lock, the network, a server, for once too little memory."""


@dataclass
class Options:
    """How a graph is run."""

    targets: list[str] = field(default_factory=list)
    force: bool = False
    concurrency: int = 1
    pull: bool = False
    push: bool = False
    time_limits: dict[str, float] = field(default_factory=dict)  # minutes, by stage
    retries: int = 10
    pool: str = ""  # a work pool of Prefect's, whose workers run what they can

    def time_limit(self, stage: str) -> float | None:
        """Return the limit of a stage in seconds: that of its name, of the part before the `@`, or of `*`."""
        keys = (stage, stage.partition("@")[0], "*")
        minutes = next((self.time_limits[key] for key in keys if key in self.time_limits), None)
        return None if minutes is None else 60 * minutes


@dataclass
class GraphRun:
    """What the tasks of one flow run share."""

    runner: DvcRunner
    options: Options
    pipeline: str  # the name of the run in MLflow
    slots: threading.Semaphore  # for stages that run here
    pool: Pool | None = None
    killed: set[str] = field(default_factory=set)  # stages that were killed: where memory runs out, it mostly does so again

    def dvc(self, task_name: str, arguments: list[str], on_line: Callable[[str], object] = lambda _: None) -> State[Any]:
        """Run a command of DVC as a task; before a retry, wait longer each time."""
        logger = get_run_logger()
        self._delay_retry()

        def log(line: str) -> None:
            logger.info(line)
            on_line(line)

        limit = self.options.time_limit(task_name)
        try:
            result = self.runner.dvc(*arguments, on_line=log, limit=limit, environment={"DARKROOM_PIPELINE": self.pipeline})
        except StoppedError as error:
            return Cancelled(message=str(error))
        if result.timed_out:
            return Failed(name="TimedOut", message=f"{task_name} exceeded its time limit of {(limit or 0) / 60:g} minutes")
        if result.returncode:
            message = f"{task_name} failed (exit code {result.returncode}):\n{result.error}"
            return self._failed(task_name, message, result.retryable, result.killed)
        reason = skip_reason(result)
        return Completed(name="Cached", message=reason) if reason else Completed()

    def _failed(self, stage: str, message: str, is_retryable: bool, is_killed: bool, name: str = "Failed") -> State[Any]:
        """Return the state of a stage that has failed. One that was killed is retried once."""
        is_retryable = is_retryable and not (is_killed and stage in self.killed)
        if is_killed:
            self.killed.add(stage)
        return Failed(name=name, message=message, data=RetryableError(message) if is_retryable else RuntimeError(message))

    def _delay_retry(self) -> None:
        """Wait before a retry of the task that is going on, longer each time."""
        attempt = int(runtime.task_run.run_count or 1)
        if attempt > 1:
            get_run_logger().info(f"retrying in {retry_delay(attempt - 2):.0f} s")
            self.runner.processes.stopped.wait(retry_delay(attempt - 2))

    def in_pool(self, pool: Pool, name: str, stage: Stage) -> State[Any]:
        """Bring the result of a stage here by the workers of a pool; before a retry, wait longer each time."""
        self._delay_retry()
        try:
            ended = pool.run(name, stage, self.options.time_limit(name), get_run_logger().info)
        except httpx.TransportError as error:  # the run in the pool goes on meanwhile
            message = f"the Prefect server does not respond: {error}"
            return Failed(message=message, data=RetryableError(message))
        except WorkspaceError as error:
            return Failed(message=str(error), data=RetryableError(str(error)) if error.retryable else RuntimeError(str(error)))
        if ended is None or ended.state is None:
            return Completed(name="Cached", message="the run cache of DVC's remote has the result")
        message = str(ended.state.message)
        if ended.state.is_completed():
            return Completed(message=f"ran {message}")
        if ended.state.is_cancelled():
            return Cancelled(message=f"the flow run {ended.name} was cancelled")
        state = pool_stage.TIMED_OUT if ended.state.name == pool_stage.TIMED_OUT else "Failed"
        is_killed = ended.state.name == pool_stage.KILLED
        return self._failed(name, message, is_killed or ended.state.name == flow_runtime.UNAVAILABLE, is_killed, state)


def _is_retryable(task: Any, run: Any, state: State[Any]) -> bool:
    return isinstance(state.data, RetryableError)


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=_is_retryable)
def run_stage(name: str, stage: Stage, run: GraphRun) -> State[Any]:
    """Run one stage by DVC; return Completed, Cached, TimedOut, or Failed with the end of the output."""
    if not stage.changed:
        return Completed(name="Cached", message="DVC reports no change")
    options = ["--single-item", *(["--force"] if run.options.force else [])]
    try:
        if run.pool and name in run.pool.portable:
            return run.in_pool(run.pool, name, stage)
        with run.slots, concurrency_limit.slot(run.runner.processes.stopped, get_run_logger().info):
            return run.dvc(name, ["--wait-for-lock", "repro", *options, name], artifacts.ProgressArtifact(name).update)
    except StoppedError as error:
        return Cancelled(message=str(error))
    except WorkspaceError as error:
        return Failed(message=str(error), data=RetryableError(str(error)))


@task(task_run_name="{command}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=_is_retryable)
def transfer_files(command: str, run: GraphRun) -> State[Any]:
    """Run `dvc pull` or `dvc push`."""
    state = run.dvc(command, [command, "--run-cache", *(["--allow-missing"] if command == "pull" else [])])
    if state.name == "Failed":  # most failures of a remote are temporary
        return Failed(message=state.message, data=RetryableError(state.message))
    return state


def run_graph(runner: DvcRunner, options: Options) -> State[Any]:
    """Run a graph, print the state of each stage, and return the final state.

    Raises DarkroomError for a mistake that is found before any stage runs, StoppedError where the run was
    cancelled.
    """
    concurrency_limit.check()
    with ThreadPoolExecutor(1) as background:
        checked = background.submit(runner.darkroom, "check")
        graph = runner.stages(options.targets, options.force, options.retries)
        checked.result()
    run = GraphRun(runner, options, flow_runtime.run_name(), threading.Semaphore(options.concurrency))
    transfer = transfer_files.with_options(retries=min(options.retries, REMOTE_RETRIES))
    if (options.pull or options.push) and not runner.dvc("remote", "list").output:
        raise WorkspaceError("DVC has no remote to pull from or push to", "`dvc remote add -d NAME ADDRESS`")
    if options.pull:
        pulled = transfer("pull", run, return_state=True)
        if not pulled.is_completed():
            return Failed(message=pulled.message)
        graph = runner.stages(options.targets, options.force, options.retries)
    changed = sum(stage.changed for stage in graph.values())
    print(f"{len(graph)} stages: {changed} may have to run, {len(graph) - changed} cached")
    with connected(graph, run):
        states = run_stages(graph, run)
    if runner.processes.stopped.is_set():
        raise StoppedError("cancelled, its processes were ended")
    failed = {name: state for name, state in states.items() if state.is_failed() or state.is_crashed()}
    completed = [name for name, state in states.items() if state.is_completed()]
    artifacts.show_outputs(runner.graph, [out for name in completed for out in graph[name].outs])
    _finish_pipeline(run, completed, any(state.name != "Cached" and state.type != "PENDING" for state in states.values()))
    if not failed and options.push:
        pushed = transfer("push", run, return_state=True)
        failed = {} if pushed.is_completed() else {"push": pushed}
    for name, state in states.items():
        print(f"{state.name:<10} {name}")
    if failed:
        return Failed(message="\n".join(str(state.message) for state in failed.values()))
    ran = [name for name, state in states.items() if state.name != "Cached"]
    return Completed(message=f"{len(ran)} of {len(states)} stages ran" + (f": {', '.join(ran)}" if ran else ""))


@contextmanager
def connected(graph: dict[str, Stage], run: GraphRun) -> Iterator[None]:
    """Connect with the work pool that the options name, if a stage may have to run, and say which stages run here all the same."""
    changed = [name for name, stage in graph.items() if stage.changed]
    if not (run.options.pool and changed):
        yield
        return
    with pool_setup.connect(run.options.pool, run.runner, graph, run.pipeline) as run.pool:
        if here := [name for name in changed if name not in run.pool.portable]:
            print(f"on this machine, since git and DVC's remote lack what they read or write: {', '.join(here)}")
        elsewhere = [name for name in changed if name in run.pool.portable]
        run.pool.look_up([name for name in elsewhere if not any(graph[other].changed for other in graph[name].upstream)])
        yield


def run_stages(graph: dict[str, Stage], run: GraphRun) -> dict[str, State[Any]]:
    """Submit all stages, each to wait for those above it; return the states when all have ended."""
    futures: dict[str, PrefectFuture[Any]] = {}
    threads = run.options.concurrency if run.pool is None else max(run.options.concurrency, len(graph))  # a pool has its own limits
    task_runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=threads)
    with task_runner:
        try:
            for name, stage in graph.items():
                futures[name] = task_runner.submit(
                    run_stage.with_options(retries=run.options.retries),
                    {"name": name, "stage": stage, "run": run},
                    wait_for=[futures[other] for other in stage.upstream],
                )
            wait(list(futures.values()))
        except BaseException as error:  # the task runner would wait for the stages, and these for a server that is gone
            if isinstance(error, flow_runtime.INTERRUPTIONS):
                flow_runtime.limit_end()
            run.runner.processes.stop()
            raise
    return {name: future.state for name, future in futures.items()}


def _finish_pipeline(run: GraphRun, completed: list[str], ran: bool) -> None:
    """Record in MLflow that the pipeline has ended, cached stages included, and show a link to it."""
    with suppress(DarkroomError):  # the records are kept and delivered later
        location = run.runner.darkroom("finished", "--pipeline", run.pipeline, *(["--where"] if ran else []), *completed)
        artifacts.show_mlflow_run(location)


@flow(name="repro", log_prints=True, on_failure=[flow_runtime.notify], on_crashed=[flow_runtime.notify])
def repro(
    targets: list[str] | None = None,
    force: bool = False,
    set_params: dict[str, Any] | None = None,
    temporary: bool = False,
    concurrency: Count = 1,
    pull: bool = False,
    push: bool = False,
    time_limits: dict[str, Positive] | None = None,
    retries: Retries = 10,
    wait: bool = True,
    pool: str | None = None,
) -> State[Any]:
    """Run the stages of the DVC graph that are out of date.

    Args:
        targets: stages to bring up to date, with all stages that they need; without any, every stage of
            dvc.yaml.
        force: run every stage, changed or not.
        set_params: values to write to params.yaml first, such as `transfer.lr=0.01`, where they stay; an
            invalid one changes nothing.
        temporary: set these values for this run only: it runs in a worktree of its own with the tracked files
            as they are here, and changes neither params.yaml nor dvc.lock nor an output of this folder.
        concurrency: number of independent stages that run side by side.
        pull: fetch outputs from DVC's remote first.
        push: send the outputs to DVC's remote at the end.
        time_limits: minutes that a stage may take, by its name, `finetune` for all its items, `*` for all
            other stages.
        retries: number of retries of a stage after a temporary failure, such as a lock, at growing distances.
        wait: wait while another run holds the workspace; otherwise this run is skipped.
        pool: a work pool of Prefect's: stages run on the machines of its workers (`darkroom worker`), as far as git and
            DVC's remote have what they read.
    """
    options = Options(targets or [], force, concurrency, pull, push, time_limits or {}, retries, pool or "")

    def work(processes: ProcessGroups) -> State[Any]:
        if temporary and not set_params:
            raise ParamsError("--temporary has no params to set", "name them: `--set transfer.lr=0.01 --temporary`")
        if pool and force:
            raise ParamsError("--force does not go with --pool, which runs no stage whose result DVC's remote has", "leave one out")
        runner = _temporary_runner(processes) if temporary else DvcRunner(processes)
        if set_params:
            values = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in set_params.items()]
            print(runner.darkroom("recipe", "--set", *values))
            print(f"params.yaml is that of {runner.folder}" if temporary else "params.yaml keeps these values after the run")
        return run_graph(runner, options)

    return flow_runtime.run_exclusively(work, wait)


def _temporary_runner(processes: ProcessGroups) -> DvcRunner:
    """Return a runner in a worktree that has the tracked files of this folder; what it registers is not promoted."""
    if left_out := worktree.untracked():
        print(f"not part of this run, since git does not track them: {', '.join(left_out)}")
    folder = worktree.check_out(worktree.snapshot(), "temporary")
    return DvcRunner(processes, folder, {"DARKROOM_HOME": str(Path.cwd()), EXPERIMENT: flow_runtime.run_name()})


if __name__ == "__main__":
    sys.exit(command_line.main(repro))
