"""The weight files of a folder, and the digests that identify weights. Importing this costs no torch."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

from darkroom.core import checksums, machine_limits, user_paths
from darkroom.core.errors import WeightsError, WorkspaceError, printable

SUFFIXES = (".safetensors", ".pth", ".pt")
SUMS = "SHA256SUMS"  # a file beside weight files, as `sha256sum` writes it
_HASHED = re.compile(r"-([0-9a-f]{8})\.\w+$")  # torchvision's names have the beginning of the sha256


def checked_sha256(path: Path) -> str:
    """Return the sha256 of a weight file, once it is compared with what is known of the file.

    Known are the beginning of the sha256 in a name of torchvision's, the line of SHA256SUMS beside it, and the CRC-32 of
    each part of a .pth archive. Raises WeightsError where the file differs from it, WorkspaceError (retry) where
    the machine lacks memory for it.
    """
    user_paths.check_file(path)
    digest = checksums.of_file(path)
    again = "fetch it again; if it was changed on purpose, "
    hashed = _HASHED.search(path.name)
    if hashed and not digest.startswith(hashed[1]):
        raise WeightsError(
            f"{path} is damaged: its sha256 begins with {digest[:8]}, and that in its name with {hashed[1]}",
            f"{again}rename it to {path.name[: hashed.start()]}{path.suffix}",
        )
    expected = _listed_sha256(path)
    if expected not in ("", digest):
        raise WeightsError(
            f"{path} is damaged: its sha256 begins with {digest[:8]}, and that in {SUMS} with {expected[:8]}",
            f"{again}correct {path.with_name(SUMS)}",
        )
    broken = _broken_part(path)
    if broken:
        raise WeightsError(f"{path} is damaged: {printable(broken)[:200]}", "fetch it again, or remove it")
    return digest


def _broken_part(path: Path) -> str:
    """Return what is wrong in an archive, as torch writes .pth files; empty where nothing is, or the file is no archive."""
    try:
        with path.open("rb") as file:  # of a damaged archive `is_zipfile` says no since Python 3.14
            begins_as_archive = file.read(2) == b"PK"
        if not begins_as_archive and not zipfile.is_zipfile(path):
            return ""
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() or ""
    except Exception as error:  # of every kind, for damaged bytes
        machine_limits.check(error)
        return str(error) or type(error).__name__


def _listed_sha256(path: Path) -> str:
    """Return what SHA256SUMS beside a file says; empty where it says nothing."""
    try:
        lines = path.with_name(SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path.with_name(SUMS)} cannot be read: {error}", "correct it, or remove it") from error
    listed = {name.lstrip(" *"): digest for digest, _, name in (line.partition(" ") for line in lines)}
    return listed.get(path.name, "").lower()


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
    hash in the name. Those of `LIBRARY/NAME` may lie in a subfolder LIBRARY.

    Raises WeightsError that lists the folder's weight files where there is none.
    """
    if not folder.is_dir():
        raise WeightsError(
            f"the folder of weight files, {folder}, does not exist",
            "`darkroom recipe --weights FOLDER` names another one, with <backbone>.safetensors or .pth files; --weights also takes "
            "imagenet, package, pretrain and random",
        )
    library, _, name = name.rpartition("/")
    folders = [folder / library, folder] if library and (folder / library).is_dir() else [folder]
    files = [path for place in folders for path in sorted(place.iterdir()) if path.suffix in SUFFIXES]
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
