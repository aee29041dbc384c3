"""A search of a declared space: Optuna proposes, runs are trained, a pruner ends unpromising ones.

A search is a function of its settings, its seed and the images. Its state is not stored: each trial is cached
under all trials before it, so a search that was stopped repeats its proposals and continues with the first
one that is not cached.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from optuna import distributions, pruners, samplers

from darkroom.studies import cache
from darkroom.studies.cache import ResultCache
from darkroom.studies.run_config import CurvePoint, RunConfig, RunResult
from darkroom.studies.trainer import train

RANDOM, TPE = "random search", "TPE"
Values = dict[str, Any]  # by setting of the space
Space = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Trial:
    """A proposal and its result, whose curve ends early if the trial was pruned."""

    sampler: str
    seed: int
    number: int
    values: Values
    result: RunResult = field(repr=False)

    @property
    def steps(self) -> int:
        return self.result.curve[-1].step

    @property
    def cost(self) -> float:
        """The cost as a share of a whole training."""
        return self.steps / self.result.config.steps

    @property
    def is_pruned(self) -> bool:
        return self.steps < self.result.config.steps

    @property
    def state(self) -> str:
        return "pruned" if self.is_pruned else "complete"

    @property
    def loss(self) -> float:
        return _loss(self.result.curve[-1])


@dataclass(frozen=True)
class Search:
    """What decides the trials of a search. `defaults` are the values without a search, which it tries first."""

    space: Space
    defaults: Values
    sampler: str
    seed: int
    pruner: str
    budget: int  # in whole trainings: what pruning saves is spent on further trials
    eval_points: int

    def run(
        self, configure: Callable[[Values], RunConfig], results: ResultCache, initial: Path | None,
        on_trial: Callable[[Trial, bool], None],
    ) -> list[Trial]:  # fmt: skip
        """Return all trials, in order.

        `configure` makes a run of a proposal, `initial` is the file of its initial weights. `on_trial` is
        called after each trial, with whether it was trained now.
        """
        study = self._create_study()
        space = optuna_space(self.space, self.defaults)
        trials: list[Trial] = []
        spent = 0.0
        while round(spent, 6) < self.budget:
            proposal = study.ask(space)
            result, is_new = self._train(proposal, configure(proposal.params), results, initial, trials)
            trial = Trial(self.sampler, self.seed, proposal.number, proposal.params, result)
            if trial.is_pruned:
                study.tell(proposal, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(proposal, trial.loss)
            trials.append(trial)
            spent += trial.cost
            on_trial(trial, is_new)
        return trials

    def _create_study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = (samplers.TPESampler if self.sampler == TPE else samplers.RandomSampler)(seed=self.seed)
        create_pruner: dict[str, Callable[[], pruners.BasePruner]] = {
            "median": pruners.MedianPruner, "none": pruners.NopPruner,
            "hyperband": lambda: pruners.HyperbandPruner(min_resource=1, max_resource=self.eval_points),
        }  # fmt: skip
        study = optuna.create_study(sampler=sampler, pruner=create_pruner[self.pruner](), study_name="tune")
        study.enqueue_trial({name: self.defaults[name] for name in self.space})
        return study

    def _train(
        self, proposal: optuna.Trial, config: RunConfig, results: ResultCache, initial: Path | None, before: Sequence[Trial]
    ) -> tuple[RunResult, bool]:  # fmt: skip
        """Return the result of a proposal, and whether it was trained now."""

        def stop(point: CurvePoint) -> bool:
            proposal.report(_loss(point), round(self.eval_points * point.step / config.steps))
            return proposal.should_prune()

        history = [[trial.values, [asdict(point) for point in trial.result.curve]] for trial in before]
        content = json.dumps([version("optuna"), self.pruner, self.eval_points, history], sort_keys=True)
        file = results.file([config], hashlib.sha256(content.encode()).hexdigest())
        cached = cache.read(file, [config])
        if cached:
            for point in cached[0].curve[1:]:
                stop(point)
            return cached[0], False
        (result,) = train([config], results.samples[config.sample], results.accelerator, initial=initial, stop=stop)
        cache.write(file, [result])
        return result, True


def _loss(point: CurvePoint) -> float:
    """Return the loss by which trials are judged; infinity if the network diverged."""
    return math.inf if point.val_loss is None else point.val_loss


def optuna_space(space: Space, defaults: Values) -> dict[str, distributions.BaseDistribution]:
    """Return a space as Optuna's distributions; a number is an integer if its default and both ends are."""
    result: dict[str, distributions.BaseDistribution] = {}
    for name, declared in space.items():
        if "choices" in declared:
            result[name] = distributions.CategoricalDistribution(declared["choices"])
        else:
            numbers = (defaults[name], declared["low"], declared["high"])
            is_integer = all(isinstance(number, int) for number in numbers)
            kind: Any = distributions.IntDistribution if is_integer else distributions.FloatDistribution
            result[name] = kind(declared["low"], declared["high"], log=declared["log"])
    return result


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the lowest loss of those that were trained to their end; of equals the first."""
    return min((trial for trial in trials if not trial.is_pruned), key=lambda trial: trial.loss)


def importances(trials: Sequence[Trial], space: Space, defaults: Values) -> dict[str, float]:
    """Return the importance of each setting by PED-ANOVA, the greatest first (Watanabe et al. 2023).

    The shares add up to 1. Trials should be drawn at random; a pruned one counts with its last loss.
    """
    study = optuna.create_study()
    for trial in trials:
        value = min(trial.loss, sys.float_info.max)
        study.add_trial(optuna.create_trial(params=trial.values, distributions=optuna_space(space, defaults), value=value))
    return optuna.importance.get_param_importances(study)
