"""A check that a registered version can be loaded and predicts numbers."""

from __future__ import annotations

import numpy as np

from darkroom.core.errors import WeightsError
from darkroom.inference.classifier import Classifier
from darkroom.tracking.registry import fetch


def check(name: str, version: str) -> None:
    """Load a version and classify a black image; raise WorkspaceError or WeightsError where that fails."""
    classifier = Classifier.load(fetch(name, version) / "checkpoint")
    size = classifier.checkpoint.preprocessing.image_size
    if not np.isfinite(classifier.logits(np.zeros((1, size, size, 3), np.uint8))).all():
        raise WeightsError(f"version {version} of {name} outputs NaN or infinity", "choose another one: `darkroom models`")
