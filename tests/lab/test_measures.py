"""Occlusion, embeddings and strengths: what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.core.errors import ParamsError, SourceError
from darkroom.lab import augmentation_strength, embedding, occlusion
from tests.lab.test_layers import compact


def test_covering_the_evidence_lowers_the_class():
    """A classifier that looks at one corner falls where that corner is covered, and nowhere else."""
    image = np.zeros((20, 20, 3), np.uint8)
    image[:4, :4] = 200

    def answer(images: np.ndarray) -> np.ndarray:
        there = images[:, :4, :4].mean((1, 2, 3)) / 255
        return np.stack([there, 1 - there], 1)

    plain = answer(image[None])[0, 0]
    drops = occlusion.spread(plain - occlusion.occlude(answer, image, 4, 4)[..., 0], 20, 4, 4)
    assert drops.shape == (20, 20)
    assert (drops[:4, :4] > 0.5).all()
    drops[:4, :4] = 0
    assert abs(drops).max() < 1e-6


@pytest.mark.parametrize(("size", "patch", "stride"), [(20, 4, 4), (20, 7, 3), (5, 5, 1), (1, 1, 1), (9, 2, 50)])
def test_patches_lie_inside_and_reach_both_borders(size, patch, stride):
    """The first patch begins at the border and the last one ends there."""
    starts = occlusion.places(size, patch, stride)
    assert starts[0] == 0
    assert starts[-1] == size - patch
    assert starts == sorted(set(starts))


@pytest.mark.parametrize(("patch", "stride"), [(0, 1), (21, 1), (4, 0)])
def test_a_patch_that_does_not_fit_is_refused(patch, stride):
    """A patch larger than the image, or without a stride, is an error."""
    with pytest.raises(ParamsError, match="does not fit"):
        occlusion.places(20, patch, stride)


def test_two_groups_stay_apart_on_both_maps():
    """Points of two distant groups are nearer to their own group than to the other, by PCA and by t-SNE."""
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 1, (20, 64)), rng.normal(6, 1, (20, 64))]).astype(np.float32)
    plain, shares = embedding.pca(vectors)
    assert shares[0] > 0.5
    for points in (plain, embedding.tsne(vectors, 30)):
        assert points.shape == (40, 2)
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        assert distances[:20, :20].mean() < distances[:20, 20:].mean() / 2


def test_few_or_equal_images():
    """Too few images are refused; equal ones make a map without a fault."""
    with pytest.raises(SourceError, match="make no map"):
        embedding.pca(np.zeros((4, 8), np.float32))
    with np.errstate(all="ignore"):
        assert np.isfinite(embedding.pca(np.ones((6, 8), np.float32))[0]).all()


def test_embeddings_are_what_the_head_is_given():
    """The logits are those of the network, and the head makes them of the embeddings."""
    import torch

    network = compact()
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), np.uint8)
    vectors, logits = embedding.embed(network, images)
    with torch.inference_mode():
        assert logits == pytest.approx(network(torch.from_numpy(images)).numpy(), abs=1e-5)
        assert logits == pytest.approx(network.head(torch.from_numpy(vectors)).numpy(), abs=1e-5)


def test_a_ladder_goes_from_weak_to_strong():
    """The steps are draws in the order of their change, the least and the most changed among them."""
    image = np.full((4, 4, 3), 100, np.uint8)
    steps = augmentation_strength.ladder(image, lambda number: np.full((4, 4, 3), 100 + (number * 7) % 64, np.uint8), 5)
    assert [far for _, far in steps] == [0, 16, 32, 47, 63]
    assert all(augmentation_strength.change(image, made) == far for made, far in steps)
