"""A distance for networks of tests."""

from __future__ import annotations

import numpy as np

from darkroom.config.params import Compute
from darkroom.models.abstention import CalibrationDistances
from darkroom.models.base import Network
from darkroom.training import abstention
from darkroom.training.batches import Examples

COMPUTE = Compute(seed=0, threads=1, accelerator="cpu", precision="32-true")


def fit_dark(network: Network, size: int) -> CalibrationDistances:
    """Give a network the distance from dark images (S, S, 3); return the distances of others like them."""
    images = np.random.default_rng(0).integers(0, 100, (120, size, size, 3), np.uint8)
    return fit_distance(network, images[:60], images[60:])


def fit_distance(network: Network, train: np.ndarray, val: np.ndarray) -> CalibrationDistances:
    """Give a network the distance from images (N, S, S, 3) uint8; return the distances of others."""
    classes = network.head.out_features
    examples = (Examples(part[None], np.arange(len(part)) % classes) for part in (train, val))
    distances = abstention.fit_network(network.eval(), *examples, COMPUTE)
    assert network.distance
    return distances
