"""Run the studies of studies/dvc.yaml as a Prefect flow with a task per study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import State

from darkroom.core.errors import WorkspaceError
from pipelines import command_line, flow_runtime, pool_setup
from pipelines.dvc_runner import DvcRunner
from pipelines.process_groups import ProcessGroups
from pipelines.repro import Count, Options, Positive, Retries, run_graph

GRAPH = Path("studies/dvc.yaml")
REPOSITORY = Path("studies/.dvc/config")
POOL = "DARKROOM_STUDY_POOL"  # the option --pool of `darkroom study`: dvc.lock has a study's command, which stays as it is


@flow(name="study", log_prints=True, on_failure=[flow_runtime.notify], on_crashed=[flow_runtime.notify])
def study(
    names: list[str] | None = None,
    force: bool = False,
    concurrency: Count = 1,
    time_limits: dict[str, Positive] | None = None,
    retries: Retries = 10,
    wait: bool = True,
    pool: str | None = None,
) -> State[Any]:
    """Run the studies that are out of date.

    Args:
        names: studies, such as `depth`; without any, all of studies/dvc.yaml.
        force: run the studies, changed or not.
        concurrency: number of studies that run side by side; studies/params.yaml has the number of runs
            within a study.
        time_limits: minutes that a study may take, by the name of its stage, or `*`.
        retries: number of retries of a study after a temporary failure, at growing distances.
        wait: wait while another run holds the workspace; otherwise this run is skipped.
        pool: a work pool of Prefect's: the runs of each study are trained on the machines of its workers.
    """
    options = Options([f"study@{name}" for name in names or []], force, concurrency, time_limits=time_limits or {}, retries=retries)

    def work(processes: ProcessGroups) -> State[Any]:
        if not GRAPH.exists():
            raise WorkspaceError(
                f"there is no {GRAPH} here ({Path.cwd()}); it stays in the repository of Darkroom",
                "`darkroom study NAME` runs one here",
            )
        if not REPOSITORY.exists():
            raise WorkspaceError(
                f"DVC does not know {GRAPH.parent}", f"`git checkout HEAD -- {REPOSITORY}` restores it; it came with {GRAPH}"
            )
        if pool:
            pool_setup.check_pool(pool)
        return run_graph(DvcRunner(processes, environment={POOL: pool} if pool else None, graph=GRAPH.parent), options)

    return flow_runtime.run_exclusively(work, wait)


if __name__ == "__main__":
    sys.exit(command_line.main(study))
