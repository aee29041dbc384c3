"""Albumentations without torch, which it imports where it is installed, for tensors that nobody here makes."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType


def albumentations() -> ModuleType:
    """Return albumentations; torch is not imported for it, nor is the network asked for a newer version."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    if "albumentations" in sys.modules or "torch" in sys.modules:
        return importlib.import_module("albumentations")
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("albumentations")
    finally:
        del sys.modules["torch"]
