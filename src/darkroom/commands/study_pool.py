"""Train the runs of a study in a work pool, by a flow of its own, and take over their results."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from darkroom.commands import flow
from darkroom.studies import cache, jobs, runner
from darkroom.studies.cache import ResultCache
from darkroom.studies.run_config import NAMED_WEIGHTS, RunConfig

FLOW = "study_members"
STATE = Path(".darkroom")


def train(pool: str, configs: Sequence[RunConfig], results_cache: ResultCache, on_result: runner.OnResult) -> None:
    """Let the workers of a pool train what is not cached, and what it is initialised from; `on_result` is called for each run.

    Runs that begin with a file of weights are left, since that is on this machine alone. Where some fail, the results of the others
    are taken over, and the command ends with the exit code of the flow.
    """
    samples = results_cache.samples
    units = runner.group_different(configs, samples, results_cache.accelerator)
    portable = [unit for unit in units if unit[0].weights in ("", *NAMED_WEIGHTS)]
    runner.check_networks([unit[0] for unit in portable], samples)
    groups = [group for group in jobs.group_units(portable, samples) if not all(_is_cached(unit, results_cache) for unit in group)]
    if not groups:
        return
    starts = runner.starts_of([group[0][0] for group in groups])
    if left := sum(len(unit) for unit in units if unit not in portable and not _is_cached(unit, results_cache)):
        click.echo(f"{left} runs begin with a file of weights of this machine, and are trained on it", err=True)
    STATE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{FLOW}-", dir=STATE, ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        jobs.write(folder, starts, groups, results_cache)
        code = flow.run(FLOW, "--pool", pool, "--folder", scratch)
        for unit in [*starts, *(unit for group in groups for unit in group)]:
            _take_over(folder / jobs.RESULTS, unit, results_cache, on_result)
    if code:
        raise click.exceptions.Exit(code)


def _is_cached(unit: runner.Unit, results_cache: ResultCache) -> bool:
    return cache.read(results_cache.file(unit), unit) is not None


def _take_over(folder: Path, unit: runner.Unit, results_cache: ResultCache, on_result: runner.OnResult) -> None:
    """Put the results of a unit, where they have come and are not cached, and its last weights into the cache."""
    file = results_cache.file(unit)
    results = cache.read(folder / file.name, unit)
    if results is None or _is_cached(unit, results_cache):
        return
    weights = results_cache.weights_file(unit[0])
    if (folder / weights.name).exists():
        weights.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / weights.name, weights)
    cache.write(file, results)
    for result in results:
        on_result(result)
