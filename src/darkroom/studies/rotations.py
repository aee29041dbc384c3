"""Labels without people: each image turned by 0, 90, 180 and 270 degrees, to be told apart (Gidaris et al. 2018)."""

from __future__ import annotations

import hashlib

import numpy as np

from darkroom.studies.run_config import Sample

TURNS = 4


def rotated(sample: Sample) -> Sample:
    """Return a sample of four classes: every image in four positions, in an order that mixes them. Labels are not used."""
    order = np.random.default_rng(0).permutation(TURNS * len(sample.train_images))
    train, held = (_turned(images) for images in (sample.train_images, sample.held_images))
    digest = hashlib.sha256(f"rotations of {sample.digest}".encode()).hexdigest()
    return Sample(train[0][order], train[1][order], *held, TURNS, digest)


def _turned(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turned = [np.rot90(images, turn, axes=(2, 3)) for turn in range(TURNS)]
    return np.ascontiguousarray(np.concatenate(turned)), np.repeat(np.arange(TURNS, dtype=np.int64), len(images))
