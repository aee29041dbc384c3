"""The digest that identifies a checkpoint. Importing this costs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from darkroom.core.errors import WorkspaceError


def checkpoint(folder: Path) -> str:
    """Return the sha256 of a model's description and weights, which decide its predictions."""
    sha = hashlib.sha256()
    for name in ("model.json", "model.safetensors"):
        try:
            sha.update((folder / name).read_bytes())
        except FileNotFoundError as error:
            raise WorkspaceError(
                f"{folder} is not a checkpoint: it has no {name}", "run `dvc repro` to train the models"
            ) from error
    return sha.hexdigest()
