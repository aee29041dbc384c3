"""What the bytes of a result depend on besides inputs, params and code: libraries, processor, variables that choose kernels."""

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
KERNELS = (  # variables by which numerical libraries take other kernels than those of the processor
    "OPENBLAS_CORETYPE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA",
    "NPY_DISABLE_CPU_FEATURES", "CUBLAS_WORKSPACE_CONFIG",
)  # fmt: skip


@cache
def describe() -> dict[str, str]:
    """Return Python, libraries, processor with the number of its cores, and the variables of `KERNELS`, as texts."""
    return {
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "processor": f"{platforms.processor()}, {os.cpu_count()} cores",
        "kernels": ", ".join(f"{name}={os.environ[name]}" for name in KERNELS if name in os.environ) or "the processor's",
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is missing"
