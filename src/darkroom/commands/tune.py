"""Search better settings for this project, for heads and for fine-tuning, and say what they gain beyond chance."""

from __future__ import annotations

import difflib
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkroom.commands.param_types import KNOWN_BACKBONE, WEIGHTS
from darkroom.core.command_line import Command, Many, json_option
from darkroom.core.errors import DarkroomError
from darkroom.core.lazy import lazy_imports

if TYPE_CHECKING:
    import numpy as np

with lazy_imports():
    from darkroom.commands import check, tune_backbones, tune_report
    from darkroom.config import params, recipes
    from darkroom.core import progress, tables
    from darkroom.data import resized_images, seen_images
    from darkroom.preflight import durations
    from darkroom.tracking import records
    from darkroom.tuning import fine_tuning, finetune_space, heads, search, space, trials

INGESTED, PARAMS = Path("data/ingested"), Path("params.yaml")
HEADS_SHARE = 0.3  # of the time, where both are searched
LEAST_TRIALS = 2  # of fine-tuning, one as in params.yaml, for which there has to be time
WRITE = ("gained", "always")
OF_ALL = ("augment.policy", "augment.views", "ingest.image_size")  # keys that other stages have, too


@click.command(cls=Command)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="of the whole search")
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="at most so many of each kind, with those of params.yaml")
@click.option(
    "--only", type=click.Choice(["heads", "finetune"]), help="search these settings alone", show_default="both, as time allows"
)
@click.option(
    "--backbones",
    "names",
    cls=Many,
    metavar="NAME …",
    type=KNOWN_BACKBONE,
    help="to choose from",
    show_default="of params.yaml, and others whose weights are at hand",
)
@click.option(
    "--weights", type=WEIGHTS, metavar="SOURCE", help="imagenet, package, random, or a folder", show_default="as in params.yaml"
)
@click.option(
    "--max-ms", type=click.FloatRange(min=0, min_open=True), metavar="MS", help="of backbones that take at most so long an image"
)
@click.option(
    "--write", type=click.Choice(WRITE), is_flag=False, flag_value=WRITE[0],
    help="write the best settings into params.yaml, comments kept, where they gain beyond chance; `always`: also elsewhere",
)  # fmt: skip
@json_option
def command(
    minutes: float,
    trials: int | None,
    only: str | None,
    names: tuple[str, ...],
    weights: str | None,
    max_ms: float | None,
    write: str | None,
    as_json: bool,
) -> None:
    """Search better settings on the training and validation images of the last `ingest`. First heads on frozen backbones: backbone,
    image size, views, learning rate, weight decay, label smoothing, epochs, class weights. Then fine-tuning: unfrozen blocks,
    policy of augmentation, rates, decay, epochs. Where the time is too short for the second, it says so.

    The first trials of fine-tuning change one thing of the best so far, then Optuna's TPE proposes, as for heads. Each trial is
    judged by the log loss of images that it was not trained on, in five folds that keep copies together; one that falls behind ends
    early. At the end a bootstrap repeats the choice and says what it gains over params.yaml on images that did not choose, with a
    95% interval. Test images have no part in it.

    Ctrl-C ends the search with the best so far. The same command again goes on: folds are kept in .darkroom/tune. Each trial is
    a run of MLflow's.

    \b
    darkroom tune --minutes 5
    darkroom tune --backbones mobilenet_v2 squeezenet1_1 --max-ms 5 --write
    """
    end = time.monotonic() + minutes * 60
    settings = params.read()
    pool = load_pool(settings)
    backbones = tune_backbones.embed(pool, names, *recipes.weights_of(settings, weights), max_ms, _embedding_seconds(minutes, only))
    tuning = search.Search(pool, backbones.embedded, backbones.names, settings.compute.seed)
    with records.start_run("tune", {"minutes": minutes, "backbones": ", ".join(backbones.names)}, [str(INGESTED)]) as run:
        is_interrupted = _search(_Task(tuning, backbones, run, minutes, trials, only, max_ms), end)
        gain, best, reference = tuning.gain(), tuning.best(), tuning.reference()
        text = tune_report.verdict(tuning, gain)
        run.set_tags({"mlflow.note.content": text})
        run.log_metrics({"log_loss": best.log_loss, "reference_log_loss": reference.log_loss, "trials": len(tuning.trials)})
        run.log_metrics({"accuracy_gain": gain.accuracy.difference, "accuracy_gain_low": gain.accuracy.low})
    requested = _requested(tuning, backbones, settings)
    diff = _diff(requested)
    if as_json:
        tables.print_json({
            "images": len(pool.labels), "backbones": backbones.names,
            "trials": [tune_report.trial_row(trial, pool) for trial in tuning.trials],
            "best": best.number, "recipe": reference.number, "gain": tune_report.gain_row(gain), "changes": requested,
            "interrupted": is_interrupted,
        })  # fmt: skip
    else:
        tune_report.show(tuning)
        click.echo(f"\n{text}")
        if diff:
            click.echo(f"\n{diff}")
        _note_others(tuning, best, requested)
    if write and requested and (gain.is_gained or write == "always"):
        recipes.apply(PARAMS, requested, check.check_params)
        click.echo(f"params.yaml: {len(requested)} value{'s' * (len(requested) != 1)} changed", err=as_json)
    elif diff and not as_json:
        click.echo(f"params.yaml is as it was; --write{'' if gain.is_gained else ' always'} writes this")


@dataclass(frozen=True)
class _Task:
    """A search, its record in MLflow, and its limits."""

    tuning: search.Search
    backbones: tune_backbones.Backbones
    run: records.Run
    minutes: float
    trials: int | None
    only: str | None
    max_ms: float | None


def _search(task: _Task, end: float) -> bool:
    """Search heads, then fine-tuning, until `end`; return whether a person ended it."""
    tuning, only = task.tuning, task.only
    ingest, seed = tuning.pool.settings.ingest, tuning.pool.settings.compute.seed
    images_at = cache(lambda size: resized_images.load(INGESTED, ingest, size, seed))
    left, needed = end - time.monotonic(), _seconds_of_two(tuning.pool)
    head_seconds = _head_seconds(left, needed, only)
    if head_seconds == left and only is None:
        click.echo(_too_short(left, needed, task.minutes), err=True)
    is_over = trials.timed(head_seconds, task.trials if only != "finetune" else 1)
    share = 1.0 if head_seconds == left else HEADS_SHARE
    resize = _resizer(task, images_at, share * task.minutes * 60) if only != "finetune" else None
    is_interrupted = _run(task, "heads", head_seconds, lambda on_trial: tuning.run(is_over, on_trial, resize))
    if head_seconds < left and not is_interrupted:
        is_interrupted = _fine_tune(task, images_at, end)
    return is_interrupted


def _embedding_seconds(minutes: float, only: str | None) -> float:
    """Return the seconds for embedding with backbones that nobody named: half of what heads have."""
    return {"heads": 0.5, "finetune": 0.0}.get(only or "", 0.5 * HEADS_SHARE) * minutes * 60


def _requested(tuning: search.Search, backbones: tune_backbones.Backbones, settings: params.Params) -> dict[str, Any]:
    """Return what params.yaml would have to hold for the best trial, by key."""
    best = tuning.best()
    name = best.values[space.BACKBONE]
    is_kept = name in settings.backbones and set(settings.backbones) <= {*backbones.names, name}
    kind = finetune_space if best.phase == trials.FINETUNE else space
    requested = space.requested(best.values, kind.recipe(settings, name), is_kept)
    source = {"weights.source": backbones.sources[name], "weights.folder": str(backbones.folder)}
    now = {"weights.source": settings.weights.source, "weights.folder": settings.weights.folder}
    return requested | ({} if is_kept else {key: value for key, value in source.items() if value != now[key]})


def _note_others(tuning: search.Search, best: trials.Trial, requested: dict[str, Any]) -> None:
    """Say which of the values hold for models that were not tried, and what a larger size costs."""
    name = best.values[space.BACKBONE]
    if space.SIZE in requested and name in tuning.embedded:
        size = requested[space.SIZE]
        slower, before = tuning.resized[name, size].milliseconds, tuning.embedded[name].milliseconds
        click.echo(f"an image of {size} pixels takes {slower:.1f} ms instead of {before:.1f}; --max-ms sets a limit")
    keys = [key for key in OF_ALL if key in requested]
    if keys:
        click.echo(f"{' and '.join(keys)} hold for every model, also for those that this search does not judge")


def _head_seconds(left: float, needed: float, only: str | None) -> float:
    """Return the share of the time that is left for heads: all of it where the rest is too short for fine-tuning."""
    if only == "finetune":
        return 0.0
    return HEADS_SHARE * left if only is None and (1 - HEADS_SHARE) * left >= needed else left


def _too_short(left: float, needed: float, minutes: float) -> str:
    """Return a sentence about the time that fine-tuning needs."""
    each = progress.duration(needed / LEAST_TRIALS)
    enough = math.ceil((needed / (1 - HEADS_SHARE) - left) / 60 + minutes)
    return f"fine-tuning is not searched: a trial takes about {each} here; `--minutes {enough}` has time for {LEAST_TRIALS}"


def _seconds_of_two(pool: heads.Pool) -> float:
    """Return how long two trials of fine-tuning are expected to take, one of them with each backbone of params.yaml."""
    settings, count = pool.settings, len(pool.labels)
    machine = durations.measure(settings.compute.threads)
    counts = durations.Counts(count * (1 - pool.val_share) * (1 - 1 / heads.FOLDS), count * pool.val_share, 0, 0)
    expected = durations.stages(settings, counts, pool.classes, machine)
    start = settings.finetune.model_copy(update={"epochs": 0})  # the start of a process, which a trial has not
    fixed = durations.stages(settings.model_copy(update={"finetune": start}), counts, pool.classes, machine)
    seconds = [
        heads.FOLDS * (expected.get(f"finetune@{name}", 0.0) - fixed.get(f"finetune@{name}", 0.0))
        + expected["augment"] + expected.get(f"embed@{name}", 0.0)
        for name in settings.backbones
    ]  # fmt: skip
    return machine.busy * (sum(seconds) + max(seconds, default=0.0))


def _resizer(task: _Task, images_at: Callable[[int], np.ndarray], seconds: float) -> trials.Resize:
    """Return a function that embeds with a backbone at a larger size, or returns None where that takes more than half of the
    seconds, an image more than `--max-ms`, or it is not possible.
    """
    pool, max_ms, backbones = task.tuning.pool, task.max_ms, task.backbones
    seen = len(pool.labels) * (1 + space.views_used(pool.settings))

    def resize(name: str, size: int) -> heads.Embedded | None:
        slower = (size / pool.settings.ingest.image_size) ** 2
        expected = slower * backbones.embedded[name].milliseconds
        if (max_ms is not None and expected > max_ms) or seen * expected / 1000 > seconds / 2:
            return None
        try:
            embedded = pool.at(images_at(size), pool.settings.augment.policy).embed(name, backbones.sources[name], backbones.folder)
        except DarkroomError as error:  # the source is gone, or the network has one size
            click.echo(f"{name} is not tried at {size} pixels: {error.problem}", err=True)
            return None
        return embedded if max_ms is None or embedded.milliseconds <= max_ms else None

    return resize


def _fine_tune(task: _Task, images_at: Callable[[int], np.ndarray], end: float) -> bool:
    """Search fine-tuning until `end`; return whether a person ended it."""
    tuning, left, seconds = task.tuning, end - time.monotonic(), (1 - HEADS_SHARE) * task.minutes * 60
    with tempfile.TemporaryDirectory(dir=heads.make_folder(heads.CACHE)) as scratch:
        tuner = fine_tuning.FineTuning(tuning.pool, images_at, task.backbones.sources, task.backbones.folder, Path(scratch))
        is_over = trials.timed(left, task.trials)
        return _run(
            task, "fine-tuning", left,
            lambda on_trial: tuning.fine_tune(tuner, is_over, on_trial, lambda: time.monotonic() > end, seconds),
        )  # fmt: skip


def load_pool(settings: params.Params) -> heads.Pool:
    """Return the training and validation images of the last ingest."""
    loaded = seen_images.load(INGESTED, settings.compute.seed)
    return heads.Pool(loaded.images, loaded.labels, loaded.groups, loaded.classes, settings, loaded.val_share)


def _run(task: _Task, description: str, seconds: float, work: Callable[[trials.OnTrial], None]) -> bool:
    """Do a part of a search, and record each trial; return whether a person ended it."""
    tuning, run, began = task.tuning, task.run, time.monotonic()
    with progress.Progress(f"tuning {description}", max(1, round(seconds)), "seconds") as bar:

        def on_trial(trial: trials.Trial) -> None:
            with records.start_run("tune", trial.values, [], f"trial {trial.number}", run) as child:
                child.set_duration(trial.seconds)
                child.set_tags({"darkroom.state": trial.state, "darkroom.phase": trial.phase})
                if trial.folds:
                    child.log_metrics({"log_loss": trial.log_loss, "folds": trial.folds})
                if trial.is_complete:
                    child.log_metrics({"accuracy": tune_report.accuracy(trial, tuning.pool)})
            passed = min(round(time.monotonic() - began), bar.total)
            bar.advance(passed - bar.done, _note(tuning, trial))

        try:
            work(on_trial)
        except KeyboardInterrupt:
            if not any(trial.is_recipe and trial.is_complete for trial in tuning.trials):
                raise
            return True
    return False


def _note(tuning: search.Search, trial: trials.Trial) -> str:
    best = tuning.best() if any(other.is_complete for other in tuning.trials) else trial
    return f"{len(tuning.trials)} trials, log loss {trial.log_loss:.4f} ({trial.state}), best {best.log_loss:.4f}"


def _diff(requested: dict[str, Any]) -> str:
    """Return what the values would change in params.yaml, as a unified diff."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copy(PARAMS, scratch))
        recipes.apply(copy, requested, lambda settings: None)
        before, after = (path.read_text(encoding="utf-8").splitlines() for path in (PARAMS, copy))
    return "\n".join(difflib.unified_diff(before, after, "params.yaml", "params.yaml, tuned", n=0, lineterm=""))
