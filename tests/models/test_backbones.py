"""Backbones: torchvision's own networks, cut between their blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import ConvNeXt, DenseNet, EfficientNet, MaxVit, ResNet, ShuffleNetV2, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.resnet import BasicBlock

from darkroom.core.errors import ParamsError
from darkroom.models.backbones import torchvision_tables
from darkroom.models.backbones.torchvision import _WHOLE_HEADS, LAYOUTS, TorchvisionBackbone, _head_name, _network
from darkroom.models.specs import BackboneSpec

SMALLEST = {
    "AlexNet": "alexnet", "ConvNeXt": "convnext_tiny", "DenseNet": "densenet121", "EfficientNet": "efficientnet_b0",
    "GoogLeNet": "googlenet", "Inception3": "inception_v3", "MNASNet": "mnasnet0_5", "MaxVit": "maxvit_t",
    "MobileNetV2": "mobilenet_v2", "MobileNetV3": "mobilenet_v3_small", "RegNet": "regnet_y_400mf", "ResNet": "resnet18",
    "ShuffleNetV2": "shufflenet_v2_x0_5", "SqueezeNet": "squeezenet1_1", "SwinTransformer": "swin_t", "VGG": "vgg11",
    "VisionTransformer": "vit_b_32",
}  # fmt: skip
SIZE = {"VisionTransformer": 96, "MaxVit": 224, "Inception3": 80, "VGG": 96}
SHALLOW: dict[str, Callable[..., nn.Module]] = {  # the deepest of these families with every kind of block, once or twice
    "convnext_tiny": partial(ConvNeXt, [CNBlockConfig(96, 192, 1), CNBlockConfig(192, None, 1)]),
    "densenet121": partial(DenseNet, 32, (2, 2), 64),
    "efficientnet_b0": partial(
        EfficientNet,
        [MBConvConfig(1, 3, 1, 32, 16, 1, 1, 1), MBConvConfig(6, 5, 2, 16, 24, 2, 1, 1), MBConvConfig(6, 3, 2, 24, 40, 1, 1, 1)],
        0.2,
    ),
    "maxvit_t": partial(
        MaxVit, stem_channels=64, partition_size=7, block_channels=[64, 128], block_layers=[1, 1], head_dim=32,
        stochastic_depth_prob=0.2,
    ),
    "resnet18": partial(ResNet, BasicBlock, [2, 1, 1, 1]),
    "shufflenet_v2_x0_5": partial(ShuffleNetV2, [2, 2, 2], [24, 48, 96, 192, 1024]),
    "swin_t": partial(SwinTransformer, [4, 4], 96, [2, 2], [3, 6], [7, 7]),
    "vit_b_32": partial(VisionTransformer, patch_size=32, num_layers=2, num_heads=12, hidden_dim=768, mlp_dim=3072),
}  # fmt: skip
_get_model = torchvision.models.get_model


def shallow(family: str, seed: int = 0) -> TorchvisionBackbone:
    """Return a pooled backbone of a family with few of its blocks, for the smallest images that it takes."""
    size = 112 if family == "MaxVit" else SIZE.get(family, 72)
    with patch.object(torchvision.models, "get_model", _shallow_model):
        return TorchvisionBackbone(BackboneSpec(SMALLEST[family], size), seed)


def _shallow_model(name: str, weights: None, **options: Any) -> nn.Module:
    return SHALLOW.get(name, partial(_get_model, name))(**options)


def spec(family: str, head: str = "pooled") -> BackboneSpec:
    """Return the smallest network of a family, for images that are larger than `SMALL_IMAGE`, and hardly."""
    return BackboneSpec(SMALLEST[family], SIZE.get(family, 72), head)


@pytest.fixture(scope="module", params=SMALLEST)
def with_own_head(request) -> TorchvisionBackbone:
    """A backbone of each family that ends before the network's last linear layer."""
    return TorchvisionBackbone(spec(request.param, "classifier"))


def test_every_family_is_tested():
    """A family that torchvision adds, or that is added to the table, must have its smallest member here."""
    assert set(SMALLEST) == set(LAYOUTS) | set(_WHOLE_HEADS)


class _ReachedError(Exception):
    """The input of the last layer is known."""


@pytest.mark.slow
def test_the_cut_network_is_torchvisions(with_own_head):
    """With its own head, the embedding is bit for bit what torchvision's network hands to its last linear
    layer.
    """
    theirs = _network(with_own_head.spec, 0).eval()  # on the meta device: it gets the same tensors
    assert not theirs.load_state_dict(with_own_head.weights(), strict=False, assign=True).unexpected_keys
    head = getattr(theirs, _head_name(theirs))
    last = [module for module in head.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
    inputs: list[torch.Tensor] = []

    def stop(_, tensors):
        inputs.append(tensors[0])
        raise _ReachedError

    last.register_forward_pre_hook(stop)
    size = with_own_head.spec.image_size
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with pytest.raises(_ReachedError):
            theirs(x)
        embedding = with_own_head(x)
    expected = inputs[0].mean((2, 3)) if inputs[0].ndim == 4 else inputs[0]
    assert embedding.std() > 0
    assert torch.equal(embedding, expected)


@pytest.mark.slow
def test_blocks_hold_every_weight_once(with_own_head):
    """Blocks and own head together are the network's weights, none twice; only tokens of transformers lie
    outside.
    """
    network = with_own_head
    blocks = [p for i in range(network.block_count) for p in network.block(i).parameters()]
    counted = {id(p) for p in blocks} | {id(p) for p in network.own_head().parameters()}
    assert len({id(p) for p in blocks}) == len(blocks)
    outside = [name for name, p in network.net.named_parameters() if id(p) not in counted]
    assert all("class_token" in name or "pos_embedding" in name or "encoder.ln" in name for name in outside), outside


@pytest.mark.slow
@pytest.mark.parametrize("family", LAYOUTS)
def test_every_cut_gives_the_same_embedding(family):
    """Running the lower blocks and then the upper ones equals running all, wherever the cut is."""
    network = shallow(family)
    size = network.spec.image_size
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(x)
        for cut in {0, 1, network.block_count // 2, network.block_count}:
            assert torch.equal(network.upper(network.lower(x, cut), cut), expected)
    assert expected.shape == (1, network.dim)


def test_vgg_has_no_fully_connected_layers_with_the_pooled_head():
    """VGG-11's 124 million fully connected weights are neither built nor stored unless they are asked for."""
    assert sum(p.numel() for p in TorchvisionBackbone(BackboneSpec("vgg11_bn", 32)).parameters()) < 10e6


def test_small_inputs_keep_their_resolution():
    """Up to 64 pixels the first convolution has stride 1, above its own; the weights are the same."""
    small, large = (TorchvisionBackbone(BackboneSpec("mobilenet_v2", size)) for size in (64, 65))
    assert small.net.features[0][0].stride == (1, 1)
    assert large.net.features[0][0].stride == (2, 2)
    assert {k: v.shape for k, v in small.weights().items()} == {k: v.shape for k, v in large.weights().items()}


def test_the_seed_decides_the_weights():
    """The same seed gives the same weights, another one others; the global random state does not change."""
    state = torch.get_rng_state()
    one, again, other = (TorchvisionBackbone(BackboneSpec("resnet18", 32), seed).weights()["conv1.weight"] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unknown_backbone_names_its_neighbour():
    """A misspelt backbone is refused with the nearest name."""
    with pytest.raises(ParamsError, match="mobilenet_v2"):
        TorchvisionBackbone(BackboneSpec("mobilnet_v2", 32))


def test_the_names_are_torchvisions():
    """The names that are read from torchvision's source are those of its registry."""
    assert list(torchvision_tables.names()) == sorted(torchvision.models.list_models(module=torchvision.models))
