"""The DVC graph as a Prefect flow, a task per stage.

One look at the graph tells which stages have nothing to do: they become *Cached* tasks without a process. Each other stage is
submitted with the stages above it as what it waits for, and runs as `dvc repro --single-item`, so that DVC decides, and a plain
`dvc repro` gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from darkroom.core.errors import DarkroomError, WorkspaceError
from pipelines import artifacts, flow_runtime
from pipelines.stages import CANCELLED, Ended, Stage, Stages, StoppedError, pause

REMOTE = 3  # attempts, at most, to reach a remote after the first: it may as well be a wrong password


class RetryableError(Exception):
    """What stopped a stage may pass by itself: a lock, the network, a server."""


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

    def limit(self, stage: str) -> float | None:
        """Return the seconds that a stage may take: by its own name, that of all its items, or `*`."""
        minutes = next((self.time_limits[key] for key in (stage, stage.partition("@")[0], "*") if key in self.time_limits), None)
        return None if minutes is None else 60 * minutes


@dataclass
class Work:
    """What the tasks of one flow run share."""

    stages: Stages
    options: Options
    pipeline: str

    def run(self, name: str, arguments: list[str], on_line: Callable[[str], None] = lambda _: None) -> State[Any]:
        """Run a command of DVC as the task of that name; after what may pass by itself, wait before it is tried again."""
        logger = get_run_logger()
        attempt = int(runtime.task_run.run_count or 1)
        if attempt > 1:
            logger.info(f"tries again in {pause(attempt - 2):.0f} s")
            self.stages.stopped.wait(pause(attempt - 2))

        def line(text: str) -> None:
            logger.info(text)
            on_line(text)

        limit = self.options.limit(name)
        try:
            ended = self.stages.dvc(arguments, {"DARKROOM_PIPELINE": self.pipeline}, line, limit)
        except StoppedError as stopped:
            return Cancelled(message=str(stopped))
        if ended.late:
            return Failed(name="TimedOut", message=f"{name} took longer than its {(limit or 0) / 60:g} minutes, and was ended")
        if ended.code:
            return _failed(name, ended)
        return Completed(name="Cached", message=ended.skipped) if ended.skipped else Completed()


def _failed(name: str, ended: Ended) -> State[Any]:
    message = f"{name} failed (exit code {ended.code}):\n{ended.words}"
    return Failed(message=message, data=RetryableError(message) if ended.retryable else RuntimeError(message))


def _is_retryable(task: Any, run: Any, state: State[Any]) -> bool:
    return isinstance(state.data, RetryableError)


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=_is_retryable)
def run_stage(stage: str, about: Stage, work: Work) -> State[Any]:
    """Run one stage through DVC; the state is Completed, Cached, Failed with the last lines of the error, or TimedOut."""
    if not about.changed:
        return Completed(name="Cached", message="DVC reports no change")
    options = ["--single-item", *(["--force"] if work.options.force else [])]
    return work.run(stage, ["--wait-for-lock", "repro", *options, stage], artifacts.Progress(stage).line)


@task(task_run_name="{command}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=_is_retryable)
def transfer_files(command: str, work: Work) -> State[Any]:
    """Run `dvc pull` or `dvc push`."""
    state = work.run(command, [command, "--run-cache", *(["--allow-missing"] if command == "pull" else [])])
    if state.name == "Failed":  # of a remote, nearly everything may pass
        return Failed(message=state.message, data=RetryableError(state.message))
    return state


def develop(stages: Stages, options: Options) -> State[Any]:
    """Run a graph, print every stage's state, and return how it ended.

    Raises DarkroomError for what is known to be wrong before any stage runs, StoppedError where the stages were ended.
    """
    with ThreadPoolExecutor(1) as beside:
        checked = beside.submit(stages.command, "check")
        graph = stages.graph(options.targets, options.force, options.retries)
        checked.result()
    work = Work(stages, options, flow_runtime.name())
    if (options.pull or options.push) and not _remote(stages):
        raise WorkspaceError("DVC has no remote to pull from or push to", "`dvc remote add -d NAME ADDRESS`")
    if options.pull:
        pulled = transfer_files.with_options(retries=min(options.retries, REMOTE))("pull", work, return_state=True)
        if not pulled.is_completed():
            return Failed(message=pulled.message)
        graph = stages.graph(options.targets, options.force, options.retries)
    look = sum(stage.changed for stage in graph.values())
    print(f"{len(graph)} stages, {look} to look at, {len(graph) - look} cached")
    states = _run(graph, work)
    if stages.stopped.is_set():
        raise StoppedError(CANCELLED)
    bad = {name: state for name, state in states.items() if state.is_failed() or state.is_crashed()}
    done = [name for name, state in states.items() if state.is_completed()]
    if any(states[name].name != "Cached" for name in done):
        artifacts.results(stages.folder, [out for name in done for out in graph[name].outs])
    _finished(work, done, any(state.name != "Cached" and state.type != "PENDING" for state in states.values()))
    if not bad and options.push:
        pushed = transfer_files.with_options(retries=min(options.retries, REMOTE))("push", work, return_state=True)
        bad = {} if pushed.is_completed() else {"push": pushed}
    for name, state in states.items():
        print(f"{state.name:<10} {name}")
    if bad:
        return Failed(message="\n".join(str(state.message) for state in bad.values()))
    ran = [name for name, state in states.items() if state.name != "Cached"]
    return Completed(message=f"{len(ran)} of {len(states)} stages ran" + (f": {', '.join(ran)}" if ran else ""))


def _run(graph: dict[str, Stage], work: Work) -> dict[str, State[Any]]:
    """Submit every stage with those above it as what it waits for; return the states once all have ended."""
    futures: dict[str, PrefectFuture[Any]] = {}
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=work.options.concurrency)
    with runner, work.stages.ending():
        for name, about in graph.items():
            futures[name] = runner.submit(
                run_stage.with_options(retries=work.options.retries),
                {"stage": name, "about": about, "work": work},
                wait_for=[futures[item] for item in about.above],
            )
        wait(list(futures.values()))
    return {name: future.state for name, future in futures.items()}


def _remote(stages: Stages) -> bool:
    found = stages.dvc(["remote", "list"], {}, lambda _: None)
    return bool(found.lines) and not found.code


def _finished(work: Work, done: list[str], ran: bool) -> None:
    """Tell MLflow's side that the pipeline has ended, so that it has those that had nothing to do too, and show where it is."""
    with suppress(DarkroomError):  # the records are kept, and delivered later
        artifacts.runs(work.stages.command("finished", "--pipeline", work.pipeline, *(["--where"] if ran else []), *done))


@flow(name="repro", log_prints=True, on_failure=[flow_runtime.notify], on_crashed=[flow_runtime.notify])
def repro(
    targets: list[str] | None = None,
    force: bool = False,
    set_params: dict[str, Any] | None = None,
    concurrency: Annotated[int, Field(ge=1)] = 1,
    pull: bool = False,
    push: bool = False,
    time_limits: dict[str, Annotated[float, Field(gt=0)]] | None = None,
    retries: Annotated[int, Field(ge=0)] = 10,
    wait: bool = True,
) -> State[Any]:
    """Run what has to run of the DVC graph.

    Args:
        targets: stages to bring up to date, with all that they need; every stage of dvc.yaml if there are none.
        force: run every stage, changed or not.
        set_params: values to write into params.yaml first, such as `{"transfer.lr": 0.01}`; a wrong one changes nothing.
        concurrency: how many independent stages run side by side.
        pull: fetch what DVC's remote has of the outputs first.
        push: send the outputs to DVC's remote at the end.
        time_limits: minutes that a stage may take, by its name, `finetune` for all its items, `*` for all others.
        retries: how often a stage is tried again after what may pass by itself, at growing distances.
        wait: wait while another run holds the workspace; otherwise this one is skipped.
    """
    options = Options(targets or [], force, concurrency, pull, push, time_limits or {}, retries)

    def work(ends: list[Callable[[], object]]) -> State[Any]:
        with Stages() as stages:
            ends.append(stages.end)
            if set_params:
                values = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in set_params.items()]
                print(stages.command("recipe", "--set", *values))
            return develop(stages, options)

    return flow_runtime.turn(work, wait)


def main(arguments: list[str] | None = None) -> int:
    """Run the flow from the command line; return 0, 1 where a stage failed, 2 for a mistake with a remedy."""
    parser = argparse.ArgumentParser("python -m pipelines.repro", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="STAGE", help="stages to bring up to date, with all that they need")
    parser.add_argument("--force", action="store_true", help="run every stage, changed or not")
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="for example transfer.lr=0.01")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="how many independent stages run side by side")
    parser.add_argument("--pull", action="store_true", help="fetch what DVC's remote has first")
    parser.add_argument("--push", action="store_true", help="send the outputs to DVC's remote at the end")
    parser.add_argument("--limit", metavar="STAGE=MINUTES", nargs="+", action="extend", default=[], help="such as finetune=90 *=30")
    parser.add_argument("--retries", type=int, default=10, metavar="N", help="after what may pass by itself, such as a lock")
    parser.add_argument("--no-wait", action="store_true", help="do nothing where another run holds the workspace")
    given = parser.parse_args(arguments)
    values, limits = (dict(word.partition("=")[::2] for word in words) for words in (given.set, given.limit))
    return flow_runtime.end(
        repro, targets=given.targets, force=given.force, set_params=values, concurrency=given.concurrency, pull=given.pull,
        push=given.push, time_limits=limits, retries=given.retries, wait=not given.no_wait,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
