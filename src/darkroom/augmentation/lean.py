"""Albumentations, imported when it is first used and without torch.

Albumentations imports torch, for tensors that are not made here, which takes longer than making the views of
a small data set: `python benchmarks/augmentation.py`.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from darkroom.core.lazy import LazyModule


class _WithoutTorch(LazyModule):
    def __getattr__(self, name: str) -> Any:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        if "albumentations" in sys.modules or "torch" in sys.modules:
            return super().__getattr__(name)
        sys.modules["torch"] = None  # type: ignore[assignment]
        try:
            importlib.import_module("albumentations")
        finally:
            del sys.modules["torch"]
        return super().__getattr__(name)


albumentations: Any = _WithoutTorch("albumentations")
