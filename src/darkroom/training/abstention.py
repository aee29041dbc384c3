"""What a trained network needs for abstention: the distance from its training images, calibrated on validation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from darkroom.config.params import Compute
from darkroom.models import mahalanobis
from darkroom.models.abstention import CalibrationDistances
from darkroom.models.base import Network
from darkroom.models.mahalanobis import Mahalanobis
from darkroom.training.batches import Examples, View
from darkroom.training.devices import prepare
from darkroom.training.embedding import UpperPart

MAX_IMAGES = 2_000  # of training, and of validation: more change the distances little, and cost time
BATCH = 64
Embed = Callable[[np.ndarray], np.ndarray]  # from inputs (B, …) to embeddings (B, D) float32


def fit(embed: Embed, train: Examples, val: Examples, classes: int) -> tuple[Mahalanobis, CalibrationDistances]:
    """Return the distance from the first view of training examples, and the distances of the validation examples.

    Both are of MAX_IMAGES at most: evenly drawn ones in the order of their labels, and one of each class.
    """
    rows = _drawn(train.labels)
    distance = mahalanobis.fit(_embedded(embed, train.inputs[0], rows), train.labels[rows], classes)
    return distance, CalibrationDistances.of(distance.measure(_embedded(embed, val.inputs[0], _drawn(val.labels))))


def fit_network(
    network: Network, model: Network | UpperPart, train: Examples, val: Examples, compute: Compute
) -> CalibrationDistances:
    """Give a trained network its distance; return the distances of the validation examples.

    `model` takes the inputs of the examples: the network itself, or its upper part for feature maps.
    """
    device = prepare(compute)
    model.to(device).eval()

    def embed(inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model.embed(torch.from_numpy(inputs).to(device)).float().cpu().numpy()

    distance, distances = fit(embed, train, val, network.head.out_features)
    model.cpu()
    network.distance = distance
    return distances


def _drawn(labels: np.ndarray) -> np.ndarray:
    """Return the rows of at most about MAX_IMAGES examples, ascending."""
    order = np.argsort(labels, kind="stable")
    places = np.linspace(0, len(order) - 1, min(len(order), MAX_IMAGES)).round().astype(int)
    return np.union1d(order[places], np.unique(labels, return_index=True)[1])


def _embedded(embed: Embed, view: View, rows: np.ndarray) -> np.ndarray:
    parts = [embed(np.ascontiguousarray(view[rows[start : start + BATCH]])) for start in range(0, len(rows), BATCH)]
    return np.concatenate(parts)
