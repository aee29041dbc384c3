"""Heat maps of the most confident mistakes of a model, and of some correct predictions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from darkroom.evaluation.report import explorer
from darkroom.inference import explanation
from darkroom.models.base import Network

MISTAKES, CORRECT = 16, 8  # images


@dataclass(frozen=True)
class HeatMap:
    """Test image number `image` under its heat map for the predicted class, as a WebP file."""

    image: int
    overlay: bytes = field(repr=False)


def draw(network: Network, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> tuple[list[HeatMap], str]:
    """Return heat maps of images (N, S, S, 3), and the name of the method with its reference.

    `labels` is (N,), `probabilities` (N, C). Correct predictions are taken from each class in turn.
    """
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong, correct = np.flatnonzero(predicted != labels), np.flatnonzero(predicted == labels)
    turn = explorer.turns(labels[correct])
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    chosen = [*surest, *correct[np.lexsort((labels[correct], turn))][:CORRECT]]
    overlays, method = explanation.overlays(network, images[chosen], predicted[chosen].tolist())
    return [
        HeatMap(int(i), overlay) for i, overlay in zip(chosen, overlays, strict=True)
    ], f"{method} ({explanation.METHODS[method]})"
