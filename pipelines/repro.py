"""The DVC graph as a Prefect flow, a task per stage: `python -m pipelines.repro [STAGE …] [--force] [--concurrency N]`.

One `dvc status` tells which stages have nothing to do: they become *Cached* tasks without a process. Each other stage is
submitted with the stages before it as what it waits for, and runs as `dvc repro --single-item`, so that DVC decides, and a
plain `dvc repro` gives the same bytes. Without PREFECT_API_URL a temporary server lives as long as the flow.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("DO_NOT_TRACK", "1")

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from darkroom import params

GRACE = 5.0  # seconds between asking a stage's processes to end and ending them
SKIPPED = "didn't change, skipping"


class StageError(Exception):
    """A stage that failed, with the last lines that it wrote."""


def graph(targets: list[str] | None) -> dict[str, list[str]]:
    """Return the stages of dvc.yaml that the targets need, in an order in which each comes after those it waits for."""
    import networkx as nx
    from dvc.repo import Repo

    with Repo() as repo:
        edges = repo.index.graph
        wanted = {stage for target in targets or [] for stage in repo.stage.collect(target)} or set(edges)
        needed = wanted.union(*(nx.descendants(edges, stage) for stage in wanted))
        whole = edges.subgraph(needed)
        first = sorted(whole, key=lambda stage: stage.addressing)
        order = list(nx.lexicographical_topological_sort(whole.reverse(), key=first.index))
        return {stage.addressing: sorted(above.addressing for above in whole.successors(stage)) for stage in order}


def changed(stages: dict[str, list[str]], force: bool = False) -> set[str]:
    """Return the stages that may have to run: those that DVC reports as changed, and all that come after them."""
    if force:
        return set(stages)
    from dvc.repo import Repo

    with Repo() as repo:
        reported = set(repo.status())
    found: set[str] = set()
    for stage, above in stages.items():
        if stage in reported or found.intersection(above):
            found.add(stage)
    return found


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, runs: bool, force: bool, pipeline: str) -> State[Any]:
    """Run one stage through DVC; the state is Completed, Cached, or Failed with the last lines of the error."""
    logger = get_run_logger()
    if not runs:
        return Completed(name="Cached", message="DVC reports no change")
    options = ["--single-item", *(["--force"] if force else [])]
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *options, stage]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"DARKROOM_PIPELINE": pipeline, "PYTHONUNBUFFERED": "1", "PATH": path}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1,
        env=environment, start_new_session=True,
    )  # fmt: skip
    last: deque[str] = deque(maxlen=12)
    skipped = False
    try:
        assert process.stdout is not None
        for line in process.stdout:
            line = line.rstrip()
            if line:
                last.append(line)
                logger.info(line)
                skipped = skipped or line.endswith(SKIPPED)
        code = process.wait()
    finally:
        end(process)
    if code != 0:
        raise StageError(f"{stage} failed (exit code {code}):\n" + "\n".join(last))
    return Completed(name="Cached", message="DVC found nothing to do") if skipped else Completed()


def end(process: subprocess.Popen[str]) -> None:
    """End a stage's whole process group, if it still runs: politely first."""
    if process.poll() is not None:
        return
    for signal_, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, signal_)
            process.wait(patience)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


@flow(name="repro", log_prints=True)
def repro(targets: list[str] | None = None, force: bool = False, concurrency: int = 1) -> dict[str, str]:
    """Run what has to run; return each stage's final state by name, and fail if one of them failed."""
    params.read()
    stages = graph(targets)
    runs = changed(stages, force)
    name = _pipeline_name()
    print(f"{len(stages)} stages, {len(runs)} to look at, {len(stages) - len(runs)} cached")
    futures: dict[str, PrefectFuture[Any]] = {}
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=max(1, concurrency))
    with runner:
        for stage, above in stages.items():
            futures[stage] = runner.submit(
                run_stage,
                {"stage": stage, "runs": stage in runs, "force": force, "pipeline": name},
                wait_for=[futures[item] for item in above],
            )
        wait(list(futures.values()))
    states = {stage: future.state for stage, future in futures.items()}
    done = [stage for stage, state in states.items() if state.is_completed()]
    # MLflow then shows the stages that had nothing to do as well
    subprocess.run([sys.executable, "-m", "darkroom", "finished", *done], env=os.environ | {"DARKROOM_PIPELINE": name})
    failed = [stage for stage, state in states.items() if state.is_failed() or state.is_crashed()]
    if failed:
        raise StageError("\n".join(f"{states[stage].message}" for stage in failed))
    return {stage: str(state.name) for stage, state in states.items()}


def _pipeline_name() -> str:
    try:
        return f"{runtime.flow_run.name} {str(runtime.flow_run.id)[:8]}"
    except (MissingContextError, AttributeError):
        return f"repro {os.getpid()}"


def main(arguments: list[str] | None = None) -> int:
    """Run the flow from the command line; return 0, 1 where a stage failed, 2 for a mistake with a remedy."""
    parser = argparse.ArgumentParser("python -m pipelines.repro", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="STAGE", help="stages to bring up to date, with all that they need")
    parser.add_argument("--force", action="store_true", help="run every stage, changed or not")
    parser.add_argument("--concurrency", type=int, default=1, help="how many independent stages run side by side")
    given = parser.parse_args(arguments)
    if not Path("dvc.yaml").exists():
        print(
            f"error: there is no dvc.yaml here ({Path.cwd()})\n  remedy: run it in the project's folder",
            file=sys.stderr,
        )
        return 2
    checked = subprocess.run([sys.executable, "-m", "darkroom", "check"], stdout=subprocess.DEVNULL)
    if checked.returncode:
        return checked.returncode
    from dvc.exceptions import DvcException

    try:
        graph(given.targets)
    except DvcException as error:
        print(f"error: {error}\n  remedy: `dvc stage list` names the stages", file=sys.stderr)
        return 2
    try:
        states = repro(given.targets or None, given.force, given.concurrency)
    except StageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for stage, state in states.items():
        print(f"{state:<10} {stage}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
