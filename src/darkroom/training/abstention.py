"""What a trained network needs for abstention: the distance from its training images, calibrated on validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from darkroom.config.params import Compute
from darkroom.models import engine as engines
from darkroom.models import mahalanobis
from darkroom.models.abstention import CalibrationDistances
from darkroom.models.base import Levels, Network
from darkroom.models.mahalanobis import Mahalanobis
from darkroom.training.batches import Examples, SomeView, batches
from darkroom.training.devices import prepare

MAX_IMAGES = 2_000  # of training, and of validation: more change the distances little, and cost time
Measure = Callable[[SomeView], Sequence[np.ndarray]]  # from inputs (N, …) to embeddings (N, D) and, with steps, means (N, M)


def fit(measure: Measure, train: Examples, val: Examples, classes: int, steps: int) -> tuple[Mahalanobis, CalibrationDistances]:
    """Return the distance from the first view of training examples, and the distances of the validation examples.

    Both are of MAX_IMAGES at most: evenly drawn ones in the order of their labels, and one of each class.
    """
    rows, others = _drawn(train.labels), _drawn(val.labels)
    distance = mahalanobis.fit(measure(SomeView(train.inputs[0], rows)), train.labels[rows], classes, steps)
    return distance, CalibrationDistances.of(distance.measure(*measure(SomeView(val.inputs[0], others))), steps)


def fit_network(network: Network, train: Examples, val: Examples, compute: Compute) -> CalibrationDistances:
    """Give a trained network the distance from its training images (K, N, H, W, 3) uint8; return those of validation images."""
    steps = mahalanobis.steps_of(network.features.step_count())
    levels = nn.Sequential(network.normalize, Levels(network.features, steps)).eval()
    engine = engines.select_engine(levels, train.inputs[0], prepare(compute), compute.threads)

    def measure(images: SomeView) -> Sequence[np.ndarray]:
        parts = engine.stream(images.stream(batches(len(images), engine.batch, keep_single=True)))
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    network.distance, distances = fit(measure, train, val, network.head.out_features, steps)
    network.cpu()
    return distances


def _drawn(labels: np.ndarray) -> np.ndarray:
    """Return the rows of at most about MAX_IMAGES examples, ascending."""
    order = np.argsort(labels, kind="stable")
    places = np.linspace(0, len(order) - 1, min(len(order), MAX_IMAGES)).round().astype(int)
    return np.union1d(order[places], np.unique(labels, return_index=True)[1])
