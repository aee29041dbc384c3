"""The search: Optuna's TPE proposes, heads are trained on folds, and those that fall behind end early.

A search is a function of its images, settings and seed. Its state is not stored: what each fold predicts is kept, so a search that
was stopped repeats its proposals and goes on with the first one that is not kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import optuna
from optuna import pruners, samplers
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from darkroom.core.errors import ParamsError
from darkroom.evaluation import selection_bias
from darkroom.evaluation.selection_bias import Gain
from darkroom.tuning.heads import Embedded, Pool
from darkroom.tuning.space import BACKBONE, Values, proposed, recipe, space, within

RANDOM_TRIALS = 10  # before the sampler learns from trials
WARM_UP = 1  # folds that every trial is trained on


@dataclass(frozen=True)
class Trial:
    """The values of a trial, its mean log loss, and the out-of-fold probabilities (N, C) where it was not ended early."""

    number: int
    values: Values
    log_loss: float
    folds: int
    seconds: float
    probabilities: np.ndarray | None = field(default=None, repr=False)
    is_recipe: bool = False  # has the values of params.yaml

    @property
    def is_complete(self) -> bool:
        return self.probabilities is not None

    @property
    def state(self) -> str:
        """Return whether it is complete, was pruned, or diverged."""
        return "complete" if self.is_complete else "diverged" if math.isinf(self.log_loss) else "pruned"


OnTrial = Callable[[Trial], None]


@dataclass
class Search:
    """A search over the images of a pool; `trials` are those so far, whatever ends it.

    `embedded` has the backbones that are tried, by name, and those of params.yaml; `candidates` are the names of the first.
    """

    pool: Pool
    embedded: Mapping[str, Embedded]
    candidates: Sequence[str]
    seed: int = 0
    sampler: Literal["tpe", "random"] = "tpe"
    is_pruning: bool = True
    trials: list[Trial] = field(default_factory=list)

    def run(self, is_over: Callable[[Sequence[Trial]], bool], on_trial: OnTrial = lambda trial: None) -> None:
        """Try the values of params.yaml with each of its backbones, then proposals until `is_over` of all trials.

        A KeyboardInterrupt leaves the trials that are done.
        """
        settings, varied = self.pool.settings, space(self.pool.settings, self.candidates, self.pool.labels)
        study = self._create_study()
        for name in settings.backbones or self.candidates[:1]:
            trial, losses = self._train(recipe(settings, name), lambda fold, loss: False, is_recipe=True)
            if name in self.candidates and trial.is_complete:
                study.add_trial(_frozen(trial, losses, varied))
            self._add(trial, on_trial)
        if not any(trial.is_complete for trial in self.trials):
            raise ParamsError("training a head with the settings of params.yaml diverges", "lower `transfer.lr`")
        while not is_over(self.trials) and varied:
            proposal = study.ask(dict(varied))
            values = proposed(proposal.params, settings, self.candidates[0])
            trial, _ = self._train(values, _ends(proposal) if self.is_pruning else lambda fold, loss: False)
            if trial.is_complete:
                study.tell(proposal, trial.log_loss)
            else:
                study.tell(proposal, state=TrialState.PRUNED)
            self._add(trial, on_trial)

    def _create_study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        random, tpe = samplers.RandomSampler, samplers.TPESampler
        sampler = tpe(seed=self.seed, n_startup_trials=RANDOM_TRIALS) if self.sampler == "tpe" else random(seed=self.seed)
        pruner = pruners.MedianPruner(n_startup_trials=RANDOM_TRIALS // 2, n_warmup_steps=WARM_UP)
        return optuna.create_study(sampler=sampler, pruner=pruner)

    def _add(self, trial: Trial, on_trial: OnTrial) -> None:
        self.trials.append(trial)
        on_trial(trial)

    def _train(
        self, values: Values, ends: Callable[[int, float], bool], is_recipe: bool = False
    ) -> tuple[Trial, list[float]]:  # fmt: skip
        """Return a trial, and its mean log loss after each fold; `ends` is told both after each."""
        pool, started = self.pool, time.monotonic()
        probabilities = np.zeros((len(pool.labels), pool.classes))
        losses: list[float] = []
        total = count = 0.0

        def trial(loss: float, predicted: np.ndarray | None = None) -> tuple[Trial, list[float]]:
            seconds = time.monotonic() - started
            return Trial(len(self.trials), values, loss, len(losses), seconds, predicted, is_recipe), losses

        for fold in pool.folds:
            try:
                predicted = pool.predict(values, self.embedded[values[BACKBONE]], fold)
            except ParamsError:  # the loss is no number
                return trial(math.inf)
            probabilities[fold.held_out] = predicted
            total += float(selection_bias.log_losses(predicted, pool.labels[fold.held_out]).sum())
            count += len(fold.held_out)
            losses.append(total / count)
            if ends(len(losses), losses[-1]) and fold is not pool.folds[-1]:
                return trial(losses[-1])
        return trial(losses[-1], probabilities)

    def best(self) -> Trial:
        """Return the complete trial of a candidate with the lowest log loss, of equal ones the first."""
        return min(self._selectable(), key=lambda trial: trial.log_loss)

    def reference(self) -> Trial:
        """Return the best trial with the values of params.yaml."""
        return min((trial for trial in self.trials if trial.is_recipe and trial.is_complete), key=lambda trial: trial.log_loss)

    def _selectable(self) -> list[Trial]:
        """Return the trials that may be chosen; where none may, those of params.yaml."""
        complete = [trial for trial in self.trials if trial.is_complete]
        return [trial for trial in complete if trial.values[BACKBONE] in self.candidates] or complete

    def gain(self) -> Gain:
        """Return what the best trial gains over the values of params.yaml, corrected for the choice."""
        labels = self.pool.labels
        complete = [trial for trial in self.trials if trial.probabilities is not None]
        probabilities = [trial.probabilities for trial in complete if trial.probabilities is not None]
        losses = np.stack([selection_bias.log_losses(item, labels) for item in probabilities])
        correct = np.stack([item.argmax(1) == labels for item in probabilities])
        selectable = {trial.number for trial in self._selectable()}
        return selection_bias.estimate(
            losses,
            correct,
            [row for row, trial in enumerate(complete) if trial.is_recipe],
            [row for row, trial in enumerate(complete) if trial.number in selectable],
            self.pool.groups,
            self.seed,
        )


def _ends(proposal: optuna.Trial) -> Callable[[int, float], bool]:
    """Return a function that tells the pruner of a fold, and returns its decision."""

    def ends(fold: int, loss: float) -> bool:
        proposal.report(loss, fold)
        return proposal.should_prune()

    return ends


def _frozen(trial: Trial, losses: Sequence[float], varied: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """Return a trial that was not proposed, as the study keeps it."""
    return optuna.trial.create_trial(
        params=within(trial.values, varied), distributions=dict(varied), value=trial.log_loss,
        intermediate_values=dict(enumerate(losses, 1)),
    )  # fmt: skip


def timed(
    seconds: float, most: int | None = None, clock: Callable[[], float] = time.monotonic
) -> Callable[[Sequence[Trial]], bool]:
    """Return a rule that ends a search when the next trial would end later than in `seconds`, or after `most` trials."""
    end = clock() + seconds

    def is_over(trials: Sequence[Trial]) -> bool:
        lengths = [trial.seconds for trial in trials[-20:]]
        return (most is not None and len(trials) >= most) or clock() + sum(lengths) / max(len(lengths), 1) > end

    return is_over
