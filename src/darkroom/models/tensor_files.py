"""Files of tensors (safetensors, no pickles) that carry the checksum of what they hold, so that damage is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from darkroom.core import json_files, shortage
from darkroom.core.errors import WorkspaceError
from darkroom.core.json_files import Remedy

CHECKSUM = "darkroom.xxh3_128"  # in the metadata; sha256 would take six times as long


def save(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """Write tensors with their checksum, and return it; the same tensors give the same bytes.

    The file has the permissions that the umask gives, as any other. Raises WorkspaceError where the disk has no room for it.
    """
    own = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    digest = checksum(own)
    shortage.require_space(path, sum(value.nbytes for value in own.values()))
    path.touch()
    permissions = path.stat().st_mode
    save_file(own, path, {CHECKSUM: digest})  # a single entry: the order of several is not deterministic
    path.chmod(permissions)  # safetensors makes a file that only its owner can read
    return digest


def load(path: Path, remedy: Remedy, needs_checksum: bool = True, of: str | None = None) -> dict[str, torch.Tensor]:
    """Return the tensors of a file that `save` wrote; `of` is the checksum that they have to have, where it is known.

    Files of earlier versions and of other programs have no checksum. Raises FileNotFoundError, or WorkspaceError
    where the file is damaged, is that of other tensors, or cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            expected = (file.metadata() or {}).get(CHECKSUM)
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise _denied(path) or error from error  # safetensors' word for any file that cannot be opened
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError) as error:
        raise shortage.explain(error) or json_files.damaged(path, str(error), remedy) from error
    if expected is None and needs_checksum:
        raise json_files.damaged(path, "it has no checksum", remedy)
    if expected is not None and expected != checksum(tensors):
        raise json_files.damaged(path, "its tensors and their checksum differ", remedy)
    if of is not None and of != expected:
        raise json_files.damaged(path, "it has the weights of another model than the description beside it", remedy)
    return tensors


def _denied(path: Path) -> WorkspaceError | None:
    """Return the error of a file that is there and cannot be opened; None where it is missing."""
    try:
        with path.open("rb"):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        return WorkspaceError(
            f"{path} cannot be read: {error.strerror}", "its owner can let you: `chmod a+r`, and `a+rx` for folders"
        )


def checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return 128 bits of XXH3 of names, types, shapes and values; the order of the tensors does not matter."""
    digest = xxhash.xxh3_128()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
