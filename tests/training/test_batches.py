"""Batches: the same batches, whether they are indexed, resident or made ahead of time."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from darkroom.augmentation import storage
from darkroom.augmentation.views import ViewGenerator
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network, Preprocessing
from darkroom.models.specs import CompactSpec
from darkroom.training.batches import BatchLoader, Examples, batches
from darkroom.training.loop import fit
from tests.training.test_loop import COMPUTE, hyper

CPU = torch.device("cpu")


def test_resident_batches_are_the_indexed_ones():
    """Examples that were copied to the device give the batches that indexing the array gives."""
    rng = np.random.default_rng(0)
    examples = Examples(rng.integers(0, 256, (2, 50, 4, 4, 3), np.uint8), rng.integers(0, 3, 50))
    indices = batches(50, 16, rng.permutation(50))
    indexed, resident = BatchLoader(examples, CPU), BatchLoader(examples, CPU, free=10**6)
    assert resident.resident
    assert not indexed.resident
    for number in range(3):
        for one, two, batch in zip(indexed.view(number, indices), resident.view(number, indices), indices, strict=True):
            assert torch.equal(one[0], two[0])
            assert torch.equal(one[1], two[1])
            assert (one[0].numpy() == examples.inputs[number % 2][batch]).all()


def test_examples_that_do_not_fit_are_not_resident():
    """Examples larger than their share of the device's memory are copied batch by batch."""
    examples = Examples(np.zeros((1, 50, 4, 4, 3), np.uint8), np.zeros(50, np.int64))
    assert not BatchLoader(examples, CPU, free=examples.inputs.nbytes).resident


@pytest.mark.slow
def test_training_on_online_views_is_training_on_stored_ones(tmp_path):
    """Views made by worker processes give bit for bit the weights that stored views give."""
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.arange(60) % 2)
    viewer = ViewGenerator("light", 16, 0)
    (tmp_path / "policy.json").write_text(json.dumps(viewer.as_dict() | {"views": 2}))
    online, labels = storage.load_views(tmp_path, 2)
    storage.write_views(tmp_path / "images.npy", viewer, 2, tmp_path / "views.npy", 1)
    stored, _ = storage.load_views(tmp_path, 2)
    states = []
    for views in (stored, online):
        network = Network(Compact(CompactSpec(16, 4)), Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3), 2)
        val = Examples(images[None], labels)
        fit(network, Examples(views, labels), val, hyper(epochs=3), COMPUTE, 2)
        states.append(network.state_dict())
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


@pytest.mark.parametrize(
    ("count", "size", "keep_single", "sizes"), [(5, 2, False, [2, 2]), (5, 2, True, [2, 2, 1]), (1, 2, False, [1])]
)
def test_a_last_batch_of_one_is_dropped_in_training(count, size, keep_single, sizes):
    """A single example has no statistics; where it is the only one it stays."""
    assert [len(batch) for batch in batches(count, size, keep_single=keep_single)] == sizes
