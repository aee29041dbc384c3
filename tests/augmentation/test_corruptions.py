"""Common corruptions: the same for the same image, stronger with severity, for small and large images."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.augmentation.corruptions import CORRUPTIONS, LARGE, SEVERITIES, SMALL, corrupt
from darkroom.augmentation.policies import mirrors


def photographs(size: int, count: int = 4) -> np.ndarray:
    """Return images with edges, shades and colours (N, S, S, 3) uint8."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:size, 0:size] / size
    pictures = []
    for _ in range(count):
        a, b, c = rng.random(3)
        waves = np.stack([np.sin(6 * (a * rows + b * columns) + shift) for shift in (0, 1, 2)], -1)
        disc = ((rows - a) ** 2 + (columns - b) ** 2 < 0.04 + 0.06 * c)[..., None]
        pictures.append(np.where(disc, 200 * rng.random(3) + 30, 110 + 70 * waves))
    return np.stack(pictures).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_decided_by_the_image_and_the_seed(name):
    """An image comes out the same whatever is corrupted before it and however often; shape and type stay."""
    images = photographs(32)
    for severity in (1, 5):
        corrupted = corrupt(images, name, severity, 0)
        assert corrupted.shape == images.shape
        assert corrupted.dtype == np.uint8
        assert not np.array_equal(corrupted, images)
        assert np.array_equal(corrupt(images[::-1], name, severity, 0)[::-1], corrupted)
    if name.endswith("noise"):
        assert not np.array_equal(corrupt(images, name, 5, 1), corrupt(images, name, 5, 0))


@pytest.mark.parametrize("size", [SMALL, 96, LARGE])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_move_images_further_and_further(name, size):
    """The mildest severity changes pixels least, within a tenth, and the hardest most."""
    images = photographs(size)
    moved = [np.abs(corrupt(images, name, severity, 0).astype(float) - images).mean() for severity in range(1, SEVERITIES + 1)]
    assert moved[0] < 1.1 * min(moved)
    assert moved[-1] == max(moved) > 1.15 * moved[0]


def test_strengths_lie_between_those_of_small_and_large_images():
    """Below 32 and above 224 pixels strengths stay; between them every size has one between theirs."""
    for corruption in CORRUPTIONS.values():
        for severity in range(1, SEVERITIES + 1):
            ends = corruption.small[severity - 1], corruption.large[severity - 1]
            assert corruption.strength(severity, 8) == pytest.approx(ends[0])
            assert corruption.strength(severity, 512) == pytest.approx(ends[1])
            assert min(ends) - 1e-9 <= corruption.strength(severity, 100) <= max(ends) + 1e-9


@pytest.mark.parametrize("size", [8, 17])
def test_tiny_images_can_be_corrupted(size):
    """Images of the smallest size that ingest makes, and of odd ones, keep their shape."""
    for name in CORRUPTIONS:
        assert corrupt(photographs(size, 1), name, 5, 0).shape == (1, size, size, 3)


def test_only_policies_that_mirror_say_so():
    """Characters and untouched images are not mirrored, photographs are."""
    assert all(mirrors(name) for name in ("light", "standard", "strong"))
    assert not any(mirrors(name) for name in ("none", "shifted", "characters"))
