"""The settings of a head that a search varies, each by its key in params.yaml, and their ranges; sizes of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from darkroom.config.params import Params, Transfer
from darkroom.stages import augment

BACKBONE, VIEWS, SIZE = "backbone", "augment.views", "ingest.image_size"
CLASS_WEIGHTS = "transfer.class_weights"
DIGITS = 2  # of a number that is proposed, so that what is tried is what a person would write
LARGER = (1.4, 2.0)  # sizes that are tried, of that in params.yaml
STRIDE, MOST_PIXELS = 32, 1024  # of networks, to whose multiples sizes are rounded up; a side
MOST_BYTES = 2**30  # of the images at a larger size
IMBALANCED = 1.5  # images of the largest class for one of the smallest, above which class weights are tried

Values = dict[str, Any]


def views_used(settings: Params) -> int:
    """Return how many views of an image training a head uses: epoch e sees view e mod `augment.views`."""
    return min(augment.view_count(settings.augment), settings.transfer.epochs)


def is_imbalanced(labels: np.ndarray) -> bool:
    """Tell whether classes differ so much in size that class weights are worth a trial."""
    counts = np.bincount(labels)
    return bool(counts.max() > IMBALANCED * counts[counts > 0].min())


def space(settings: Params, backbones: Sequence[str], labels: np.ndarray) -> dict[str, BaseDistribution]:
    """Return the distribution of each setting that is varied, for training and validation labels (N,) int."""
    hyper, views = settings.transfer, views_used(settings)
    # with fewer views than `augment.views` has, later epochs would see others than those that were embedded
    epochs = hyper.epochs if augment.view_count(settings.augment) > views else 2 * hyper.epochs
    varied: dict[str, BaseDistribution] = {
        BACKBONE: CategoricalDistribution(list(backbones)),
        "transfer.lr": FloatDistribution(min(3e-4, hyper.lr), max(3e-2, hyper.lr), log=True),
        "transfer.weight_decay": FloatDistribution(1e-4, max(3.0, hyper.weight_decay), log=True),
        "transfer.label_smoothing": FloatDistribution(0.0, max(0.2, hyper.label_smoothing)),
        "transfer.epochs": IntDistribution(min(5, hyper.epochs), epochs, log=True),
        VIEWS: CategoricalDistribution(sorted({views, *(2**power for power in range(8) if 2**power < views)})),
    }
    if is_imbalanced(labels) or hyper.class_weights != "none":
        varied[CLASS_WEIGHTS] = CategoricalDistribution(["none", "balanced"])
    return {name: item for name, item in varied.items() if not item.single()}


def recipe(settings: Params, backbone: str) -> Values:
    """Return the values that params.yaml has, with a backbone."""
    keys = ("lr", "weight_decay", "label_smoothing", "epochs", "class_weights")
    own = {f"transfer.{key}": getattr(settings.transfer, key) for key in keys}
    return {BACKBONE: backbone, **own, VIEWS: views_used(settings), SIZE: settings.ingest.image_size}


def larger_sizes(settings: Params, images: int) -> list[int]:
    """Return the larger sizes that are worth a trial, of so many images; a backbone that is trained here has one size."""
    if settings.weights.source == "pretrain":
        return []
    own = settings.ingest.image_size
    sizes = [STRIDE * math.ceil(factor * own / STRIDE) for factor in LARGER]
    return [size for size in dict.fromkeys(sizes) if own < size <= MOST_PIXELS and 3 * size**2 * images <= MOST_BYTES]


def proposed(values: Mapping[str, Any], settings: Params, backbone: str) -> Values:
    """Return all values of a trial: those that a search proposes, rounded, and for the others those of params.yaml."""
    return recipe(settings, backbone) | rounded(values)


def rounded(values: Mapping[str, Any]) -> Values:
    """Return values, numbers with `DIGITS` digits."""
    return {key: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for key, value in values.items()}


def within(values: Values, varied: Mapping[str, BaseDistribution]) -> Values:
    """Return the values of the settings that are varied, numbers moved into their ranges."""
    result: Values = {}
    for name, item in varied.items():
        value = values[name]
        if isinstance(item, FloatDistribution | IntDistribution):
            value = min(max(value, item.low), item.high)
        result[name] = value
    return result


def hyper_of(values: Values, settings: Params) -> Transfer:
    """Return the settings of a head by the values of a trial."""
    own = {key.removeprefix("transfer."): value for key, value in values.items() if key.startswith("transfer.")}
    return settings.transfer.model_copy(update=own)


def requested(values: Values, before: Values, is_backbone_kept: bool) -> Values:
    """Return what params.yaml would have to hold for a trial, by key, where it has the values `before`; `backbones` only where they
    do not have its backbone.
    """
    changed = {key: value for key, value in values.items() if key != BACKBONE and value != before[key]}
    return ({} if is_backbone_kept else {"backbones": [values[BACKBONE]]}) | changed
