"""Files of tensors (safetensors, no pickles) that carry the checksum of what they hold, so that damage is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from darkroom.core import json_files, shortage
from darkroom.core.json_files import Remedy

CHECKSUM = "darkroom.xxh3_128"  # in the metadata; sha256 would take six times as long


def save(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors with their checksum; the same tensors give the same bytes."""
    own = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    save_file(own, path, {CHECKSUM: checksum(own)})  # a single entry: the order of several is not deterministic


def load(path: Path, remedy: Remedy, needs_checksum: bool = True) -> dict[str, torch.Tensor]:
    """Return the tensors of a file that `save` wrote.

    Files of earlier versions and of other programs have no checksum. Raises FileNotFoundError, or WorkspaceError
    where the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            expected = (file.metadata() or {}).get(CHECKSUM)
        tensors = load_file(path)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError) as error:
        raise shortage.explain(error) or json_files.damaged(path, str(error), remedy) from error
    if expected is None and needs_checksum:
        raise json_files.damaged(path, "it has no checksum", remedy)
    if expected is not None and expected != checksum(tensors):
        raise json_files.damaged(path, "its tensors and their checksum differ", remedy)
    return tensors


def checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return 128 bits of XXH3 of names, types, shapes and values; the order of the tensors does not matter."""
    digest = xxhash.xxh3_128()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
