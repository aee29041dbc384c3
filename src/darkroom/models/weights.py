"""Read weight files into a backbone, and the normalisation that weights were trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from darkroom.core import machine_limits, user_paths
from darkroom.core.errors import DarkroomError, WeightsError
from darkroom.models import tensor_files
from darkroom.models.backbones import hub_folders, packages
from darkroom.models.backbones import registry as backbones
from darkroom.models.base import Backbone, Channels

CENTRED = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))  # for networks that Darkroom trains itself


def normalization(name: str, source: str, folder: Path = Path("data/weights")) -> tuple[Channels, Channels]:
    """Return the mean and standard deviation per channel that the weights were trained with; `folder` is that of weight files."""
    if source in ("pretrain", "random"):
        return CENTRED
    if hub_folders.is_named(name):
        config = hub_folders.read(name, folder)
        return config.mean, config.std
    library, name_there = backbones.find(name)
    if source == "package" and packages.package_of(library, name_there):
        return packages.NORMALIZATION
    return backbones.load(library).normalization(name_there)


def read(path: Path) -> dict[str, torch.Tensor]:
    """Read a state_dict from a .safetensors or .pth file, as float32; nothing in it is executed.

    Raises WeightsError where the file cannot be read, or holds NaN or infinity; WorkspaceError (retry) where the machine lacks
    memory for it.
    """
    remedy = "fetch the file again, or remove it"
    user_paths.check_file(path)
    try:
        if path.suffix == ".safetensors":
            state = tensor_files.load(path, remedy, needs_checksum=False)
        else:
            content: Any = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
            content = content.get("state_dict", content)
            state = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    except DarkroomError as error:
        raise WeightsError(error.problem, error.remedy, error.retryable) from error
    except Exception as error:  # of every kind, for damaged bytes
        machine_limits.check(error)
        if "weights_only" in str(error):  # torch tells how to run what is in the file
            raise WeightsError(
                f"{path} holds more than tensors, or is damaged; objects in a pickle can run code, so it is not loaded",
                "take a .safetensors file, or a .pth file with a state_dict alone",
            ) from None
        raise WeightsError(f"{path} cannot be read as weights: {error}", remedy) from error
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    for key, value in state.items():
        if not value.isfinite().all():
            raise WeightsError(f"{path} is damaged: {key} has NaN or infinity", remedy)
    return state


def fill(backbone: Backbone, state: dict[str, torch.Tensor], origin: str) -> list[str]:
    """Load a state_dict into a backbone in place; return the names that were not used, which are the
    classifier's.

    Raises WeightsError that lists the differences where anything but the classifier differs.
    """
    own, state = backbone.weights(), backbone.adapt(state)
    unused = sorted(key for key in state if key not in own and backbone.is_head(key))
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}  # absent from old files
    weights = counters | {key: value for key, value in state.items() if key not in unused}
    differences = {
        "only in the network": [f"  {key} {tuple(own[key].shape)}" for key in own if key not in weights],
        "only in the file": [f"  {key} {tuple(weights[key].shape)}" for key in weights if key not in own],
        "of another shape": [
            f"  {key}: {tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the network"
            for key in own
            if key in weights and weights[key].shape != own[key].shape
        ],
    }
    if any(differences.values()):
        listing = "\n".join(f"{title} ({len(rows)}):\n{_shorten(rows)}" for title, rows in differences.items() if rows)
        raise WeightsError(
            f"{origin} does not fit {backbone.spec.name}; only the classifier may differ\n{listing}",
            f"use a state_dict of {backbone.spec.source}'s {backbone.spec.name}",
        )
    backbone.net.load_state_dict(weights)
    return unused


def _shorten(rows: list[str]) -> str:
    return "\n".join([*rows[:12], *([f"  … and {len(rows) - 12} more"] if len(rows) > 12 else [])])
