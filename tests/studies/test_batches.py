"""What a member is given to see: a part of the images, at its size, in views of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from darkroom.studies.batches import Feed, part, sized
from darkroom.studies.rotations import rotated
from darkroom.studies.run_config import Member

MEMBER = Member("p", "a", 0, "mlp", batch_size=16)
CPU = torch.device("cpu")


def seen(sample, member, epochs: int) -> list[torch.Tensor]:
    """Return what each epoch sees, in the order of the sample."""
    feed = Feed(sample, CPU, member)
    return [feed._seen(number).clone() for number in range(epochs)]


def test_a_part_is_the_beginning(sample):
    """Fewer images are the first ones, so that a smaller part is within a larger one; held-out images stay whole."""
    found = part(sample, replace(MEMBER, images=10))
    assert np.array_equal(found.train_images, sample.train_images[:10])
    assert len(found.train_labels) == 10
    assert len(found.held_images) == len(sample.held_images)


def test_a_smaller_image_has_the_means_of_areas(sample):
    """At half the size each pixel is the mean of four, rounded; at its own size an image is what it was."""
    half = sized(sample.train_images, 4)
    means = sample.train_images.reshape(-1, 1, 4, 2, 4, 2).mean((3, 5))
    assert np.abs(half - means).max() <= 0.5
    assert sized(sample.train_images, 8) is sample.train_images
    assert part(sample, replace(MEMBER, image_size=4)).held_images.shape[2:] == (4, 4)


def test_views_come_round(sample):
    """With K views epoch e sees view e mod K, with 0 new ones; another seed has others; without a policy images stay."""
    two = seen(sample, replace(MEMBER, policy="light", views=2), 4)
    assert torch.equal(two[0], two[2])
    assert torch.equal(two[1], two[3])
    assert not torch.equal(two[0], two[1])
    new = seen(sample, replace(MEMBER, policy="light"), 3)
    assert torch.equal(new[0], two[0])
    assert not torch.equal(new[0], new[2])
    assert not torch.equal(seen(sample, replace(MEMBER, policy="light", seed=1), 1)[0], new[0])
    assert torch.equal(seen(sample, MEMBER, 1)[0], torch.from_numpy(sample.train_images))


def test_rotations_are_told_by_the_image_alone(sample):
    """Every image is there in four positions with the position as its label; the sample's own labels are not used."""
    made = rotated(sample)
    assert len(made.train_labels) == 4 * len(sample.train_labels)
    assert np.array_equal(np.bincount(made.train_labels), [len(sample.train_labels)] * 4)
    upright = {image.tobytes() for image in sample.train_images}
    for image, label in zip(made.train_images[:20], made.train_labels[:20], strict=True):
        assert np.ascontiguousarray(np.rot90(image, -label, axes=(1, 2))).tobytes() in upright
    other = rotated(replace(sample, train_labels=sample.train_labels[::-1].copy()))
    assert np.array_equal(made.train_labels, other.train_labels)
