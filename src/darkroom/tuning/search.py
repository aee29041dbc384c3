"""The search: steps and Optuna's TPE propose, heads or networks are trained on folds, and those that fall behind end early.

A search is a function of its images, settings and seed. Its state is not stored: what each fold predicts is kept, so a search that
was stopped repeats its proposals and goes on with the first one that is not kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import optuna
from optuna import pruners, samplers
from optuna.trial import TrialState

from darkroom.core.errors import ParamsError
from darkroom.evaluation import selection_bias
from darkroom.evaluation.selection_bias import Gain
from darkroom.stages.fold_models import Fold
from darkroom.tuning import finetune_space, space
from darkroom.tuning.fine_tuning import EndedEarlyError, FineTuning
from darkroom.tuning.heads import Embedded, Pool
from darkroom.tuning.space import BACKBONE, SIZE, Values, within
from darkroom.tuning.trials import FINETUNE, HEADS, Ends, IsLate, IsOver, OnTrial, Phase, Resize, Trial, Tried

FINALISTS = 2  # backbones that are fine-tuned, those with the best heads


@dataclass
class Search:
    """A search over the images of a pool; `trials` are those so far, whatever ends it.

    `embedded` has the backbones that are tried, by name, and those of params.yaml, at the size of params.yaml; `candidates` are the
    names of the first. `resized` has embeddings at other sizes by name and size, and `sizes` the size of each backbone that is
    better than smaller ones.
    """

    pool: Pool
    embedded: Mapping[str, Embedded]
    candidates: Sequence[str]
    seed: int = 0
    sampler: Literal["tpe", "random"] = "tpe"
    is_pruning: bool = True
    trials: list[Trial] = field(default_factory=list)
    resized: dict[tuple[str, int], Embedded] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def run(self, is_over: IsOver, on_trial: OnTrial = lambda trial: None, resize: Resize | None = None) -> None:
        """Try heads with the values of params.yaml: of each of its backbones, of each other candidate, and of the best ones at
        larger sizes; then proposals until `is_over` of all trials.

        `resize` returns the embeddings of a backbone at a larger size, or None where that is too slow. A KeyboardInterrupt leaves
        the trials that are done.
        """
        phase = self.heads()
        study = self._create_study(phase, self._try_recipes(phase, on_trial))
        if not any(trial.is_complete for trial in self.trials):
            raise ParamsError("training a head with the settings of params.yaml diverges", "lower `transfer.lr`")
        for name in self.candidates:
            if name not in {trial.values[BACKBONE] for trial in self.trials} and not is_over(self.trials):
                self._try_head(phase, study, space.recipe(self.pool.settings, name), on_trial)
        if resize:
            self._try_sizes(phase, study, resize, is_over, on_trial)
        self._propose(phase, study, is_over, on_trial)

    def heads(self) -> Phase:
        """Return the phase of heads."""
        settings = self.pool.settings

        def values(proposal: Mapping[str, Any]) -> Values:
            proposed = space.proposed(proposal, settings, self.candidates[0])
            return proposed | {SIZE: self.sizes.get(proposed[BACKBONE], settings.ingest.image_size)}

        recipes = [space.recipe(settings, name) for name in settings.backbones or self.candidates[:1]]
        varied = space.space(settings, self.candidates, self.pool.labels)
        return Phase(HEADS, self.candidates, recipes, varied, values, self._predict_by_head)

    def _predict_by_head(self, values: Values, fold: Fold, may_end: bool) -> np.ndarray:
        name = values[BACKBONE]
        return self.pool.predict(values, self.resized.get((name, values[SIZE]), self.embedded[name]), fold)

    def _try_sizes(self, phase: Phase, study: optuna.Study, resize: Resize, is_over: IsOver, on_trial: OnTrial) -> None:
        """Try the candidates with the best heads at larger sizes, as long as that is better than the size before."""
        settings = self.pool.settings
        for name in self.finalists():
            for size in space.larger_sizes(settings, len(self.pool.labels)):
                if is_over(self.trials):
                    return
                embedded = resize(name, size)
                if embedded is None:
                    break
                self.resized[name, size] = embedded
                before = [trial.log_loss for trial in self.trials if trial.is_complete and trial.values[BACKBONE] == name]
                trial = self._try_head(phase, study, space.recipe(settings, name) | {SIZE: size}, on_trial)
                if before and not trial.log_loss < min(before):
                    break
                self.sizes[name] = size

    def _try_head(self, phase: Phase, study: optuna.Study, values: Values, on_trial: OnTrial) -> Trial:
        """Try values that the study has not proposed, and tell it of them."""
        trial, losses = self._train(phase, values, _never)
        _tell(study, phase, trial, losses)
        self._add(trial, on_trial)
        return trial

    def fine_tune(
        self, tuner: FineTuning, is_over: IsOver, on_trial: OnTrial = lambda trial: None, is_late: IsLate = lambda: False,
        seconds: float = math.inf,
    ) -> None:  # fmt: skip
        """Try fine-tuning: as params.yaml does with each of its backbones, then steps and proposals until `is_over` of the trials
        of this phase.

        Steps begin with the backbone that has the best head. A trial stops after a fold where it `is_late`. Larger images are
        tried where a trial with them takes at most half of the `seconds` that there are.
        """
        count = len(self.trials)
        recipes = self._try_recipes(self.finetuning(tuner, {}, is_late), on_trial)
        if all(trial.is_complete for trial in self.trials[count:]):
            sizes = {name: self._affordable_size(name, tuner, seconds) for name in self.finalists()}
            phase = self.finetuning(tuner, sizes, is_late)
            self._propose(phase, self._create_study(phase, recipes), lambda trials: is_over(trials[count:]), on_trial)

    def _affordable_size(self, name: str, tuner: FineTuning, seconds: float) -> int:
        """Return the largest size at which heads are better than at smaller ones, and a trial takes at most half of the seconds."""
        own, trial = self.pool.settings.ingest.image_size, len(self.pool.folds) * float(np.mean(tuner.seconds))
        sizes = [size for other, size in self.resized if other == name and size <= self.sizes.get(name, own)]
        return max([own, *(size for size in sizes if (size / own) ** 2 * trial <= seconds / 2)])

    def finetuning(self, tuner: FineTuning, larger: Mapping[str, int], is_late: IsLate = lambda: False) -> Phase:
        """Return the phase of fine-tuning; `larger` has the larger size of a backbone that is tried, too."""
        settings = self.pool.settings
        names, own = self.finalists(), settings.ingest.image_size
        sizes = list(dict.fromkeys([own, *(larger.get(name, own) for name in names)]))

        def values(proposal: Mapping[str, Any]) -> Values:
            proposed = finetune_space.proposed(proposal, settings, names[0])
            name = proposed[BACKBONE] if proposed[BACKBONE] in names else names[0]
            size = proposed[SIZE] if proposed[SIZE] == larger.get(name) else own
            return proposed | {BACKBONE: name, SIZE: size}

        return Phase(
            FINETUNE, names, [finetune_space.recipe(settings, name) for name in settings.backbones or names[:1]],
            finetune_space.space(settings, names, sizes, self.pool.labels), values, tuner.predict,
            finetune_space.steps(settings, names, sizes) if self.sampler == "tpe" else (),
            random_trials=4, warm_up=0, is_late=is_late,
        )  # fmt: skip

    def finalists(self) -> list[str]:
        """Return the candidates with the best heads, the best one first."""
        best: dict[str, float] = {}
        for trial in self.trials:
            name = trial.values[BACKBONE]
            if trial.phase == HEADS and trial.is_complete and name in self.candidates:
                best[name] = min(trial.log_loss, best.get(name, math.inf))
        return sorted(best, key=lambda name: best[name])[:FINALISTS] or list(self.candidates[:1])

    def _try_recipes(self, phase: Phase, on_trial: OnTrial) -> list[Tried]:
        """Try the values of params.yaml, which never end early; return their trials and losses."""
        tried = []
        for values in phase.recipes:
            tried.append(self._train(phase, values, _never, is_recipe=True))
            self._add(tried[-1][0], on_trial)
        return tried

    def _propose(self, phase: Phase, study: optuna.Study, is_over: IsOver, on_trial: OnTrial) -> None:
        """Try steps from the best values, then what the sampler proposes."""
        steps, tried = list(phase.steps), [trial.values for trial in self.trials]
        while not is_over(self.trials) and phase.varied:
            while steps:
                values = phase.values(steps.pop(0)(self.best(phase.name).values))
                if values not in tried:
                    study.enqueue_trial(within(values, phase.varied))
                    break
            proposal = study.ask(dict(phase.varied))
            values = phase.values(proposal.params)
            trial, _ = self._train(phase, values, _ends(proposal) if self.is_pruning else _never)
            if trial.is_complete:
                study.tell(proposal, trial.log_loss)
            else:
                study.tell(proposal, state=TrialState.PRUNED)
            tried.append(values)
            self._add(trial, on_trial)

    def _create_study(self, phase: Phase, tried: Sequence[Tried]) -> optuna.Study:
        """Return a study that knows the trials that it has not proposed."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        random, tpe = samplers.RandomSampler, samplers.TPESampler
        sampler = tpe(seed=self.seed, n_startup_trials=phase.random_trials) if self.sampler == "tpe" else random(seed=self.seed)
        pruner = pruners.MedianPruner(n_startup_trials=phase.random_trials // 2, n_warmup_steps=phase.warm_up)
        study = optuna.create_study(sampler=sampler, pruner=pruner)
        for trial, losses in tried:
            _tell(study, phase, trial, losses)
        return study

    def _add(self, trial: Trial, on_trial: OnTrial) -> None:
        self.trials.append(trial)
        on_trial(trial)

    def _train(self, phase: Phase, values: Values, ends: Ends, is_recipe: bool = False) -> Tried:
        """Return a trial, and its mean log loss after each fold; `ends` is told both after each."""
        pool, started = self.pool, time.monotonic()
        probabilities = np.zeros((len(pool.labels), pool.classes))
        losses: list[float] = []
        total = count = 0.0

        def trial(loss: float, predicted: np.ndarray | None = None, is_late: bool = False) -> Tried:
            seconds = time.monotonic() - started
            number = len(self.trials)
            return Trial(number, values, loss, len(losses), seconds, predicted, is_recipe, phase.name, is_late), losses

        for fold in pool.folds:
            try:
                predicted = phase.predict(values, fold, ends is not _never)
            except EndedEarlyError:
                return trial(math.nan)
            except ParamsError:  # the loss is no number
                return trial(math.inf)
            probabilities[fold.held_out] = predicted
            total += float(selection_bias.log_losses(predicted, pool.labels[fold.held_out]).sum())
            count += len(fold.held_out)
            losses.append(total / count)
            if fold is pool.folds[-1]:
                break
            if ends(len(losses), losses[-1]):
                return trial(losses[-1])
            if phase.is_late():
                return trial(losses[-1], is_late=True)
        return trial(losses[-1], probabilities)

    def best(self, phase: str = "") -> Trial:
        """Return the complete trial of a candidate with the lowest log loss, of equal ones the first; of all phases or of one."""
        return min(self._selectable(phase), key=lambda trial: trial.log_loss)

    def reference(self) -> Trial:
        """Return the best trial with the values of params.yaml."""
        return min((trial for trial in self.trials if trial.is_recipe and trial.is_complete), key=lambda trial: trial.log_loss)

    def _selectable(self, phase: str = "") -> list[Trial]:
        """Return the trials that may be chosen; where none may, those of params.yaml."""
        complete = [trial for trial in self.trials if trial.is_complete and phase in ("", trial.phase)]
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


def _never(fold: int, loss: float) -> bool:
    """Let a trial go on."""
    return False


def _ends(proposal: optuna.Trial) -> Ends:
    """Return a function that tells the pruner of a fold, and returns its decision."""

    def ends(fold: int, loss: float) -> bool:
        proposal.report(loss, fold)
        return proposal.should_prune()

    return ends


def _tell(study: optuna.Study, phase: Phase, trial: Trial, losses: Sequence[float]) -> None:
    """Tell a study of a trial that it has not proposed, where it could have."""
    if trial.is_complete and trial.values[BACKBONE] in phase.backbones:
        study.add_trial(
            optuna.trial.create_trial(
                params=within(trial.values, phase.varied), distributions=dict(phase.varied), value=trial.log_loss,
                intermediate_values=dict(enumerate(losses, 1)),
            )
        )  # fmt: skip
