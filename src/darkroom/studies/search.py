"""Search a declared space: Optuna proposes, a network is trained for each proposal, a pruner ends what promises little.

A search is a function of its settings, its seed and the images. Its state is not stored but made again: each trial is remembered
under all trials before it, so that a search that was stopped proposes the same once more, and trains from where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.studies.run_config import Member, Outcome, Row, Sample
from darkroom.studies.runner import Place, recall, remember

if TYPE_CHECKING:
    import optuna

RANDOM, TPE = "random search", "TPE"
INNER = "inner"  # the name and the source of the images that trials are trained on and judged by
Values = dict[str, Any]  # of the space
Space = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Trial:
    """A proposal and what was made of it: `outcome` has a shorter curve where it was pruned."""

    sampler: str
    seed: int
    number: int
    values: Values
    outcome: Outcome = field(repr=False)

    @property
    def steps(self) -> int:
        return int(self.outcome.curve[-1]["step"])

    @property
    def share(self) -> float:
        """Return what it cost, as a share of a whole training."""
        return self.steps / self.outcome.member.steps

    @property
    def pruned(self) -> bool:
        return self.steps < self.outcome.member.steps

    @property
    def loss(self) -> float:
        return _loss(self.outcome.curve[-1])


@dataclass(frozen=True)
class Search:
    """What decides which trials a search has; `own` are the values without a search, which it tries first."""

    space: Space
    own: Values
    sampler: str
    seed: int
    pruner: str
    budget: int  # in whole trainings: what pruning saves goes to further trials
    looks: int

    def trials(
        self, member: Callable[[Values], Member], place: Place, started: Path | None, on_trial: Callable[[Trial, bool], None]
    ) -> list[Trial]:
        """Return all trials, in their order; `member` makes a network of a proposal, which begins with the weights in `started`.

        `on_trial` is called after each of them, and told whether it was trained now.
        """
        import optuna

        study = self._study()
        space = distributions(self.space, self.own)
        made: list[Trial] = []
        spent = 0.0
        while round(spent, 6) < self.budget:
            asked = study.ask(space)
            outcome, is_new = self._outcome(asked, member(asked.params), place, started, made)
            trial = Trial(self.sampler, self.seed, asked.number, asked.params, outcome)
            if trial.pruned:
                study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(asked, trial.loss)
            made.append(trial)
            spent += trial.share
            on_trial(trial, is_new)
        return made

    def _study(self) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        samplers = optuna.samplers.RandomSampler, optuna.samplers.TPESampler
        pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
            "median": optuna.pruners.MedianPruner,
            "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=self.looks),
            "none": optuna.pruners.NopPruner,
        }
        study = optuna.create_study(
            sampler=samplers[self.sampler == TPE](seed=self.seed), pruner=pruners[self.pruner](), study_name="tune"
        )
        study.enqueue_trial({name: self.own[name] for name in self.space})
        return study

    def _outcome(
        self, asked: optuna.Trial, member: Member, place: Place, started: Path | None, before: Sequence[Trial]
    ) -> tuple[Outcome, bool]:
        """Return what a proposal came to, and whether it was trained now."""
        from darkroom.studies.trainer import train

        def stop(row: Row) -> bool:
            asked.report(_loss(row), round(self.looks * row["step"] / member.steps))
            return asked.should_prune()

        history = [version("optuna"), self.pruner, self.looks, [[trial.values, trial.outcome.curve] for trial in before]]
        file = place.file([member], hashlib.sha256(json.dumps(history, sort_keys=True).encode()).hexdigest())
        kept = recall(file, [member])
        if kept:
            for row in kept[0].curve[1:]:
                stop(row)
            return kept[0], False
        (outcome,) = train([member], place.samples[member.on], place.accelerator, started=started, stop=stop)
        remember(file, [outcome])
        return outcome, True


def _loss(row: Row) -> float:
    """Return the loss on the images by which trials are judged; a network that diverged has an infinite one."""
    return math.inf if row["val_loss"] is None else float(row["val_loss"])


def distributions(space: Space, own: Values) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return a space in Optuna's terms; a number is whole where it is so without a search."""
    from optuna import distributions as kinds

    made: dict[str, Any] = {}
    for name, declared in space.items():
        if "choices" in declared:
            made[name] = kinds.CategoricalDistribution(declared["choices"])
        else:
            is_whole = all(isinstance(value, int) for value in (own[name], declared["low"], declared["high"]))
            kind = kinds.IntDistribution if is_whole else kinds.FloatDistribution
            made[name] = kind(declared["low"], declared["high"], log=declared["log"])
    return made


def best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the lowest loss of those that were trained to their end; of equals the first."""
    return min((trial for trial in trials if not trial.pruned), key=lambda trial: trial.loss)


def importances(trials: Sequence[Trial], space: Space, own: Values) -> dict[str, float]:
    """Return how much each setting decides whether a trial is among the best, the greatest first (Watanabe et al. 2023).

    The shares add up to 1. Trials should be drawn at random; one that was pruned counts with the loss that it was pruned at.
    """
    import optuna

    study = optuna.create_study()
    for trial in trials:
        value = min(trial.loss, sys.float_info.max)
        study.add_trial(optuna.create_trial(params=trial.values, distributions=distributions(space, own), value=value))
    return optuna.importance.get_param_importances(study)


def inner(sample: Sample, share: float) -> Sample:
    """Return the training images alone, split again: the last ones, a share of them, are those by which trials are judged."""
    left = len(sample.train_labels) - max(1, round(share * len(sample.train_labels)))
    digest = hashlib.sha256(f"inner {share} of {sample.digest}".encode()).hexdigest()
    images, labels = sample.train_images, sample.train_labels
    return Sample(images[:left], labels[:left], images[left:], labels[left:], sample.classes, digest)
