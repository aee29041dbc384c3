"""Autoencoders against principal components."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darkroom.core.errors import ParamsError
from darkroom.lab import autoencoder


@pytest.fixture
def pixels() -> autoencoder.Pixels:
    """Return 300 images of 8 pixels a side that vary in few directions, and a little in all, 100 of them held out."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(12, 64)) * np.linspace(30, 6, 12)[:, None]
    images = 128 + rng.normal(size=(300, 12)) @ directions / 4 + rng.normal(size=(300, 64)) * 3
    images = images.clip(0, 255).round().astype(np.uint8).reshape(300, 1, 8, 8)
    return autoencoder.pixels(images[:200], images[200:])


def test_principal_components_are_the_best_linear_code(pixels):
    """More components lose less; what k components lose is the rest of the eigenvalues, which scikit-learn finds too."""
    from sklearn.decomposition import PCA

    found = autoencoder.principal(pixels.train, pixels.held, [2, 4, 8])
    assert found[2] > found[4] > found[8]
    rows = pixels.train.flatten(1).double().numpy()
    made = PCA(4).fit(rows)
    lost = ((made.inverse_transform(made.transform(rows)) - rows) ** 2).mean()
    assert found[4][0] == pytest.approx(lost, rel=1e-6)


@pytest.mark.parametrize("code", [2, 8])
def test_a_linear_autoencoder_reaches_them(pixels, code):
    """From random weights the linear autoencoder comes within 2% of PCA's error, and never below it."""
    best = autoencoder.principal(pixels.train, pixels.held, [code])[code][0]
    made = autoencoder.train("autoencoder_linear", pixels.train, code, 600, 0)
    assert best - 1e-6 <= autoencoder.errors(made, pixels.train).mean() < 1.02 * best


def test_what_is_unlike_the_rest_has_a_large_error(pixels):
    """Images unlike those to train on are kept worst."""
    made = autoencoder.train("autoencoder_linear", pixels.train, 8, 50, 0)
    odd = pixels.given(np.random.default_rng(1).integers(0, 256, (10, 1, 8, 8)).astype(np.uint8))
    assert autoencoder.errors(made, odd).min() > autoencoder.errors(made, pixels.held).max()
    assert autoencoder.codes(made, pixels.held).shape == (100, 8)


def test_shown_is_given_backwards(pixels):
    """Images as the networks take them become the same bytes again."""
    images = np.random.default_rng(2).integers(0, 256, (3, 1, 8, 8)).astype(np.uint8)
    assert (pixels.shown(pixels.given(images)) == images).all()


def test_a_code_as_long_as_the_images_is_refused():
    """With as many numbers as pixels nothing is lost, and there is nothing to compare."""
    x = torch.rand(30, 1, 3, 3)
    with pytest.raises(ParamsError, match="keeps all"):
        autoencoder.principal(x, x, [9])
