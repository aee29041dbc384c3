"""For a schedule: look whether there is a reason to train again, and if so run a committed state of the graph up to the gate.

It runs in a git worktree, so that a working tree with somebody's changes is never touched. Without a reason it is *Skipped*.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed, State
from pydantic import Field

from pipelines import flow_runtime, worktree
from pipelines.repro import Options, develop
from pipelines.stages import Stage, Stages

LAST = Path(".darkroom/retrained.json")
NAMED = 5  # changes that are named in a reason
DAY = 86400.0


@flow(name="retrain", log_prints=True, on_failure=[flow_runtime.notify], on_crashed=[flow_runtime.notify])
def retrain(
    ref: str = "HEAD",
    reason: str | None = None,
    max_age_days: Annotated[float, Field(gt=0)] | None = None,
    force: bool = False,
    concurrency: Annotated[int, Field(ge=1)] = 1,
    pull: bool = False,
    push: bool = False,
    branch: str | None = None,
    time_limits: dict[str, Annotated[float, Field(gt=0)]] | None = None,
    retries: Annotated[int, Field(ge=0)] = 10,
    wait: bool = True,
) -> State[Any]:
    """Train again where there is a reason.

    Args:
        ref: the commit that is run; params.yaml and dvc.yaml here must be those of it.
        reason: a reason from outside, such as drift; DVC still decides which stages have something to do.
        max_age_days: run every stage anew after so many days: libraries and drivers are no dependencies that DVC sees.
        force: run every stage, whatever the reason.
        concurrency: how many independent stages run side by side.
        pull: fetch what DVC's remote has of the outputs first.
        push: send the outputs to DVC's remote at the end.
        branch: a branch on which dvc.lock and the reports are committed at the end, such as `retrained`.
        time_limits: minutes that a stage may take, by its name, `finetune` for all its items, `*` for all others.
        retries: how often a stage is tried again after what may pass by itself, at growing distances.
        wait: wait while another run holds the workspace; otherwise this one is skipped.
    """
    options = Options([], force, concurrency, pull, push, time_limits or {}, retries)

    def work(ends: list[Callable[[], object]]) -> State[Any]:
        commit = worktree.commit_of(ref)
        place = worktree.at(commit, "retrain")
        with Stages(place, {"DARKROOM_HOME": str(Path.cwd())}) as stages:
            ends.append(stages.end)
            graph = stages.graph([], retries=retries)
            age = _age()
            old = max_age_days is not None and age is not None and age > max_age_days
            reasons = [*([reason] if reason else []), *changes(graph)]
            reasons += [f"everything was run {age:.1f} days ago"] if old else []
            reasons += ["it was asked for"] if force else []
            if not reasons:
                ago = "" if age is None else f", everything was run {age:.1f} days ago"
                return flow_runtime.skipped(f"no reason: all {len(graph)} stages are up to date{ago}")
            why = "; ".join(reasons)
            print(f"reason: {why}")
            options.force = force or old
            state = develop(stages, options)
        if not state.is_completed():
            return state
        if options.force or age is None:  # the age is that of a run of everything
            LAST.write_text(json.dumps({"time": time.time(), "commit": commit, "reasons": reasons}), encoding="utf-8")
        if branch:
            _commit(place, graph, branch, why, str(state.message))
        return Completed(message=f"{state.message}; reason: {why}")

    return flow_runtime.turn(work, wait)


def changes(graph: dict[str, Stage]) -> list[str]:
    """Return what DVC reports as changed, in words, each with the stages of which it is reported."""
    found: dict[str, list[str]] = {}
    for name, about in graph.items():
        if about.why:
            found.setdefault(", ".join(about.why), []).append(name)
    words = [f"{what} ({', '.join(stages)})" for what, stages in found.items()]
    return [*words[:NAMED], *([f"and {len(words) - NAMED} more changes"] if len(words) > NAMED else [])]


def _age() -> float | None:
    """Return how many days ago everything was run, or this flow first ran; None where it never has."""
    try:
        return (time.time() - json.loads(LAST.read_text(encoding="utf-8"))["time"]) / DAY
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _commit(place: Path, graph: dict[str, Stage], branch: str, reasons: str, outcome: str) -> None:
    files = ["dvc.lock", *(out for about in graph.values() for out in about.reports if (place / out).exists())]
    made = worktree.keep(place, files, branch, f"Retrained: {reasons[:200]}\n\n{outcome}\n")
    print(f"{branch}: {made[:12]}, with {', '.join(files)}" if made else f"{branch} has these results already")


def main(arguments: list[str] | None = None) -> int:
    """Run the flow from the command line; return 0, 1 where a stage failed, 2 for a mistake with a remedy."""
    parser = argparse.ArgumentParser("python -m pipelines.retrain", description=__doc__)
    parser.add_argument("--ref", default="HEAD", help="the commit that is run (default: %(default)s)")
    parser.add_argument("--reason", help="a reason from outside, such as drift")
    parser.add_argument("--max-age", type=float, metavar="DAYS", help="run every stage anew after so many days")
    parser.add_argument("--force", action="store_true", help="run every stage, whatever the reason")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="how many independent stages run side by side")
    parser.add_argument("--pull", action="store_true", help="fetch what DVC's remote has first")
    parser.add_argument("--push", action="store_true", help="send the outputs to DVC's remote at the end")
    parser.add_argument("--branch", help="commit dvc.lock and the reports to it at the end")
    parser.add_argument("--no-wait", action="store_true", help="do nothing where another run holds the workspace")
    given = parser.parse_args(arguments)
    return flow_runtime.end(
        retrain, ref=given.ref, reason=given.reason, max_age_days=given.max_age, force=given.force, concurrency=given.concurrency,
        pull=given.pull, push=given.push, branch=given.branch, wait=not given.no_wait,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
