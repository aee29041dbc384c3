"""Compare runs over their seeds: means with 95% intervals, differences from the first, what they cost, as a table and a page."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.core import atomic
from darkroom.core.errors import ParamsError, WorkspaceError, nearest

if TYPE_CHECKING:
    from darkroom.evaluation.seed_comparison import Curve, Group
    from darkroom.tracking.queries import Run

PAGE = Path("reports/compare.html")
METRICS = ("best_val_accuracy", "test_accuracy")  # of which the first is validation's: test figures are not for choosing
CURVES = {"validation loss": "val_loss", "validation accuracy": "val_accuracy"}
DIVERGED = 1e300  # MLflow keeps infinity as the largest number
MOST = 60  # runs of which learning curves are drawn


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "darkroom compare", description=__doc__,
        epilog="runs with the same params but for seeds are a group; `dvc exp run -S compute.seed=1` adds one to it",
    )  # fmt: skip
    parser.add_argument(
        "--stage", action="append", default=[], help="only runs of this stage: transfer, transfer@vgg16; again for more"
    )
    parser.add_argument("--experiment", help="an experiment of MLflow's (default: darkroom)")
    parser.add_argument("--tag", action="append", default=[], metavar="KEY=VALUE", help="only runs with this tag or param")
    parser.add_argument("--metric", default=METRICS[0], help="default: %(default)s")
    parser.add_argument(
        "--first", default="", metavar="TEXT", help="compare with the group whose name contains this, not the oldest"
    )
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="the page (default: %(default)s)")
    given = parser.parse_args(arguments)
    from darkroom.evaluation import seed_comparison
    from darkroom.tracking import mlflow_client, queries, records

    for item in given.tag:
        if "=" not in item:
            raise ParamsError(f"--tag {item} is no KEY=VALUE", "write for example --tag transfer.lr=0.01")
    wanted = dict(item.split("=", 1) for item in given.tag)
    every = [run for run in queries.runs(given.experiment or mlflow_client.EXPERIMENT) if run.status == "FINISHED"]
    chosen = [run for run in every if not run.reused and _is_wanted(run, given.stage, wanted)]
    held = [run for run in chosen if abs(run.metrics.get(given.metric, math.nan)) < DIVERGED]
    if left := sum(given.metric in run.metrics for run in chosen) - len(held):
        print(f"{left} runs whose {given.metric} is no number are left out")
    if not held:
        _refuse(every, chosen, given.metric, given.stage)
    trials = [seed_comparison.Trial(run.id, run.params | images, run.metrics, run.started) for run, images in _images(every, held)]
    groups = seed_comparison.groups(trials, given.metric, given.first)
    if given.first and given.first not in groups[0].label:
        raise ParamsError(f'no group is called "{given.first}"', "these are: " + "; ".join(group.label for group in groups))
    print(seed_comparison.table(groups, given.metric))
    with atomic.new_file(given.out) as working:
        page = seed_comparison.page(groups, given.metric, _curves(groups), max(len(group.runs) for group in groups))
        working.write_text(page, encoding="utf-8")
    print(f"\nto look at: {given.out}")
    asked = {"metric": given.metric, "stage": " ".join(given.stage), "tag": " ".join(given.tag), "first": given.first}
    with records.run("compare", {f"compare.{key}": value for key, value in asked.items() if value}, []) as record:
        record.file(given.out)
        record.table("comparison", *seed_comparison.columns(groups, given.metric))
    return 0


def _is_wanted(run: Run, stages: list[str], wanted: dict[str, str]) -> bool:
    named = not stages or run.stage in stages or run.stage.partition("@")[0] in stages
    return named and all(value in (run.tags.get(key), run.params.get(key)) for key, value in wanted.items())


def _images(every: list[Run], held: list[Run]) -> list[tuple[Run, dict[str, str]]]:
    """Return each run with what tells its images from those of others with the same params of `ingest`, where there are such."""
    ingested = {run.pipeline: run.outputs for run in every if run.stage == "ingest"}
    alike: dict[tuple[tuple[str, str], ...], set[str]] = {}
    same = {run.id: tuple(sorted(item for item in run.params.items() if item[0].startswith("ingest."))) for run in held}
    for run in held:
        alike.setdefault(same[run.id], set()).add(ingested.get(run.pipeline, ""))
    told = {run.id: ingested.get(run.pipeline, "")[:8] for run in held if len(alike[same[run.id]] - {""}) > 1}
    return [(run, {"images": told[run.id] or "unknown"} if run.id in told else {}) for run in held]


def _refuse(every: list[Run], chosen: list[Run], metric: str, stages: list[str]) -> None:
    """Say why there is nothing to compare."""
    if not every:
        raise WorkspaceError("MLflow has no finished run yet", "`dvc repro` makes some, `darkroom sync` delivers what is recorded")
    if not chosen:
        known = sorted({run.stage.partition("@")[0] for run in every} - {"pipeline", "compare", ""})
        hint = "".join(nearest(stage, known) for stage in stages)
        raise WorkspaceError(f"no finished run is what you asked for{hint}", f"stages that have run: {', '.join(known)}")
    known = sorted({key for run in chosen for key in run.metrics if not key.startswith("system/")})
    raise ParamsError(
        f"none of the {len(chosen)} runs has the metric {metric}{nearest(metric, known)}", f"they have {', '.join(known)}"
    )


def _curves(groups: list[Group]) -> dict[str, dict[str, Curve]]:
    """Return the mean learning curve of each group, up to the epoch that all its runs have; nothing for too many runs."""
    from darkroom.tracking import queries

    runs = [run for group in groups for run in group.runs]
    if len(runs) > MOST:
        return {}
    found = queries.histories(runs, list(CURVES.values()))
    made: dict[str, dict[str, Curve]] = {}
    for title, key in CURVES.items():
        lines = {}
        for group in groups:
            values = [dict(found[run][key]) for run in group.runs]
            steps = sorted(set.intersection(*map(set, values)))
            if steps:
                lines[group.label] = [(float(step), sum(run[step] for run in values) / len(values)) for step in steps]
        if lines:
            made[title] = lines
    return made
