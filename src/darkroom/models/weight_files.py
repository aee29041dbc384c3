"""The weight files of a folder, and the digests that identify weights. Importing this costs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from darkroom.core.errors import WeightsError, WorkspaceError

SUFFIXES = (".safetensors", ".pth", ".pt")


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_digest(folder: Path) -> str:
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


def find(folder: Path, name: str) -> Path:
    """Return the weight file of a backbone: `<name>.safetensors`, `.pth` or `.pt`, also with torchvision's
    hash in the name.

    Raises WeightsError that lists the folder's weight files where there is none.
    """
    if not folder.is_dir():
        raise WeightsError(
            f"`weights.source` is {folder}, which does not exist",
            "set it to a folder of <backbone>.safetensors or .pth files, or to imagenet, pretrain or random",
        )
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    for suffix in SUFFIXES:
        for path in files:
            stem, _, tail = path.stem.rpartition("-")
            if path.suffix == suffix and (path.stem == name or (stem == name and len(tail) == 8)):
                return path
    present = ", ".join(path.name for path in files) or "no .safetensors or .pth file"
    raise WeightsError(
        f"{folder} has no weights for {name}: it contains {present}",
        f"place {name}.safetensors or {name}.pth there, or take {name} out of `backbones`",
    )
