"""What has to be downloaded, and how much of it, without torch or a network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from darkroom.config.params import Params
from darkroom.core.errors import WeightsError
from darkroom.models import weight_files
from darkroom.models.backbones import hub_folders, packages, registry

DOWNLOADS = Path(".darkroom/downloads")
DATASETS = {"mnist": 12, "fashion_mnist": 30, "cifar10": 170}  # MB, as the recipes have it
_POINTER = b"version https://git-lfs"


def backbones(settings: Params) -> dict[str, str]:
    """Return what each backbone starts from, with the size of what has to be downloaded."""
    return {name: _describe(name, settings) for name in settings.backbones}


def megabytes(settings: Params) -> float:
    """Return how much has to be downloaded, in MiB."""
    source = settings.weights.source
    files = [registry.weight_file(name) for name in settings.backbones if registry.weights_source(name, source) == "imagenet"]
    weights = sum(file.megabytes for file in files if file and not file.is_cached)
    return weights + sum(DATASETS[name] for name in datasets(settings))


def datasets(settings: Params) -> list[str]:
    """Return the named data sets that have to be downloaded."""
    if settings.fetch.source != "download":
        return []
    names = [name for name in settings.fetch.datasets if name in DATASETS and not Path("data/raw", name).exists()]
    return [name for name in names if not (DOWNLOADS / name).exists()]


def _describe(name: str, settings: Params) -> str:
    source = settings.weights.source
    if source == "random":
        return "random weights"
    if source == "pretrain":
        return "pretrained here"
    folder = Path(settings.weights.folder)
    if hub_folders.is_named(name) and hub_folders.local(name, folder):
        return hub_folders.weight_file(name, folder).name
    if not hub_folders.is_named(name):
        source = registry.weights_source(name, source)
        if source == "package":
            return f"package {packages.package_of(*registry.find(name))}"
        if source == "folder":
            return weight_files.find(folder, name).name
    file = registry.weight_file(name)
    if file is None:
        return "no ImageNet weights"
    size = f"{file.megabytes:,.0f} MiB" if file.megabytes else "its weights"
    return f"{size} in the cache" if file.is_cached else f"downloads {size}"


def check_weights(settings: Params) -> None:
    """Raise WeightsError for weights that a backbone cannot have, or a weight file that holds none."""
    for name in settings.backbones:
        if hub_folders.is_named(name):
            hub_folders.check(name, Path(settings.weights.folder))
            continue
        source = registry.weights_source(name, settings.weights.source)
        if source == "package":
            packages.find(*registry.find(name))
        if source == "imagenet" and registry.weight_file(name) is None:
            raise WeightsError(
                f"{registry.find(name)[0]} has no ImageNet weights for {name}",
                "set `weights.source` to pretrain, or name a folder: `darkroom recipe --weights FOLDER`",
            )
        if source == "folder":
            file = weight_files.find(Path(settings.weights.folder), name)
            try:
                with file.open("rb") as content:
                    start = content.read(64)
            except OSError as error:
                raise WeightsError(f"{file} cannot be read: {(error.strerror or '').lower()}", f"`chmod u+r {file}`") from error
            if start.startswith(_POINTER):
                raise WeightsError(f"{file} is a pointer of Git LFS, without the weights", "fetch them: `git lfs pull`")
            if len(start) < 64:
                raise WeightsError(f"{file} has only {len(start)} bytes", "copy it again from where it came")
            checked_sha256(file)


def checked_sha256(path: Path) -> str:
    """Return what `weight_files.checked_sha256` does; a file that stays as it is, is read once in a process."""
    state = path.stat()
    return _checked_sha256(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache
def _checked_sha256(path: Path, _: tuple[int, ...]) -> str:
    return weight_files.checked_sha256(path)
