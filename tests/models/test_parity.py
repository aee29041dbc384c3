"""Where torchvision has an architecture too, ours is the same function of the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darkroom.models.architectures import registry
from darkroom.models.architectures.features import Classic, classifier
from darkroom.models.backbones import torchvision_tables
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.backbones.torchvision_import import torchvision
from darkroom.models.init import SkipInit
from darkroom.models.specs import ArchitectureSpec, BackboneSpec

pytestmark = pytest.mark.slow

BOTH = sorted(set(registry.names()) & set(torchvision_tables.names()))
OTHERS = ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")  # torchvision gives their BatchNorm another epsilon
PERIOD = 10_007  # a prime, so that no two rows of a matrix are alike


def filled(network: nn.Module) -> list[torch.Tensor]:
    """Return weights for a network without memory, in its order, cheap to make; outputs neither vanish nor
    explode.
    """
    numbers = torch.randn(PERIOD, generator=torch.Generator().manual_seed(0))
    tensors = []
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            tensors.append(torch.zeros_like(value, device="cpu"))
            continue
        values = numbers.repeat(-(-value.numel() // PERIOD))[: value.numel()].view(value.shape)
        if value.ndim > 1:
            tensors.append(values * (2 / value[0].numel()) ** 0.5)
        else:
            tensors.append(1 + 0.1 * values.abs() if name.endswith(("weight", "running_var")) else 0.1 * values)
    return tensors


def test_all_of_theirs_are_compared():
    """The names that both have are those that the papers' tables share; a new one is compared the moment it
    is registered.
    """
    assert {"alexnet", "googlenet", "mobilenet_v2", "resnet18", "resnet152", "vgg11", "vgg19_bn", "efficientnet_b7"} <= set(BOTH)
    assert len(BOTH) == 24


@pytest.mark.parametrize("name", BOTH)
def test_weights_fit_and_outputs_agree(name):
    """With the same parameters, in the same order, and with torchvision's weights copied over, the logits are
    torchvision's.
    """
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"), SkipInit():
        theirs = torchvision.models.get_model(name, weights=None, **options).eval()
        ours = classifier(name, size=224, seed=None).eval()
    assert [value.shape for value in ours.state_dict().values()] == [value.shape for value in theirs.state_dict().values()]
    if name in OTHERS:
        return
    if name.startswith("vgg") and name != "vgg11":  # the fully connected layers, 500 MB, are compared once
        ours, theirs = nn.Sequential(ours.features.body, ours.features.neck.grid), nn.Sequential(theirs.features, theirs.avgpool)
    weights = filled(theirs)
    for network in (ours, theirs):
        network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)), assign=True)
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(x)
        assert expected.std() > 0
        assert torch.allclose(ours(x), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "googlenet", "efficientnet_b0"])
def test_small_images_are_treated_as_a_backbone_treats_them(name):
    """At 32 pixels too, with the same weights, our embedding is that of Darkroom's backbone of the same name."""
    theirs = TorchvisionBackbone(BackboneSpec(name, 32))
    ours = Classic(ArchitectureSpec(name, 32)).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.weights().values(), strict=True)))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-6)
