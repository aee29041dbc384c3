"""Engines: whichever runs a frozen network, its outputs are torch's in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.models import engine, mahalanobis
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import IMAGENET, Levels, Normalize
from darkroom.training.embedding import FeaturesAndMaps, LowerPart
from tests.models.test_backbones import SMALLEST, shallow, spec

CPU = torch.device("cpu")


def freeze(backbone: TorchvisionBackbone) -> tuple[nn.Sequential, np.ndarray]:
    """Return a frozen network and five images for it."""
    size = backbone.spec.image_size
    images = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), np.uint8)
    return nn.Sequential(Normalize(*IMAGENET), backbone.to(memory_format=torch.channels_last)).eval(), images


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALLEST)
def test_embeddings_are_those_of_torch(family):
    """For every family a fast engine gives torch's embeddings of uint8 images, within `TOLERANCE` of the
    largest number.
    """
    frozen, images = freeze(shallow(family))
    chosen = engine.select_engine(frozen, images, CPU, 2)
    assert chosen.name == "ONNX Runtime"
    with torch.inference_mode():
        expected = frozen(torch.from_numpy(images)).numpy()
    embeddings = np.concatenate([outputs[0] for outputs in chosen.stream([images[:2], images[2:]])])
    assert embeddings.dtype == np.float32
    assert np.abs(embeddings - expected).max() <= engine.TOLERANCE * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ConvNeXt", "DenseNet", "EfficientNet", "ResNet", "SqueezeNet"])
def test_maps_computed_with_embeddings_are_those_computed_alone(family):
    """The embeddings, the feature map at a cut and the means for the distance have the same bytes whether they are computed alone
    or together.
    """
    frozen, images = freeze(shallow(family))
    normalize, backbone = frozen
    assert backbone.has_feature_maps()
    cut = backbone.block_count - -(-backbone.block_count // 5)
    steps = mahalanobis.steps_of(backbone.block_count)
    together = engine.Onnx(FeaturesAndMaps(normalize, backbone, cut, steps), images, 1).run(images)
    levels = nn.Sequential(normalize, Levels(backbone, steps)).eval()
    alone = [
        engine.Onnx(network, images, 1).run(images)
        for network in (frozen, LowerPart(normalize, backbone, cut), levels, FeaturesAndMaps(normalize, backbone, cut))
    ]
    for number, expected in enumerate((alone[0][0], alone[1][0], alone[2][1])):
        assert np.array_equal(together[number], expected)
    for number in range(2):
        assert np.array_equal(together[number], alone[3][number])


@pytest.mark.slow
def test_outputs_keep_their_order_and_do_not_depend_on_threads():
    """Batches come back in their order, with the same bytes on one, two and three threads."""
    frozen, _ = freeze(TorchvisionBackbone(spec("SqueezeNet")))
    size = frozen[1].spec.image_size
    images = np.random.default_rng(1).integers(0, 256, (23, size, size, 3), np.uint8)
    batches = [images[i : i + 4] for i in range(0, 23, 4)]
    results = [
        np.concatenate([outputs[0] for outputs in engine.Onnx(frozen, images[:2], threads).stream(iter(batches))])
        for threads in (1, 2, 3)
    ]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    eager = np.concatenate([outputs[0] for outputs in engine.Eager(frozen, CPU).stream(iter(batches))])
    assert np.abs(results[0] - eager).max() <= engine.TOLERANCE * np.abs(eager).max()


def test_one_image_is_enough():
    """An engine is made from a single image and then takes any number."""
    frozen, images = freeze(TorchvisionBackbone(spec("SqueezeNet")))
    chosen = engine.select_engine(frozen, images[:1], CPU, 2)
    assert len(next(iter(chosen.stream([images])))[0]) == len(images)


class _Unknown(nn.Module):
    """Uses an operator that ONNX does not have."""

    def forward(self, images):
        return torch.linalg.svdvals(images[..., 0].float())


class _Drifting(nn.Module):
    """Computes something else when it is traced."""

    def forward(self, images):
        return images.float().mean((1, 2)) * (1.01 if torch.jit.is_tracing() else 1.0)


@pytest.mark.parametrize(("module", "reason"), [(_Unknown, "UnsupportedOperatorError"), (_Drifting, "differ")])
def test_where_onnx_cannot_be_used_torch_runs(module, reason, capsys):
    """A network that cannot be exported, or whose export computes something else, runs in torch; the reason
    is printed.
    """
    images = np.random.default_rng(0).integers(1, 256, (4, 8, 8, 3), np.uint8)
    chosen = engine.select_engine(module(), images, CPU, 2)
    assert chosen.name == "torch"
    assert reason in capsys.readouterr().out
    assert next(iter(chosen.stream([images])))[0] == pytest.approx(module()(torch.from_numpy(images)).numpy())
