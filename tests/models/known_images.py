"""A distance for networks of tests."""

from __future__ import annotations

import numpy as np

from darkroom.config.params import Compute
from darkroom.models.abstention import CalibrationDistances
from darkroom.models.base import Network
from darkroom.training import abstention
from darkroom.training.batches import Examples

COMPUTE = Compute(seed=0, threads=1, accelerator="cpu", precision="32-true")


def fit_distance(network: Network, size: int, val: int = 60) -> CalibrationDistances:
    """Give a network the distance from dark images (S, S, 3); return the distances of others like them."""
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 100, (1, count, size, size, 3), np.uint8) for count in (60, val)]
    classes = network.head.out_features
    train, held_out = (Examples(part, np.arange(part.shape[1]) % classes) for part in parts)
    distances = abstention.fit_network(network.eval(), network, train, held_out, COMPUTE)
    assert network.distance
    return distances
