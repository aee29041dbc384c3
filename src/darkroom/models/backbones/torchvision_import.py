"""torchvision, imported without torch's compiler: `from … import torchvision`.

torchvision imports `torch._dynamo` for one function that no classifier calls, which takes as long as
importing torch (`benchmarks/startup.py`). Stand-ins take the compiler's place in `sys.modules` while
torchvision is imported.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch


def _import_torchvision() -> ModuleType:
    if "torchvision" in sys.modules or "torch._dynamo" in sys.modules:
        return importlib.import_module("torchvision")
    compiler, functions = ModuleType("torch._dynamo"), ModuleType("torch._dynamo.utils")
    functions.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    compiler.utils = functions  # type: ignore[attr-defined]
    sys.modules |= {"torch._dynamo": compiler, "torch._dynamo.utils": functions}
    try:
        return importlib.import_module("torchvision")
    finally:
        del sys.modules["torch._dynamo"], sys.modules["torch._dynamo.utils"]
        vars(torch).pop("_dynamo", None)


def _is_compile_supported(device_type: str) -> bool:
    """Ask the compiler itself, when a detector calls this."""
    return bool(importlib.import_module("torch._dynamo.utils").is_compile_supported(device_type))


torchvision = _import_torchvision()
