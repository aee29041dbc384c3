"""Test-time augmentation: which views there are, and that a prediction is the mean over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darkroom.core.errors import ParamsError
from darkroom.inference import tta

rng = np.random.default_rng(0)


def test_views_are_crops_and_mirror_images():
    """Unchanged, then five crops that show less of the image, each also mirrored if that is allowed; the mean
    is over all."""
    images = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    counts = {(crops, mirror): len(list(tta.views(images, crops, mirror))) for crops in (False, True) for mirror in (False, True)}
    assert counts == {(False, False): 1, (False, True): 2, (True, False): 6, (True, True): 12}
    views = list(tta.views(images, True, True))
    assert np.array_equal(views[0], images)
    assert np.array_equal(views[1], images[:, :, ::-1])
    assert all(view.shape == images.shape for view in views)
    mean, count = tta.average_views(lambda view: view.reshape(2, -1).mean(1, keepdims=True) / 255, images, True, True)
    assert count == 12
    assert np.allclose(mean[:, 0], np.mean([view.reshape(2, -1).mean(1) / 255 for view in views], 0))
    assert len(list(tta.views(images[:, :2, :2], True, False))) == 1  # too small to crop


def test_views_are_made_in_batches():
    """Of any number of images, views of `BATCH` are in memory, progress is reported, and each image has its
    own mean."""
    images, sizes, done = rng.integers(0, 256, (600, 8, 8, 3), np.uint8), [], []

    def predict(view):
        sizes.append(len(view))
        return view.reshape(len(view), -1).mean(1, keepdims=True)

    mean, _ = tta.average_views(predict, images, True, True, done.append)
    assert max(sizes) == max(done) == tta.BATCH
    assert sum(done) == 600
    expected = np.mean([view.reshape(600, -1).mean(1, keepdims=True) for view in tta.views(images, True, True)], 0)
    assert np.allclose(mean, expected)


def test_modes_of_tensors():
    """Crops have the size of the image; mirroring the input does not change `mirrored`; probabilities have
    the sum 1."""
    images = torch.rand(3, 1, 8, 8)
    assert {name: len(mode(images)) for name, mode in tta.TTA_MODES.items()} == tta.VIEW_COUNTS
    assert all(view.shape == images.shape for mode in tta.TTA_MODES.values() for view in mode(images))
    assert torch.equal(tta.center_crop(images)[0], tta.five_crops(images)[-1])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    one, two = (tta.predict_modes(network, batch.split(2), ["mirrored", "plain"]) for batch in (images, images.flip(3)))
    np.testing.assert_allclose(one["mirrored"], two["mirrored"], atol=2e-6)
    assert np.abs(np.array(one["plain"]) - two["plain"]).max() > 1e-3
    np.testing.assert_allclose(np.sum(one["mirrored"], 1), 1, atol=1e-5)
    with pytest.raises(ParamsError, match="plain"):
        tta.check_mode("plan")
