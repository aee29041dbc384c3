"""torchvision and new networks without torch's compiler, whose import takes longer than torch's own.

Importing torchvision imports `torch._dynamo` for one function that no classifier calls, and torch's exporter to tell it of
detectors' operations; drawing weights on the meta device imports the compiler too. Together they are half of what a stage that
trains needs to start.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_COMPILER = ("torch._dynamo", "torch._dynamo.utils")
_EXPORTED = "torchvision.ops._register_onnx_ops"
_FILLERS = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.fill_, torch.Tensor.zero_, torch.Tensor.erfinv_}


def torchvision() -> ModuleType:
    """Return torchvision; torch's compiler is imported only when something calls it, and no exporter learns of detectors."""
    if "torchvision" in sys.modules or any(name in sys.modules for name in _COMPILER):
        return importlib.import_module("torchvision")
    package, part = (ModuleType(name) for name in _COMPILER)
    part.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    package.utils = part  # type: ignore[attr-defined]
    export = ModuleType(_EXPORTED)
    export._register_custom_op = lambda: None  # type: ignore[attr-defined]
    stand_ins = dict(zip((*_COMPILER, _EXPORTED), (package, part, export), strict=True))
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module("torchvision")
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
        if vars(torch).get("_dynamo") is package:
            del torch._dynamo  # type: ignore[attr-defined]


def _is_compile_supported(device_type: str) -> bool:
    """What torchvision asks of the compiler, asked when it is needed."""
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))


class Undrawn(TorchFunctionMode):
    """A context in which tensors are not filled: what the meta device, which has shapes alone, needs of `torch.nn.init`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func in _FILLERS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
