"""Train the runs of a study in a work pool: each unit of runs is a stage of a graph that `darkroom study --pool` has written."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed, Failed, State

from darkroom.core import locks
from darkroom.core.errors import WorkspaceError
from pipelines import command_line, flow_runtime, worktree
from pipelines.dvc_runner import DvcRunner
from pipelines.process_groups import ProcessGroups, StoppedError
from pipelines.repro import GraphRun, Options, Retries, connected, run_stages

NAME = "study-members"
GRAPH, LOCK = Path("dvc.yaml"), Path("dvc.lock")
FOLDER = Path("study_members")  # of the jobs, of images and of results, in the folder of the graph
JOBS, SAMPLES, RESULTS = FOLDER / "jobs", FOLDER / "samples", FOLDER / "results"


@flow(name=NAME, log_prints=True, on_failure=[flow_runtime.notify], on_crashed=[flow_runtime.notify])
def study_members(folder: str, pool: str, retries: Retries = 10) -> State[Any]:
    """Run the jobs of a study on the machines of a work pool; `darkroom study NAME --pool POOL` calls it.

    Args:
        folder: the folder with the graph of the jobs, into which the results come.
        pool: a work pool of Prefect's.
        retries: number of retries of a job after a temporary failure, at growing distances.
    """

    def work(processes: ProcessGroups) -> State[Any]:
        with locks.hold(worktree.WORKTREES / f"{NAME}.lock"):
            tree = worktree.check_out(worktree.snapshot(), NAME, with_data=False)
            runner = DvcRunner(processes, tree, {"DARKROOM_TRACKING": "off"})  # whoever asks records the runs
            _put_graph(Path(folder), runner)
            run = GraphRun(runner, Options(retries=retries, pool=pool), flow_runtime.run_name(), threading.Semaphore())
            graph = runner.stages([], retries=retries)
            try:
                with connected(graph, run):
                    states = run_stages(graph, run)
            finally:
                if (tree / RESULTS).is_dir():
                    shutil.copytree(tree / RESULTS, Path(folder) / RESULTS, dirs_exist_ok=True)
            if processes.stopped.is_set():
                raise StoppedError("cancelled, its processes were ended")
            return _final_state({name: state for name, state in states.items() if graph[name].changed})

    return flow_runtime.run_exclusively(work, wait=True, exclusive=False)


def _put_graph(folder: Path, runner: DvcRunner) -> None:
    """Make the graph that of a worktree's project, with the images in DVC's cache."""
    tree = runner.folder
    shutil.rmtree(tree / FOLDER, ignore_errors=True)
    (tree / LOCK).unlink(missing_ok=True)
    shutil.copytree(folder, tree, dirs_exist_ok=True)
    images = sorted(path.relative_to(tree).as_posix() for path in (tree / SAMPLES).iterdir())
    result = runner.dvc("add", "--quiet", *images)
    if result.returncode:
        raise WorkspaceError(f"dvc add: {result.error}", "see `dvc doctor`", result.retryable)
    tracked = [GRAPH.as_posix(), JOBS.as_posix(), f"{SAMPLES.as_posix()}/.gitignore", *(f"{file}.dvc" for file in images)]
    worktree.git("add", "--force", "--", *tracked, folder=tree)


def _final_state(states: dict[str, State[Any]]) -> State[Any]:
    for name, state in states.items():
        print(f"{state.name:<10} {name}")
    if failed := [str(state.message) for state in states.values() if not state.is_completed()]:
        return Failed(message="\n".join(failed))
    return Completed(message=f"{sum(state.name != 'Cached' for state in states.values())} of {len(states)} jobs ran")


if __name__ == "__main__":
    sys.exit(command_line.main(study_members))
