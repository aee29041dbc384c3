"""What the bytes of a result depend on besides inputs, params and code: libraries, processor, threads."""

from __future__ import annotations

import os
import platform
from functools import cache

from darkroom.core import platforms
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from importlib import metadata

LIBRARIES = (
    "torch", "torchvision", "numpy", "scipy", "scikit-learn", "onnxruntime", "opencv-python-headless", "pillow", "simplejpeg",
    "albumentations",
)  # fmt: skip


@cache
def describe() -> dict[str, str]:
    """Return Python, libraries and processor with the number of its cores, as texts."""
    return {
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "processor": f"{platforms.processor()}, {os.cpu_count()} cores",
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is missing"
