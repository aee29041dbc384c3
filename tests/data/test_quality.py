"""Faults of pictures that decode."""

from __future__ import annotations

import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image

from darkroom.data import quality
from darkroom.data.quality import examine


def scene() -> np.ndarray:
    """Return a picture with light and shade and sharp edges, (240, 320, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (320, 240), interpolation=cv2.INTER_NEAREST)
    return np.clip(coarse.astype(int) + rng.integers(-15, 16, coarse.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "issue"),
    [
        (lambda a: a, None),
        (lambda a: a // 5, "dark"),
        (lambda a: 252 + a // 90, "bright"),
        (lambda a: cv2.GaussianBlur(a, (0, 0), 9), "blurry"),
        (lambda a: np.full_like(a, 130), "low_information"),
    ],
)
def test_each_fault_is_told_from_the_others(change, issue):
    """A sound picture has no issue; a dark, bright, blurred and empty one has its own."""
    figures, _ = examine(change(scene()))
    assert (issue in figures.issues()) if issue else figures.issues() == ()


def test_small_pictures_have_no_figures():
    """Below 64 pixels a side nothing is measured."""
    assert examine(scene()[:63]) is None
    assert examine(scene()[:64]) is not None


@pytest.mark.parametrize(("size", "odd"), [((100, 100), False), ((300, 100), True), ((100, 286), True), ((100, 285), False)])
def test_odd_shapes(size, odd):
    """A side shorter than 0.35 of the other is odd, whichever it is."""
    assert quality.odd_aspect(*size) == odd


def test_few_good_photographs_are_flagged_and_blurred_ones_are(shared):
    """Of the daisies at most 2 in 100 are called dark, bright, blurry or empty.

    Blurred over a hundredth of their width, most.
    """
    with tarfile.open(shared / "flowers.tar") as archive:
        members = [member for member in archive if member.isfile() and "daisy" in member.name][:100]
        photos = [np.asarray(Image.open(archive.extractfile(member)).convert("RGB")) for member in members]
    flagged = [photo for photo in photos if examine(photo)[0].issues()]
    assert len(flagged) <= 0.02 * len(photos)
    blurred = [examine(cv2.GaussianBlur(photo, (0, 0), photo.shape[1] / 100))[0].issues() for photo in photos]
    assert sum("blurry" in issues for issues in blurred) > 0.5 * len(photos)
