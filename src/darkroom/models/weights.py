"""Where the weights of a backbone come from: torchvision's ImageNet weights, a folder of files, or nowhere yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from darkroom.core.errors import WeightsError
from darkroom.models.base import IMAGENET, Backbone

CENTRED = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))  # for networks that Darkroom trains itself


Channels = tuple[float, float, float]


def normalization(name: str, source: str) -> tuple[Channels, Channels]:
    """Return the mean and standard deviation per channel that the weights were trained with."""
    if source in ("pretrain", "random"):
        return CENTRED
    if name in ("googlenet", "inception_v3"):  # these undo the usual normalisation themselves; built without that
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return IMAGENET


def read(path: Path) -> dict[str, torch.Tensor]:
    """Read a state_dict from a .safetensors or .pth file, as float32; nothing in it is executed."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            content: Any = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
            content = content.get("state_dict", content)
            state = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}", "fetch the file again, or remove it") from error
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def fill(backbone: Backbone, state: dict[str, torch.Tensor], origin: str) -> list[str]:
    """Load weights into a backbone in place; return the names left aside, which are the classifier's.

    Raises WeightsError that lists both sides where anything but the classifier differs.
    """
    wanted = backbone.weights()
    left = sorted(key for key in state if key not in wanted and backbone.is_head(key))
    given = {key: value for key, value in state.items() if key not in left}
    for key in wanted:
        if key.endswith("num_batches_tracked") and key not in given:
            given[key] = wanted[key]
    missing = [f"  {key} {tuple(wanted[key].shape)}" for key in wanted if key not in given]
    extra = [f"  {key} {tuple(given[key].shape)}" for key in given if key not in wanted]
    shapes = [
        f"  {key}: {tuple(given[key].shape)} in the file, {tuple(wanted[key].shape)} in the network"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    if missing or extra or shapes:
        sides = (("only in the network", missing), ("only in the file", extra), ("of another shape", shapes))
        listing = "\n".join(f"{title} ({len(rows)}):\n" + "\n".join(_some(rows)) for title, rows in sides if rows)
        raise WeightsError(
            f"{origin} does not fit {backbone.spec.name}; only the classifier may differ\n{listing}",
            f"use a state_dict of torchvision's {backbone.spec.name}",
        )
    backbone.net.load_state_dict(given)
    return left


def _some(rows: list[str], most: int = 12) -> list[str]:
    return rows if len(rows) <= most else [*rows[:most], f"  … and {len(rows) - most} more"]
