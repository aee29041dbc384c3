"""Occlusion, embeddings and augmentation strength: the numbers behind the pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darkroom.core.errors import ParamsError, SourceError
from darkroom.evaluation import embedding_map
from darkroom.lab import augmentation_strength, embedding, occlusion
from tests.lab.test_layers import compact


def test_covering_the_evidence_lowers_the_class():
    """The probability of a class that depends on one corner falls if that corner is covered, and nowhere
    else."""
    image = np.zeros((20, 20, 3), np.uint8)
    image[:4, :4] = 200

    def predict(images: np.ndarray) -> np.ndarray:
        evidence = images[:, :4, :4].mean((1, 2, 3)) / 255
        return np.stack([evidence, 1 - evidence], 1)

    uncovered = predict(image[None])[0, 0]
    drops = occlusion.spread(uncovered - occlusion.occlude(predict, image, 4, 4)[..., 0], 20, 4, 4)
    assert drops.shape == (20, 20)
    assert (drops[:4, :4] > 0.5).all()
    drops[:4, :4] = 0
    assert abs(drops).max() < 1e-6


@pytest.mark.parametrize(("size", "patch", "stride"), [(20, 4, 4), (20, 7, 3), (5, 5, 1), (1, 1, 1), (9, 2, 50)])
def test_patches_lie_inside_and_reach_both_borders(size, patch, stride):
    """The first patch begins at the border and the last one ends there."""
    starts = occlusion.patch_starts(size, patch, stride)
    assert starts[0] == 0
    assert starts[-1] == size - patch
    assert starts == sorted(set(starts))


@pytest.mark.parametrize(("patch", "stride"), [(0, 1), (21, 1), (4, 0)])
def test_a_patch_that_does_not_fit_is_refused(patch, stride):
    """A patch larger than the image, or without a stride, is an error."""
    with pytest.raises(ParamsError, match="does not fit"):
        occlusion.patch_starts(20, patch, stride)


def test_two_groups_stay_apart_on_both_maps():
    """Points of two distant groups are nearer to their own group than to the other, by PCA and by t-SNE."""
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 1, (20, 64)), rng.normal(6, 1, (20, 64))]).astype(np.float32)
    principal, shares = embedding_map.pca(vectors)
    assert shares[0] > 0.5
    for points in (principal, embedding_map.tsne(vectors, 30)):
        assert points.shape == (40, 2)
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        assert distances[:20, :20].mean() < distances[:20, 20:].mean() / 2


def test_few_or_equal_images():
    """Too few images are refused; equal ones have finite coordinates."""
    with pytest.raises(SourceError, match="too few"):
        embedding_map.pca(np.zeros((4, 8), np.float32))
    with np.errstate(all="ignore"):
        assert np.isfinite(embedding_map.pca(np.ones((6, 8), np.float32))[0]).all()


def test_embeddings_are_the_input_of_the_head():
    """The logits are those of the network, and of its head for the embeddings."""
    network = compact()
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), np.uint8)
    vectors, logits = embedding.embed(network, images)
    with torch.inference_mode():
        assert logits == pytest.approx(network(torch.from_numpy(images)).numpy(), abs=1e-5)
        assert logits == pytest.approx(network.head(torch.from_numpy(vectors)).numpy(), abs=1e-5)


def test_a_ladder_goes_from_weak_to_strong():
    """The steps are draws in the order of their change, from the smallest to the largest."""
    image = np.full((4, 4, 3), 100, np.uint8)
    steps = augmentation_strength.ladder(image, lambda number: np.full((4, 4, 3), 100 + (number * 7) % 64, np.uint8), 5)
    assert [change for _, change in steps] == [0, 16, 32, 47, 63]
    assert all(augmentation_strength.change(image, item) == size for item, size in steps)
