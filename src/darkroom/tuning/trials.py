"""What a search tries: a trial, a phase of a search, and the rule that ends one by its time or its number of trials."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from darkroom.stages.fold_models import Fold
from darkroom.tuning.finetune_space import Step
from darkroom.tuning.heads import Embedded
from darkroom.tuning.space import Values

HEADS, FINETUNE = "heads", "finetune"  # phases


@dataclass(frozen=True)
class Trial:
    """The values of a trial, its mean log loss, and the out-of-fold probabilities (N, C) where it was not ended early.

    The log loss of a trial that diverged is infinite, and that of one that no fold has judged is NaN.
    """

    number: int
    values: Values
    log_loss: float
    folds: int
    seconds: float
    probabilities: np.ndarray | None = field(default=None, repr=False)
    is_recipe: bool = False  # has the values of params.yaml
    phase: str = HEADS
    is_late: bool = False  # the time was over

    @property
    def is_complete(self) -> bool:
        return self.probabilities is not None

    @property
    def state(self) -> str:
        """Return whether it is complete, was pruned or stopped, or diverged."""
        if self.is_complete:
            return "complete"
        return "stopped" if self.is_late else "diverged" if math.isinf(self.log_loss) else "pruned"


Tried = tuple[Trial, list[float]]  # and its mean log loss after each fold
OnTrial = Callable[[Trial], None]
Ends = Callable[[int, float], bool]
IsLate = Callable[[], bool]
Resize = Callable[[str, int], Embedded | None]
IsOver = Callable[[Sequence[Trial]], bool]


@dataclass(frozen=True)
class Phase:
    """What a part of a search tries: `recipes` have the values of params.yaml, each of `steps` changes one thing of the best values
    so far, and then the sampler proposes from `varied`.

    `values` returns the values of a trial from a proposal. `predict` returns the probabilities of the images that a fold holds out,
    and is told whether the trial may end within a fold. The sampler learns after `random_trials`, and trials may end after
    `warm_up` folds, where half of `random_trials` can be compared with. A trial stops after a fold where it `is_late`.
    """

    name: str
    backbones: Sequence[str]
    recipes: Sequence[Values]
    varied: Mapping[str, BaseDistribution]
    values: Callable[[Mapping[str, Any]], Values]
    predict: Callable[[Values, Fold, bool], np.ndarray]
    steps: Sequence[Step] = ()
    random_trials: int = 10
    warm_up: int = 1
    is_late: IsLate = lambda: False


def timed(
    seconds: float, most: int | None = None, clock: Callable[[], float] = time.monotonic
) -> Callable[[Sequence[Trial]], bool]:
    """Return a rule that ends a search when the next trial would end later than in `seconds`, or after `most` trials."""
    end = clock() + seconds

    def is_over(trials: Sequence[Trial]) -> bool:
        lengths = [trial.seconds for trial in trials[-20:]]
        return (most is not None and len(trials) >= most) or clock() + sum(lengths) / max(len(lengths), 1) > end

    return is_over
