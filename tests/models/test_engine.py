"""Engines: whatever runs a frozen network, its answers are those of torch in float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.models import engine
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import IMAGENET, Normalize
from darkroom.training.embedding import Whole
from tests.models.test_backbones import SMALLEST, spec

CPU = torch.device("cpu")


def network(family, head="pooled"):
    backbone = TorchvisionBackbone(spec(family, head))
    size = backbone.spec.image_size
    images = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), np.uint8)
    return nn.Sequential(Normalize(*IMAGENET), backbone.to(memory_format=torch.channels_last)).eval(), images


@pytest.mark.parametrize("family", SMALLEST)
def test_embeddings_are_those_of_torch(family):
    """For every family a fast engine takes uint8 images and gives torch's embeddings, within 1e-4 of the largest number."""
    frozen, images = network(family)
    chosen = engine.fastest(frozen, images, CPU, 2)
    assert chosen.name == ("torch, Winograd" if family == "VGG" else "ONNX Runtime")
    with torch.inference_mode():
        expected = frozen(torch.from_numpy(images)).numpy()
    got = np.concatenate([answers[0] for answers in chosen.stream([images[:3], images[3:]])])
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= engine.TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("family", [name for name in SMALLEST if name not in ("VisionTransformer", "MaxVit", "SwinTransformer")])
def test_a_second_answer_changes_no_bit(family):
    """Embeddings have the same bytes whether the feature map at a cut is asked for or not, and the map whether they are."""
    frozen, images = network(family)
    normalize, backbone = frozen
    alone = engine.Onnx(frozen, images, 1).answer(images)[0]
    for share in (0.2, 0.5):
        cut = backbone.block_count - math.ceil(share * backbone.block_count)
        embedded, passed = engine.Onnx(Whole(normalize, backbone, cut), images, 1).answer(images)
        below = engine.Onnx(nn.Sequential(normalize, _Lower(backbone, cut)), images, 1).answer(images)[0]
        assert np.array_equal(embedded, alone)
        assert np.array_equal(passed, below)


class _Lower(nn.Module):
    def __init__(self, backbone, cut):
        super().__init__()
        self.backbone, self.cut = backbone, cut

    def forward(self, x):
        return self.backbone.lower(x, self.cut)


def test_answers_keep_their_order_and_do_not_depend_on_threads():
    """Batches are answered in their order, with the same bytes on one, two and three threads."""
    frozen, _ = network("SqueezeNet")
    size = frozen[1].spec.image_size
    images = np.random.default_rng(1).integers(0, 256, (23, size, size, 3), np.uint8)
    cut = [images[i : i + 4] for i in range(0, 23, 4)]
    made = [
        np.concatenate([answers[0] for answers in engine.Onnx(frozen, images[:2], threads).stream(iter(cut))])
        for threads in (1, 2, 3)
    ]
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
    eager = np.concatenate([answers[0] for answers in engine.Eager(frozen, CPU).stream(iter(cut))])
    assert np.abs(made[0] - eager).max() <= engine.TOLERANCE * np.abs(eager).max()


def test_one_image_is_enough():
    """An engine is made from a single image and then takes any number."""
    frozen, images = network("AlexNet")
    chosen = engine.fastest(frozen, images[:1], CPU, 2)
    assert len(next(iter(chosen.stream([images])))[0]) == len(images)


class _Unknown(nn.Module):
    """Uses an operator that ONNX does not have."""

    def forward(self, images):
        return torch.linalg.svdvals(images[..., 0].float())


class _Drifting(nn.Module):
    """Answers otherwise when it is traced."""

    def forward(self, images):
        return images.float().mean((1, 2)) * (1.01 if torch.jit.is_tracing() else 1.0)


@pytest.mark.parametrize(("module", "why"), [(_Unknown, "UnsupportedOperatorError"), (_Drifting, "differ")])
def test_where_onnx_cannot_be_used_torch_runs(module, why, capsys):
    """A network that cannot be exported, or whose export answers otherwise, runs in torch, and that is said."""
    images = np.random.default_rng(0).integers(1, 256, (4, 8, 8, 3), np.uint8)
    chosen = engine.fastest(module(), images, CPU, 2)
    assert chosen.name == "torch"
    assert why in capsys.readouterr().out
    assert next(iter(chosen.stream([images])))[0] == pytest.approx(module()(torch.from_numpy(images)).numpy())
