"""The images of a run: a part of a sample, at its size, in its views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from darkroom.studies.run_config import RunConfig
from darkroom.studies.samples import SampleLoader, resize, rotate, split_inner

CONFIG = RunConfig("p", "a", 0, "mlp", batch_size=16)
CPU = torch.device("cpu")


def epochs(sample, config, count: int) -> list[torch.Tensor]:
    """Return the images of each epoch, in the order of the sample."""
    loader = SampleLoader(sample, CPU, config)
    return [loader.epoch_images(number).clone() for number in range(count)]


def test_a_part_is_the_beginning(sample):
    """Fewer images are the first ones, so that a smaller part is within a larger one; held-out images stay."""
    part = sample.subset(10, 0)
    assert np.array_equal(part.train_images, sample.train_images[:10])
    assert len(part.train_labels) == 10
    assert len(part.val_images) == len(sample.val_images)


def test_a_smaller_image_has_the_means_of_areas(sample):
    """At half the size each pixel is the rounded mean of four; at its own size an image is unchanged."""
    half = resize(sample.train_images, 4)
    means = sample.train_images.reshape(-1, 1, 4, 2, 4, 2).mean((3, 5))
    assert np.abs(half - means).max() <= 0.5
    assert resize(sample.train_images, 8) is sample.train_images
    assert sample.subset(0, 4).val_images.shape[2:] == (4, 4)


def test_views_come_round(sample):
    """With K views epoch e has view e mod K, with 0 new ones; another seed has others."""
    two = epochs(sample, replace(CONFIG, policy="light", views=2), 4)
    assert torch.equal(two[0], two[2])
    assert torch.equal(two[1], two[3])
    assert not torch.equal(two[0], two[1])
    new = epochs(sample, replace(CONFIG, policy="light"), 3)
    assert torch.equal(new[0], two[0])
    assert not torch.equal(new[0], new[2])
    assert not torch.equal(epochs(sample, replace(CONFIG, policy="light", seed=1), 1)[0], new[0])
    assert torch.equal(epochs(sample, CONFIG, 1)[0], torch.from_numpy(sample.train_images))


def test_the_same_seed_is_the_same_order(sample):
    """One seed is one order of images, another seed another one; each epoch has every image once."""
    loader = SampleLoader(sample, CPU, CONFIG)
    order = [torch.cat([y for _, y in loader.batches(seed, 16, 6)]) for seed in (0, 0, 1)]
    assert torch.equal(order[0], order[1])
    assert not torch.equal(order[0], order[2])
    assert np.array_equal(np.bincount(order[0].numpy()), np.bincount(sample.train_labels))


def test_rotations_do_not_use_labels(sample):
    """Every image appears in four positions with the position as label; other labels are not used."""
    rotated = rotate(sample)
    assert np.array_equal(np.bincount(rotated.train_labels), [len(sample.train_labels)] * 4)
    upright = {image.tobytes() for image in sample.train_images}
    for image, label in zip(rotated.train_images[:20], rotated.train_labels[:20], strict=True):
        assert np.ascontiguousarray(np.rot90(image, -label, axes=(1, 2))).tobytes() in upright
    other = rotate(replace(sample, train_labels=sample.train_labels[::-1].copy()))
    assert np.array_equal(rotated.train_labels, other.train_labels)


def test_an_inner_split_has_training_images_only(sample):
    """The two parts of an inner split are the training images, in order; another share is another sample."""
    inner = split_inner(sample, 0.25)
    assert (len(inner.train_labels), len(inner.val_labels)) == (72, 24)
    assert np.array_equal(np.concatenate([inner.train_images, inner.val_images]), sample.train_images)
    assert np.array_equal(np.concatenate([inner.train_labels, inner.val_labels]), sample.train_labels)
    assert inner.digest not in (sample.digest, split_inner(sample, 0.5).digest)


def test_features_are_computed_once(sample):
    """The same weights on the same images run once, whatever the seed; other weights, or fewer images, run anew."""
    features = torch.nn.Flatten()
    layer = torch.nn.Linear(64, 3)
    network, calls = torch.nn.Sequential(features, layer), []
    features.register_forward_hook(lambda *_: calls.append(1))
    sample = replace(sample, digest="features")

    def runs(**fields) -> tuple[int, torch.Tensor]:
        calls.clear()
        loader = SampleLoader(sample, CPU, replace(CONFIG, **fields))
        normalized = loader.normalize(loader.train_x)
        loader.embed(network)
        assert torch.allclose(loader.train_x, layer(features(normalized)), atol=1e-6)
        return len(calls) - 1, loader.train_x

    first, expected = runs()
    again, same = runs(seed=1)
    assert first > again == 0
    assert torch.equal(expected, same)
    assert runs(images=20)[0] > 0
    with torch.no_grad():
        layer.weight.add_(1)
    assert runs()[0] > 0
