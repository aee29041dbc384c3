"""Retrain on a schedule: if there is a reason, run a committed state of the graph up to the promotion gate.

It runs in a git worktree, so that uncommitted changes are neither touched nor used. Without a reason it is
*Skipped*.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed, State

from darkroom.config import params
from darkroom.core import strict_json
from darkroom.core.errors import ParamsError
from pipelines import command_line, flow_runtime, worktree
from pipelines.dvc_runner import DvcRunner, Stage
from pipelines.process_groups import ProcessGroups
from pipelines.repro import Count, Options, Positive, Retries, run_graph

LAST_RUN = Path(".darkroom/retrained.json")
MAX_REASONS = 5  # changes that are listed in a reason
DAY = 86400.0


@flow(name="retrain", log_prints=True, on_failure=[flow_runtime.notify], on_crashed=[flow_runtime.notify])
def retrain(
    ref: str = "HEAD",
    reason: str | None = None,
    max_age_days: Positive | None = None,
    force: bool = False,
    concurrency: Count = 1,
    pull: bool = False,
    push: bool = False,
    branch: str | None = None,
    latest: bool = True,
    pool: str | None = None,
    time_limits: dict[str, Positive] | None = None,
    retries: Retries = 10,
    wait: bool = True,
) -> State[Any]:
    """Retrain on a commit if there is a reason: changed inputs, a reason from outside, or age.

    Args:
        ref: the commit to run; params.yaml and dvc.yaml of this folder must be those of the commit.
        reason: a reason from outside, such as drift; DVC still decides which stages run.
        max_age_days: run every stage again after so many days, since DVC does not track libraries and
            drivers.
        force: run every stage, whatever the reason.
        concurrency: number of independent stages that run side by side.
        pull: fetch outputs from DVC's remote first.
        push: send the outputs to DVC's remote at the end.
        branch: a branch to which dvc.lock and the reports are committed at the end, such as `retrained`.
        latest: take what is now at the address of the images, where they are at one (`fetch.url`); otherwise what the commit
            names.
        pool: a work pool of Prefect's: stages run on the machines of its workers (`darkroom worker`), as far as git and
            DVC's remote have what they read.
        time_limits: minutes that a stage may take, by its name, `finetune` for all its items, `*` for all
            other stages.
        retries: number of retries of a stage after a temporary failure, such as a lock, at growing distances.
        wait: wait while another run holds the workspace; otherwise this run is skipped.
    """
    options = Options([], force, concurrency, pull, push, time_limits or {}, retries, pool or "")

    def work(processes: ProcessGroups) -> State[Any]:
        if pool and (force or max_age_days is not None):
            problem = "--force and --max-age do not go with --pool, which runs no stage whose result DVC's remote has"
            raise ParamsError(problem, "leave one out")
        commit = worktree.resolve_commit(ref)
        folder = worktree.check_out(commit, "retrain")
        runner = DvcRunner(processes, folder, {"DARKROOM_HOME": str(Path.cwd())})
        if is_new := latest and _is_at_address(folder):
            changes = strict_json.loads(runner.darkroom("recipe", "--latest", "--json"))
            print("\n".join(f"{key}: {change['before']} → {change['after']}" for key, change in changes.items()))
        graph = runner.stages([], retries=retries)
        age = _days_since_full_run()
        is_old = max_age_days is not None and age is not None and age > max_age_days
        reasons = [*([reason] if reason else []), *list_changes(graph)]
        reasons += [f"the last full run, or the first one of this flow, was {age:.1f} days ago"] if is_old else []
        reasons += ["it was forced"] if force else []
        if not reasons:
            if age is None:
                _note_run(commit, reasons)
            return flow_runtime.skipped(f"no reason: all {len(graph)} stages are up to date")
        summary = "; ".join(reasons)
        print(f"reason: {summary}")
        options.force = force or is_old
        state = run_graph(runner, options)
        if not state.is_completed():
            return state
        if options.force or age is None:
            _note_run(commit, reasons)
        if branch:
            files = ["params.yaml", "dvc.lock"] if is_new else ["dvc.lock"]  # params.yaml names the version of the images
            _commit_results(folder, files, graph, branch, f"Retrained: {summary[:200]}\n\n{state.message}\n")
        return Completed(message=f"{state.message}; reason: {summary}")

    return flow_runtime.run_exclusively(work, wait)


def list_changes(graph: dict[str, Stage]) -> list[str]:
    """Return the changes that DVC reports, each with the stages that it concerns."""
    stages: dict[str, list[str]] = {}
    for name, stage in graph.items():
        if stage.reasons:
            stages.setdefault(", ".join(stage.reasons), []).append(name)
    changes = [f"{change} ({', '.join(names)})" for change, names in stages.items()]
    more = len(changes) - MAX_REASONS
    return [*changes[:MAX_REASONS], *([f"and {more} more changes"] if more > 0 else [])]


def _note_run(commit: str, reasons: list[str]) -> None:
    LAST_RUN.write_text(json.dumps({"time": time.time(), "commit": commit, "reasons": reasons}), encoding="utf-8")


def _days_since_full_run() -> float | None:
    """Return the days since the last full run, or since the first run of this flow; None before it."""
    try:
        return (time.time() - strict_json.loads(LAST_RUN.read_text(encoding="utf-8"))["time"]) / DAY
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_at_address(folder: Path) -> bool:
    """Tell whether the images of a project are a copy of what is at an address."""
    return "url" in (params.read_yaml(folder / "params.yaml").get("fetch", {}).get("datasets") or [])


def _commit_results(folder: Path, files: list[str], graph: dict[str, Stage], branch: str, message: str) -> None:
    files = [*files, *(out for stage in graph.values() for out in stage.git_outs if (folder / out).exists())]
    commit = worktree.commit_files(folder, files, branch, message)
    print(f"{branch}: {commit[:12]}, with {', '.join(files)}" if commit else f"{branch} has these results already")


if __name__ == "__main__":
    sys.exit(command_line.main(retrain))
