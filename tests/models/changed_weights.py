"""A checkpoint with other weights, written as a whole: its description names the checksum of its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from darkroom.models import checkpoint


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Write a checkpoint again with what `change` makes of its tensors."""
    network, described = checkpoint.load(folder)
    history = [{key: float(value) for key, value in row.items()} for row in checkpoint.read_history(folder)]
    checkpoint.save(folder, described, change(network.state_dict()), network.parameter_count(), history)
