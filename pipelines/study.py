"""The studies as a Prefect flow, a task per study: what `dvc repro studies/dvc.yaml` runs, side by side."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.states import State
from pydantic import Field

from darkroom.core.errors import WorkspaceError
from pipelines import flow_runtime
from pipelines.repro import Options, develop
from pipelines.stages import Stages

GRAPH = Path("studies/dvc.yaml")


@flow(name="study", log_prints=True, on_failure=[flow_runtime.notify], on_crashed=[flow_runtime.notify])
def study(
    names: list[str] | None = None,
    force: bool = False,
    concurrency: Annotated[int, Field(ge=1)] = 1,
    time_limits: dict[str, Annotated[float, Field(gt=0)]] | None = None,
    retries: Annotated[int, Field(ge=0)] = 10,
    wait: bool = True,
) -> State[Any]:
    """Run studies that have to run.

    Args:
        names: studies, such as `depth`; all of studies/dvc.yaml if there are none.
        force: run them, changed or not.
        concurrency: how many studies run side by side; their members do too, as studies/params.yaml says.
        time_limits: minutes that a study may take, by the name of its stage, or `*`.
        retries: how often a study is tried again after what may pass by itself, at growing distances.
        wait: wait while another run holds the workspace; otherwise this one is skipped.
    """
    targets = [f"{GRAPH}:study@{name}" for name in names or []] or [str(GRAPH)]
    options = Options(targets, force, concurrency, False, False, time_limits or {}, retries)

    def work(ends: list[Callable[[], object]]) -> State[Any]:
        if not GRAPH.exists():
            raise WorkspaceError(f"there is no {GRAPH} here ({Path.cwd()})", "run it in the project's folder")
        with Stages() as stages:
            ends.append(stages.end)
            return develop(stages, options)

    return flow_runtime.turn(work, wait)


def main(arguments: list[str] | None = None) -> int:
    """Run the flow from the command line; return 0, 1 where a study failed, 2 for a mistake with a remedy."""
    parser = argparse.ArgumentParser("python -m pipelines.study", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="STUDY", help="such as depth (default: all)")
    parser.add_argument("--force", action="store_true", help="run them, changed or not")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="how many studies run side by side")
    parser.add_argument("--no-wait", action="store_true", help="do nothing where another run holds the workspace")
    given = parser.parse_args(arguments)
    return flow_runtime.end(study, names=given.names, force=given.force, concurrency=given.concurrency, wait=not given.no_wait)


if __name__ == "__main__":
    raise SystemExit(main())
