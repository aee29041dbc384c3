"""What `darkroom tune` says: its trials, and what they gain."""

from __future__ import annotations

from typing import Any

import click

from darkroom.core import tables
from darkroom.evaluation.selection_bias import Gain
from darkroom.tuning import heads
from darkroom.tuning.heads import Pool
from darkroom.tuning.search import Search
from darkroom.tuning.trials import FINETUNE, HEADS, Trial

SHOWN = 5  # trials of a table, beside those of params.yaml
TITLES = {HEADS: "heads on frozen backbones", FINETUNE: "fine-tuned networks"}


def accuracy(trial: Trial, pool: Pool) -> float:
    """Return the accuracy of a trial that is complete."""
    assert trial.probabilities is not None
    return float((trial.probabilities.argmax(1) == pool.labels).mean())


def trial_row(trial: Trial, pool: Pool) -> dict[str, Any]:
    """Return a trial as --json has it."""
    share = accuracy(trial, pool) if trial.is_complete else None
    loss = trial.log_loss if trial.folds else None
    row = {"number": trial.number, "phase": trial.phase, "state": trial.state, "log_loss": loss, "accuracy": share}
    return row | trial.values


def gain_row(gain: Gain) -> dict[str, Any]:
    """Return a gain as --json has it."""
    parts = {"accuracy": gain.accuracy, "log_loss": gain.log_loss}
    result: dict[str, Any] = {key: {"difference": i.difference, "low": i.low, "high": i.high} for key, i in parts.items()}
    return result | {"is_gained": gain.is_gained}


def verdict(tuning: Search, gain: Gain) -> str:
    """Return what the search has gained, in a sentence."""
    if all(trial.is_recipe for trial in tuning.trials):
        return "no settings but those of params.yaml were tried; raise --minutes, or --trials"
    if tuning.best().is_recipe:
        return "nothing is gained: no trial has a lower log loss than params.yaml; stay with it"
    one, other = gain.accuracy, gain.log_loss
    points = f"{100 * one.difference:+.1f} points of accuracy ({100 * one.low:+.1f} to {100 * one.high:+.1f})"
    loss = f"{other.difference:+.4f} of log loss ({other.low:+.4f} to {other.high:+.4f})"
    if gain.is_accuracy_gained:
        return f"gained {points.removeprefix('+')} over params.yaml, and {loss}"
    if gain.is_log_loss_gained:
        return f"gained {loss} over params.yaml; {points} may be chance"
    return f"nothing is gained beyond chance: {points} and {loss} over params.yaml; stay with it"


def show(tuning: Search) -> None:
    """Print the best trials of each phase and those of params.yaml."""
    phases = [name for name in TITLES if any(trial.phase == name for trial in tuning.trials)]
    for name in phases:
        if len(phases) > 1:
            click.echo(("" if name == phases[0] else "\n") + TITLES[name])
        _show_table(tuning, [trial for trial in tuning.trials if trial.phase == name])
    states = [trial.state for trial in tuning.trials]
    stopped = states.count("stopped")
    click.echo(
        f"\n{len(states)} trials, of which {states.count('pruned')} ended early and {states.count('diverged')} diverged"
        f"{f', {stopped} when the time was over' if stopped else ''}; "
        f"{len(tuning.pool.labels):,} training and validation images, {heads.FOLDS} folds"
    )
    if any(trial.is_recipe and not trial.is_complete and trial.phase == FINETUNE for trial in tuning.trials):
        click.echo("fine-tuning as in params.yaml was not judged on all folds, and nothing is compared with it: raise --minutes")


def _show_table(tuning: Search, trials: list[Trial]) -> None:
    best = tuning.best()
    complete = sorted((trial for trial in trials if trial.is_complete), key=lambda trial: trial.log_loss)
    shown = [trial for rank, trial in enumerate(complete) if rank < SHOWN or trial.is_recipe or trial is best]
    keys = list(trials[0].values)
    rows = [
        (
            "params.yaml" if trial.is_recipe else str(trial.number), *(str(trial.values[key]) for key in keys),
            f"{accuracy(trial, tuning.pool):.4f}", f"{trial.log_loss:.4f}",
        )
        for trial in shown
    ]  # fmt: skip
    header = ("trial", *(key.rpartition(".")[2] for key in keys), "accuracy", "log loss")
    tables.show(header, rows, right=header[2:])
