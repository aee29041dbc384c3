"""The settings of fine-tuning that a search varies, each by its key in params.yaml: their ranges, and what is tried first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from darkroom.augmentation import policies
from darkroom.config.params import Params
from darkroom.stages import augment
from darkroom.tuning.space import BACKBONE, SIZE, Values, is_imbalanced, rounded

POLICY = "augment.policy"
SECTION = "finetune"
UNFREEZE, LR, DECAY, EPOCHS = f"{SECTION}.unfreeze", f"{SECTION}.lr", f"{SECTION}.lr_decay", f"{SECTION}.epochs"
WEIGHT_DECAY, SMOOTHING, CLASS_WEIGHTS = f"{SECTION}.weight_decay", f"{SECTION}.label_smoothing", f"{SECTION}.class_weights"
KEYS = (UNFREEZE, LR, DECAY, WEIGHT_DECAY, SMOOTHING, EPOCHS, CLASS_WEIGHTS)
MIRRORED, PLAIN = ("light", "standard", "strong"), ("none", "shifted")  # policies by their strength
LONGER, FASTER = 1.5, 3.0  # epochs at most, of those of params.yaml; the rate at most and, as a divisor, at least

Step = Callable[[Values], Values]


def recipe(settings: Params, backbone: str) -> Values:
    """Return the values that params.yaml has, with a backbone."""
    own = {key: getattr(settings.finetune, key.removeprefix(f"{SECTION}.")) for key in KEYS}
    return {BACKBONE: backbone, **own, POLICY: settings.augment.policy, SIZE: settings.ingest.image_size}


def most_epochs(settings: Params) -> int:
    """Return the largest number of epochs that a trial has."""
    return max(2, round(LONGER * settings.finetune.epochs))


def views_used(settings: Params) -> int:
    """Return how many views of an image a trial uses: epoch e sees view e mod `augment.views`."""
    return min(augment.view_count(settings.augment), max(most_epochs(settings), settings.transfer.epochs))


def policy_choices(policy: str) -> list[str]:
    """Return the policies that keep what a policy keeps: mirror images are tried only where it mirrors."""
    similar = MIRRORED if policies.mirrors(policy) else PLAIN
    return list(dict.fromkeys([policy, *similar]))


def unfreeze_choices(amount: float) -> list[float]:
    """Return half, all and twice of a number of blocks, or of a share of them below 1."""
    if amount < 1:
        return sorted({amount, *(rounded({"": share})[""] for share in (amount / 2, min(2 * amount, 0.99)))})
    return sorted({int(amount), max(1, int(amount // 2)), int(2 * amount)})


def space(settings: Params, backbones: Sequence[str], sizes: Sequence[int], labels: np.ndarray) -> dict[str, BaseDistribution]:
    """Return the distribution of each setting that is varied, for training and validation labels (N,) int."""
    hyper = settings.finetune
    varied: dict[str, BaseDistribution] = {
        BACKBONE: CategoricalDistribution(list(backbones)),
        SIZE: CategoricalDistribution(list(sizes)),
        POLICY: CategoricalDistribution(policy_choices(settings.augment.policy)),
        UNFREEZE: CategoricalDistribution(unfreeze_choices(hyper.unfreeze)),
        LR: FloatDistribution(hyper.lr / FASTER, hyper.lr * FASTER, log=True),
        DECAY: FloatDistribution(min(0.5, hyper.lr_decay), 1.0),
        WEIGHT_DECAY: FloatDistribution(1e-4, max(0.3, hyper.weight_decay), log=True),
        SMOOTHING: FloatDistribution(0.0, max(0.2, hyper.label_smoothing)),
        EPOCHS: IntDistribution(min(4, hyper.epochs), most_epochs(settings), log=True),
    }
    if is_imbalanced(labels) or hyper.class_weights != "none":
        varied[CLASS_WEIGHTS] = CategoricalDistribution(["none", "balanced"])
    return {name: item for name, item in varied.items() if not item.single()}


def proposed(values: Mapping[str, Any], settings: Params, backbone: str) -> Values:
    """Return all values of a trial: those that a search proposes, rounded, and for the others those of params.yaml."""
    return recipe(settings, backbone) | rounded(values)


def steps(settings: Params, backbones: Sequence[str], sizes: Sequence[int]) -> list[Step]:
    """Return changes of one thing each, of the best values so far, in the order in which they are tried."""
    hyper = settings.finetune
    choices = unfreeze_choices(hyper.unfreeze)
    most = {LR: hyper.lr * FASTER, EPOCHS: most_epochs(settings)}
    own = settings.augment.policy
    return [
        *(partial(_set, SIZE, size) for size in sizes[1:]),
        partial(_move, UNFREEZE, choices, 1),
        partial(_scale, LR, 2.0, most),
        *(partial(_set, POLICY, policy) for policy in policy_choices(own)[:0:-1]),
        partial(_scale, EPOCHS, LONGER, most),
        partial(_scale, LR, 0.5, most),
        *(partial(_set, BACKBONE, name) for name in backbones[1:]),
        partial(_move, UNFREEZE, choices, -1),
    ]  # fmt: skip


def _set(key: str, value: Any, values: Values) -> Values:
    return values | {key: value}


def _move(key: str, choices: Sequence[Any], by: int, values: Values) -> Values:
    """Return values with the next of the choices, or the last one."""
    place = choices.index(values[key]) if values[key] in choices else 0
    return values | {key: choices[min(max(place + by, 0), len(choices) - 1)]}


def _scale(key: str, factor: float, most: Mapping[str, float], values: Values) -> Values:
    """Return values with a number multiplied, up to the most that it may be."""
    value = min(values[key] * factor, most[key])
    return values | {key: round(value) if isinstance(values[key], int) else value}


def settings_of(values: Values, settings: Params) -> Params:
    """Return params with the values of a trial."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        if name:
            sections.setdefault(section, {})[name] = value
    return settings.model_copy(
        update={section: getattr(settings, section).model_copy(update=changes) for section, changes in sections.items()}
    )
