"""The networks that the lab looks into."""

from __future__ import annotations

import numpy as np

from darkroom.inference.classifier import Classifier
from darkroom.lab import networks
from darkroom.models.checkpoint import Checkpoint
from tests.lab.test_layers import PLAIN, compact


def test_probabilities_are_those_of_predict():
    """For the same image the lab has the calibrated probabilities of `predict` and of the report."""
    network = compact()
    checkpoint = Checkpoint("small", network.features.spec, PLAIN, ("ant", "bee", "fly"), {}, {}, temperature=0.1)
    classifier = Classifier(network, checkpoint)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    inspected = networks.from_classifier(classifier, "small", 0)
    assert (inspected.probabilities(images) == classifier.probabilities(images)).all()
