"""Autoencoders against principal components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from darkroom.core.errors import ParamsError
from darkroom.lab import autoencoder


@pytest.fixture(scope="module")
def images() -> autoencoder.StandardizedImages:
    """Return 300 images of 8 pixels a side that vary in few directions, and a little in all, 100 of them held
    out."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(12, 64)) * np.linspace(30, 6, 12)[:, None]
    pixels = 128 + rng.normal(size=(300, 12)) @ directions / 4 + rng.normal(size=(300, 64)) * 3
    pixels = pixels.clip(0, 255).round().astype(np.uint8).reshape(300, 1, 8, 8)
    return autoencoder.standardize(pixels[:200], pixels[200:])


def test_principal_components_are_the_best_linear_code(images):
    """More components have a smaller error, and it is that of scikit-learn's PCA."""
    errors = autoencoder.pca_errors(images.train, images.held_out, [2, 4, 8])
    assert errors[2] > errors[4] > errors[8]
    rows = images.train.flatten(1).double().numpy()
    pca = PCA(4).fit(rows)
    expected = ((pca.inverse_transform(pca.transform(rows)) - rows) ** 2).mean()
    assert errors[4][0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("code", [2, 8])
def test_a_linear_autoencoder_reaches_pca(images, code):
    """From random weights the linear autoencoder comes within 2% of PCA's error, and never below it."""
    best = autoencoder.pca_errors(images.train, images.held_out, [code])[code][0]
    model = autoencoder.train("autoencoder_linear", images.train, code, 600, 0)
    assert best - 1e-6 <= autoencoder.errors(model, images.train).mean() < 1.02 * best


def test_outliers_have_a_large_error(images):
    """Images unlike the training images have the largest errors."""
    model = autoencoder.train("autoencoder_linear", images.train, 8, 50, 0)
    outliers = images.standardize(np.random.default_rng(1).integers(0, 256, (10, 1, 8, 8)).astype(np.uint8))
    assert autoencoder.errors(model, outliers).min() > autoencoder.errors(model, images.held_out).max()
    assert autoencoder.codes(model, images.held_out).shape == (100, 8)


def test_pixels_survive_standardization(images):
    """Standardized images become the same bytes again."""
    pixels = np.random.default_rng(2).integers(0, 256, (3, 1, 8, 8)).astype(np.uint8)
    assert (images.to_pixels(images.standardize(pixels)) == pixels).all()


def test_a_code_as_long_as_the_images_is_refused():
    """A code with as many numbers as pixels has no error to compare."""
    x = torch.rand(30, 1, 3, 3)
    with pytest.raises(ParamsError, match="9"):
        autoencoder.pca_errors(x, x, [9])


@pytest.mark.slow
def test_a_denoising_autoencoder_removes_noise(images):
    """Trained on noisy images, it comes nearer to those without noise than an autoencoder that was not; each repeats bit by bit."""
    plain, denoising = (autoencoder.train("autoencoder_linear", images.train, 12, 200, 0, noise) for noise in (0.0, 1.0))
    denoised = autoencoder.denoise(images, plain, denoising, 12, 1.0)
    assert denoised.errors["with noise"] == pytest.approx(1.0, rel=0.1)
    assert denoised.errors["denoising autoencoder"] < denoised.errors["autoencoder"] < denoised.errors["with noise"]
    again = autoencoder.denoise(images, plain, denoising, 12, 1.0)
    assert again.errors == denoised.errors


def test_interpolation_begins_and_ends_with_the_images(images):
    """The first and last of the images between two are the two themselves, in pixels, and their reconstructions."""
    model = autoencoder.train("autoencoder_linear", images.train, 8, 5, 0)
    first, last = images.held_out[:2]
    pixels, decoded = autoencoder.interpolate(model, first, last, 5)
    assert pixels.shape == decoded.shape == (5, *first.shape)
    for part, ends in ((pixels, images.held_out[:2]), (decoded, autoencoder.reconstruct(model, images.held_out[:2]))):
        torch.testing.assert_close(part[[0, -1]], ends)


def test_without_relu_an_autoencoder_is_linear(images):
    """Codes and outputs of a sum of images are the sums of theirs, up to what black has; with ReLU they are not."""
    x, y = images.held_out[:20], images.held_out[20:40]
    black = torch.zeros_like(x)
    gaps = {}
    for relu in (True, False):
        model = autoencoder.train("autoencoder_conv", images.train, 8, 1, 0, relu=relu)
        with torch.no_grad():
            gap = model(x + y) - model(x) - model(y) + model(black)
        gaps[relu] = float(gap.abs().max())
    assert gaps[False] < 1e-4 < 1e-2 < gaps[True]
