"""Views: seeded per image, never dependent on the order of work."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.augmentation.policies import POLICIES
from darkroom.augmentation.views import ViewGenerator, preview

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)


def views(policy, images, count=2, seed=0):
    generator = ViewGenerator(policy, images.shape[1], seed)
    return np.stack([generator.views(image, range(count)) for image in images], axis=1)


@pytest.mark.parametrize("policy", POLICIES)
def test_order_changes_no_pixel(policy):
    """An image gives the same views whatever comes before it, and in every process."""
    order = np.array([3, 0, 5, 1, 4, 2])
    assert (views(policy, IMAGES)[:, order] == views(policy, IMAGES[order])).all()
    assert (views(policy, IMAGES[2:3]) == views(policy, IMAGES)[:, 2:3]).all()


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_views_differ(policy):
    """Views of one image differ from each other, from the image, and from those of another seed."""
    one, two = views(policy, IMAGES), views(policy, IMAGES, seed=1)
    assert (one[0] != one[1]).any((1, 2, 3)).all()
    assert (one != two).any()
    assert (one[0] != IMAGES).any((1, 2, 3)).sum() >= len(IMAGES) - 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [16, 160])
def test_views_have_the_size_of_the_image(policy, size):
    """Every policy works for small and for large images and keeps their size."""
    images = RNG.integers(0, 256, (2, size, size, 3), np.uint8)
    assert views(policy, images).shape == (2, 2, size, size, 3)


def test_none_is_the_image():
    """The policy none changes no pixel."""
    assert (views("none", IMAGES) == IMAGES).all()


def test_characters_are_never_mirrored():
    """A bar on the left stays on the left in every view."""
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[:, 6:26, 6:11] = 255
    bars = views("characters", image, count=50)[:, 0, ..., 0].astype(float)
    assert (bars[:, :, :16].sum((1, 2)) > bars[:, :, 16:].sum((1, 2))).all()


def test_preview_shows_originals_beside_their_views():
    """The preview holds each original unchanged at the left of its row."""
    picture = preview(IMAGES, views("light", IMAGES))
    assert picture.dtype == np.uint8
    enlarged = np.repeat(np.repeat(IMAGES[0], 3, 0), 3, 1)
    assert (picture[6 : 6 + 96, 6 : 6 + 96] == enlarged).all()
