"""What has to be downloaded, and how much of it: read from torchvision's source, without torch or a network."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from darkroom.config.params import Params
from darkroom.core.errors import WeightsError
from darkroom.models import weight_files

DOWNLOADS = Path(".darkroom/downloads")
DATASETS = {"mnist": 12, "fashion_mnist": 30, "cifar10": 170}  # MB, as the recipes have it
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class WeightFile:
    """A file of ImageNet weights: where it comes from, where torch keeps it, and its size in MiB."""

    url: str
    cached: Path
    megabytes: float

    @property
    def is_cached(self) -> bool:
        """Whether torch has it already."""
        return self.cached.is_file()


def imagenet(name: str) -> WeightFile | None:
    """Return the file of torchvision's default weights of a classifier; None where it has none."""
    file = _weight_files().get(name.lower())
    if file is None:
        return None
    url, megabytes = file
    return WeightFile(url, cache_folder() / url.rsplit("/", 1)[-1], megabytes)


def cache_folder() -> Path:
    """Return the folder in which torch keeps weight files; as torch.hub finds it, whose import takes seconds."""
    home = os.environ.get("TORCH_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"))
    return Path(os.path.expanduser(home), "hub", "checkpoints")


@cache
def _weight_files() -> Mapping[str, tuple[str, float]]:
    """Return address and MiB of the default weights by the classifier's name, from torchvision's own tables."""
    spec = importlib.util.find_spec("torchvision")
    result: dict[str, tuple[str, float]] = {}
    for path in sorted((Path(spec.origin).parent / "models").glob("*.py")) if spec and spec.origin else ():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("_Weights"):
                default = _default(node)
                if default:
                    result[node.name.removesuffix("_Weights").lower()] = default
    return result


def _default(enum: ast.ClassDef) -> tuple[str, float] | None:
    """Return address and MiB of the member that DEFAULT names."""
    members = {
        node.targets[0].id: node.value
        for node in enum.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    default = members.get("DEFAULT")
    member = members.get(default.id) if isinstance(default, ast.Name) else None
    if member is None:
        return None
    constants: dict[str, object] = {}
    for node in ast.walk(member):
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            constants[str(node.arg)] = node.value.value
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    constants[str(key.value)] = value.value
    url, size = constants.get("url"), constants.get("_file_size")
    return (url, float(size)) if isinstance(url, str) and isinstance(size, (int, float)) else None


def backbones(settings: Params) -> dict[str, str]:
    """Return what each backbone starts from, with the size of what has to be downloaded."""
    return {name: _describe(name, settings) for name in settings.backbones}


def megabytes(settings: Params) -> float:
    """Return how much has to be downloaded, in MiB."""
    files = [imagenet(name) for name in settings.backbones] if settings.weights.source == "imagenet" else []
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
    if source == "folder":
        return weight_files.find(Path(settings.weights.folder), name).name
    file = imagenet(name)
    if file is None:
        return "no ImageNet weights"
    return f"{file.megabytes:,.0f} MiB in torch's cache" if file.is_cached else f"downloads {file.megabytes:,.0f} MiB"


def check_weights(settings: Params) -> None:
    """Raise WeightsError for weights that a backbone cannot have, or a weight file that holds none."""
    source = settings.weights.source
    for name in settings.backbones:
        if source == "imagenet" and imagenet(name) is None:
            raise WeightsError(
                f"torchvision has no ImageNet weights for {name}",
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
            weight_files.checked_sha256(file)
