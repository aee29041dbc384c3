"""torchvision's classifiers and the files of their weights, read from its source: without torch, in milliseconds."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from darkroom.core.errors import ParamsError
from darkroom.models.backbones.weight_file import WeightFile, cache_folder

_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@cache
def names() -> tuple[str, ...]:
    """Return the classifiers that can be a backbone."""
    return tuple(sorted(name for file in _files() for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))))


def weight_file(name: str) -> WeightFile | None:
    """Return the file of a classifier's default ImageNet weights; None where it has none."""
    file = _weight_files().get(name.lower())
    if file is None:
        return None
    url, megabytes = file
    return WeightFile(url, cache_folder() / url.rsplit("/", 1)[-1], megabytes)


def _files() -> list[Path]:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ParamsError(
            "torchvision is not installed",
            "install the one that belongs to the installed torch: `make install`, or `pip install torchvision`",
        )
    return sorted((Path(spec.origin).parent / "models").glob("*.py"))


@cache
def _weight_files() -> Mapping[str, tuple[str, float]]:
    """Return address and MiB of the default weights by the classifier's name, from its own tables."""
    result: dict[str, tuple[str, float]] = {}
    for path in _files():
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
