"""Search better settings for the head of this project, and say what they gain beyond chance."""

from __future__ import annotations

import difflib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from darkroom.commands.param_types import KNOWN_BACKBONE, WEIGHTS
from darkroom.core.command_line import Command, Many, json_option
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.commands import check
    from darkroom.config import backbone_names, params, recipes
    from darkroom.core import progress, tables
    from darkroom.data import seen_images
    from darkroom.evaluation import selection_bias
    from darkroom.tracking import records
    from darkroom.tuning import heads, search, space

INGESTED, PARAMS = Path("data/ingested"), Path("params.yaml")
SHOWN = 5  # trials of the table, beside those of params.yaml


@click.command(cls=Command)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="of the whole search")
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="at most so many, those of params.yaml included")
@click.option(
    "--backbones", "names", cls=Many, metavar="NAME …", type=KNOWN_BACKBONE, help="to choose from", show_default="of params.yaml"
)
@click.option(
    "--weights", type=WEIGHTS, metavar="SOURCE", help="imagenet, package, random, or a folder", show_default="as in params.yaml"
)
@click.option(
    "--max-ms", type=click.FloatRange(min=0, min_open=True), metavar="MS", help="of backbones that take at most so long an image"
)
@click.option("--write", is_flag=True, help="write the best settings into params.yaml, comments kept, also where nothing is gained")
@json_option
def command(
    minutes: float,
    trials: int | None,
    names: tuple[str, ...],
    weights: str | None,
    max_ms: float | None,
    write: bool,
    as_json: bool,
) -> None:
    """Search better settings for the head on the training and validation images of the last `ingest`: backbone, views, learning
    rate, weight decay, label smoothing, epochs, and class weights where classes differ in size.

    Optuna's TPE proposes. Each trial is judged by the log loss of images that its heads were not trained on, in five folds that
    keep copies together; one that falls behind ends early. At the end a bootstrap repeats the choice and says what it gains over
    params.yaml on images that did not choose, with a 95% interval. Test images have no part in it. Fine-tuning is not searched.

    Ctrl-C ends the search with the best so far. The same command again goes on: folds are kept in .darkroom/tune. Each trial is
    a run of MLflow's.

    \b
    darkroom tune --minutes 5
    darkroom tune --backbones mobilenet_v2 squeezenet1_1 --max-ms 5 --write
    """
    started = time.monotonic()
    settings = params.read()
    source, folder = recipes.weights_of(settings, weights)
    pool = load_pool(settings)
    embedded, fast = _embed(pool, settings, names, source, folder, max_ms)
    tuning = search.Search(pool, embedded, fast, settings.compute.seed)
    with records.start_run("tune", {"minutes": minutes, "backbones": ", ".join(fast)}, [str(INGESTED)]) as run:
        is_interrupted = _run(tuning, run, minutes * 60 - (time.monotonic() - started), trials)
        gain, best, reference = tuning.gain(), tuning.best(), tuning.reference()
        text = _verdict(tuning, gain)
        run.set_tags({"mlflow.note.content": text})
        run.log_metrics({"log_loss": best.log_loss, "reference_log_loss": reference.log_loss, "trials": len(tuning.trials)})
        run.log_metrics({"accuracy_gain": gain.accuracy.difference, "accuracy_gain_low": gain.accuracy.low})
    is_kept = best.values[space.BACKBONE] in settings.backbones and set(settings.backbones) <= {*fast, best.values[space.BACKBONE]}
    requested = space.requested(best.values, settings, is_kept)
    if weights and not is_kept:
        requested |= {"weights.source": source, "weights.folder": str(folder)}
    diff = _diff(requested)
    if as_json:
        tables.print_json({
            "images": len(pool.labels), "trials": [_row(trial, pool) for trial in tuning.trials], "best": best.number,
            "recipe": reference.number, "gain": _gain(gain), "changes": requested, "interrupted": is_interrupted,
        })  # fmt: skip
    else:
        _show(tuning, pool)
        click.echo(f"\n{text}")
        if diff:
            click.echo(f"\n{diff}")
        if space.VIEWS in requested:
            click.echo("augment.views is also that of baseline and finetune, which this search does not judge")
    if write and requested:
        recipes.apply(PARAMS, requested, check.check_params)
        click.echo(f"params.yaml: {len(requested)} value{'s' * (len(requested) != 1)} changed", err=as_json)
    elif diff and not as_json:
        click.echo("params.yaml is as it was; --write writes this")


def _embed(
    pool: heads.Pool, settings: params.Params, names: tuple[str, ...], source: str, folder: Path, max_ms: float | None
) -> tuple[dict[str, heads.Embedded], list[str]]:
    """Return the embeddings of the candidates and of the backbones of params.yaml, and the candidates that are fast enough."""
    candidates = list(dict.fromkeys(names or settings.backbones))
    if not candidates:
        raise ParamsError("no backbone is named", "name some: `darkroom tune --backbones mobilenet_v2 squeezenet1_1`")
    for name in candidates:
        backbone_names.check(name)
    embedded = {name: pool.embed(name, source, folder) for name in dict.fromkeys([*candidates, *settings.backbones])}
    fast = [name for name in candidates if max_ms is None or embedded[name].milliseconds <= max_ms]
    if not fast:
        least = min(embedded[name].milliseconds for name in candidates)
        raise ParamsError(f"no backbone takes at most {max_ms:g} ms an image; the fastest takes {least:.1f}", "raise --max-ms")
    return embedded, fast


def load_pool(settings: params.Params) -> heads.Pool:
    """Return the training and validation images of the last ingest."""
    loaded = seen_images.load(INGESTED, settings.compute.seed)
    return heads.Pool(loaded.images, loaded.labels, loaded.groups, loaded.classes, settings, loaded.val_share)


def _run(tuning: search.Search, run: records.Run, seconds: float, most: int | None) -> bool:
    """Search until the time is over, and record each trial; return whether a person ended it."""
    began = time.monotonic()
    with progress.Progress("tuning", max(1, round(seconds)), "seconds") as bar:

        def on_trial(trial: search.Trial) -> None:
            with records.start_run("tune", trial.values, [], f"trial {trial.number}", run) as child:
                child.set_duration(trial.seconds)
                child.set_tags({"darkroom.state": trial.state})
                if trial.folds:
                    child.log_metrics({"log_loss": trial.log_loss, "folds": trial.folds})
                if trial.is_complete:
                    child.log_metrics({"accuracy": _accuracy(trial, tuning.pool)})
            best = tuning.best() if any(other.is_complete for other in tuning.trials) else trial
            passed = min(round(time.monotonic() - began), bar.total)
            note = f"{len(tuning.trials)} trials, log loss {trial.log_loss:.4f} ({trial.state}), best {best.log_loss:.4f}"
            bar.advance(passed - bar.done, note)

        try:
            tuning.run(search.timed(seconds, most), on_trial)
        except KeyboardInterrupt:
            if not any(trial.is_recipe and trial.is_complete for trial in tuning.trials):
                raise
            return True
    return False


def _accuracy(trial: search.Trial, pool: heads.Pool) -> float:
    assert trial.probabilities is not None
    return float((trial.probabilities.argmax(1) == pool.labels).mean())


def _row(trial: search.Trial, pool: heads.Pool) -> dict[str, Any]:
    accuracy = _accuracy(trial, pool) if trial.is_complete else None
    loss = trial.log_loss if trial.folds else None
    return {"number": trial.number, "state": trial.state, "log_loss": loss, "accuracy": accuracy, **trial.values}


def _gain(gain: selection_bias.Gain) -> dict[str, Any]:
    parts = {"accuracy": gain.accuracy, "log_loss": gain.log_loss}
    result: dict[str, Any] = {key: {"difference": i.difference, "low": i.low, "high": i.high} for key, i in parts.items()}
    return result | {"is_gained": gain.is_accuracy_gained or gain.is_log_loss_gained}


def _verdict(tuning: search.Search, gain: selection_bias.Gain) -> str:
    """Return what the search has gained, in a sentence."""
    if all(trial.is_recipe for trial in tuning.trials):
        return "no settings but those of params.yaml were tried; raise --minutes, or --trials"
    if tuning.best().is_recipe:
        return "nothing is gained: no trial has a lower log loss than params.yaml"
    one, other = gain.accuracy, gain.log_loss
    points = f"{100 * one.difference:+.1f} points of accuracy ({100 * one.low:+.1f} to {100 * one.high:+.1f})"
    loss = f"{other.difference:+.4f} of log loss ({other.low:+.4f} to {other.high:+.4f})"
    if gain.is_accuracy_gained:
        return f"gained {points.removeprefix('+')} over params.yaml, and {loss}"
    if gain.is_log_loss_gained:
        return f"gained {loss} over params.yaml; {points} may be chance"
    return f"nothing is gained beyond chance: {points} and {loss} over params.yaml"


def _show(tuning: search.Search, pool: heads.Pool) -> None:
    """Print the best trials and those of params.yaml."""
    best = tuning.best()
    complete = sorted((trial for trial in tuning.trials if trial.is_complete), key=lambda trial: trial.log_loss)
    shown = [trial for rank, trial in enumerate(complete) if rank < SHOWN or trial.is_recipe or trial is best]
    keys = list(shown[0].values)
    rows = [
        (
            "params.yaml" if trial.is_recipe else str(trial.number), *(str(trial.values[key]) for key in keys),
            f"{_accuracy(trial, pool):.4f}", f"{trial.log_loss:.4f}",
        )
        for trial in shown
    ]  # fmt: skip
    header = ("trial", *(key.rpartition(".")[2] for key in keys), "accuracy", "log loss")
    tables.show(header, rows, right=header[2:])
    states = [trial.state for trial in tuning.trials]
    click.echo(
        f"\n{len(states)} trials, of which {states.count('pruned')} ended early and {states.count('diverged')} diverged; "
        f"{len(pool.labels):,} training and validation images, {heads.FOLDS} folds"
    )


def _diff(requested: dict[str, Any]) -> str:
    """Return what the values would change in params.yaml, as a unified diff."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copy(PARAMS, scratch))
        recipes.apply(copy, requested, lambda settings: None)
        before, after = (path.read_text(encoding="utf-8").splitlines() for path in (PARAMS, copy))
    return "\n".join(difflib.unified_diff(before, after, "params.yaml", "params.yaml, tuned", n=0, lineterm=""))
