"""MobileNetV2 as timm has it, with the weights of torchvision's: for the peers that take timm's networks."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torchvision.models import mobilenet_v2

NAME = "mobilenetv2_100"
TOLERANCE = 1e-3


def network(file: Path) -> torch.nn.Module:
    """Return timm's network with torchvision's weights; SystemExit where the two differ on random images.

    Both list their layers in the same order with the same shapes; only the names differ.
    """
    source = mobilenet_v2(weights=None)
    source.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    converted = timm.create_model(NAME, pretrained=False)
    values = [value for key, value in source.state_dict().items() if not key.startswith("classifier")]
    names = [name for name in converted.state_dict() if not name.startswith("classifier")]
    state = dict(zip(names, values, strict=True)) | {
        f"classifier.{part}": getattr(source.classifier[1], part) for part in ("weight", "bias")
    }
    converted.load_state_dict(state)
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        difference = (converted.eval()(images) - source.eval()(images)).abs().max().item()
    if difference > TOLERANCE:
        raise SystemExit(f"the converted network differs by {difference}")
    return converted


def body(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a network without those of its head."""
    return {name: value for name, value in network.state_dict().items() if not name.startswith("classifier")}
