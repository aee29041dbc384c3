"""The names of torchvision's classifiers, read from its source. Importing this costs no torch."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

from darkroom.core.errors import ParamsError, nearest

_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@cache
def names() -> tuple[str, ...]:
    """Return the torchvision classifiers that can be a backbone."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ParamsError("torchvision is not installed", "run `make install`")
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return tuple(sorted(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))))


def check(name: str) -> None:
    """Raise ParamsError unless torchvision has a classifier of this name."""
    if name not in names():
        raise ParamsError(
            f'torchvision has no classifier "{name}"{nearest(name, names())}',
            "name torchvision classifiers in `backbones` of params.yaml, for example vgg16 or mobilenet_v2",
        )
