"""Compare runs over their seeds, as a table and a page."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import click

from darkroom.commands.param_types import STAGE
from darkroom.core import atomic
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import ParamsError, WorkspaceError, nearest
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home, queries, records

with lazy_imports():
    from darkroom.core import tables
    from darkroom.evaluation import seed_comparison
    from darkroom.tracking import entities

PAGE = Path("reports/compare.html")
METRIC = "best_val_accuracy"  # validation: test results never select
CURVES = {"validation loss": "val_loss", "validation accuracy": "val_accuracy"}
INFINITY = 1e300  # MLflow stores infinity as the largest number
MAX_CURVES = 60  # runs of which learning curves are drawn


@click.command(cls=Command, epilog="`dvc exp run -S compute.seed=1` adds a run to a group.")
@click.option("--stage", "stages", type=STAGE, multiple=True, help="only runs of this stage: transfer, transfer@vgg16; repeatable")
@click.option("--experiment", default=home.EXPERIMENT, metavar="NAME", help="an experiment in MLflow")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="only runs with this tag or param; repeatable")
@click.option("--metric", default=METRIC, metavar="NAME", help="the metric to compare")
@click.option("--first", metavar="TEXT", show_default="the oldest", help="the group to compare with, by part of its name")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=PAGE, metavar="FILE", help="the page")
@json_option
def command(
    stages: tuple[str, ...], experiment: str, tags: tuple[str, ...], metric: str, first: str | None, out: Path, as_json: bool
) -> None:
    """Compare runs over their seeds, as a table and a page: means with 95% intervals, differences from the first group, costs.

    Runs with the same params but for seeds are a group.
    """
    for tag in tags:
        if "=" not in tag:
            raise ParamsError(f"`--tag {tag}` must have the form KEY=VALUE", "write for example --tag transfer.lr=0.01")
    required = [tuple(tag.split("=", 1)) for tag in tags]
    finished = [run for run in queries.runs(experiment) if run.status == "FINISHED"]
    selected = [
        run for run in finished
        if not run.reused
        and (not stages or {run.stage, run.stage.partition("@")[0]} & set(stages))
        and all(value in (run.tags.get(key), run.params.get(key)) for key, value in required)
    ]  # fmt: skip
    runs = [run for run in selected if abs(run.metrics.get(metric, math.nan)) < INFINITY]
    if excluded := sum(metric in run.metrics for run in selected) - len(runs):
        click.echo(f"{excluded} runs are left out: their {metric} is not a number", err=as_json)
    if not runs:
        _raise_nothing_to_compare(finished, selected, metric, stages)
    digests = _image_digests(finished, runs)
    trials = [seed_comparison.Trial(run.id, run.params | digests.get(run.id, {}), run.metrics, run.started) for run in runs]
    groups = seed_comparison.groups(trials, metric, first or "")
    if first and first not in groups[0].label:
        raise ParamsError(f'no group is called "{first}"', "the groups are: " + "; ".join(group.label for group in groups))
    with atomic.new_file(out) as working:
        page = seed_comparison.page(groups, metric, _curves(groups), max(len(group.runs) for group in groups))
        working.write_text(page, encoding="utf-8")
    columns, rows = seed_comparison.columns(groups, metric)
    if as_json:
        tables.print_json({"page": str(out), "groups": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        header, cells = seed_comparison.table(groups, metric)
        tables.show(header, cells, right=header[1:])
        click.echo(f"\npage: {out}")
    options = {"metric": metric, "stage": " ".join(stages), "tag": " ".join(tags), "first": first or ""}
    with records.start_run("compare", {f"compare.{key}": value for key, value in options.items() if value}, []) as record:
        record.log_artifact(out)
        record.log_table("comparison", columns, rows)


def _image_digests(finished: list[entities.Run], runs: list[entities.Run]) -> dict[str, dict[str, str]]:
    """Return a param `images` for runs whose `ingest` params are the same as another's, but not its images."""
    ingested = {run.pipeline: run.outputs for run in finished if run.stage == "ingest"}
    by_settings: dict[tuple[tuple[str, str], ...], list[entities.Run]] = defaultdict(list)
    for run in runs:
        by_settings[tuple(sorted(item for item in run.params.items() if item[0].startswith("ingest.")))].append(run)
    return {
        run.id: {"images": ingested.get(run.pipeline, "")[:8] or "unknown"}
        for same in by_settings.values()
        if len({ingested.get(run.pipeline, "") for run in same} - {""}) > 1
        for run in same
    }


def _raise_nothing_to_compare(
    finished: list[entities.Run], selected: list[entities.Run], metric: str, stages: tuple[str, ...]
) -> None:
    """Raise the error that says why there is nothing to compare."""
    if not finished:
        raise WorkspaceError("MLflow has no finished run yet", "`dvc repro` makes some, `darkroom sync` uploads recorded ones")
    if not selected:
        names = sorted({run.stage.partition("@")[0] for run in finished} - {"pipeline", "compare", ""})
        hint = "".join(nearest(stage, names) for stage in stages)
        raise WorkspaceError(f"no finished run matches{hint}", f"stages that have run: {', '.join(names)}")
    names = sorted({key for run in selected for key in run.metrics if not key.startswith("system/")})
    raise ParamsError(
        f"none of the {len(selected)} runs has the metric {metric}{nearest(metric, names)}", f"they have {', '.join(names)}"
    )


def _curves(groups: list[seed_comparison.Group]) -> dict[str, dict[str, seed_comparison.Curve]]:
    """Return the mean learning curve of each group, up to the epoch that all its runs have; none for more than MAX_CURVES runs."""
    runs = [run for group in groups for run in group.runs]
    if len(runs) > MAX_CURVES:
        return {}
    histories = queries.histories(runs, list(CURVES.values()))
    curves: dict[str, dict[str, seed_comparison.Curve]] = {}
    for title, key in CURVES.items():
        for group in groups:
            values = [dict(histories[run][key]) for run in group.runs]
            steps = sorted(set.intersection(*map(set, values)))
            if steps:
                mean = [(float(step), sum(run[step] for run in values) / len(values)) for step in steps]
                curves.setdefault(title, {})[group.label] = mean
    return curves
