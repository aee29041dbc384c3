"""Modules that are imported when they are first used, as PEP 810's `lazy import` does.

Commands declare options, help and completion in the module that also does the work. A lazy module keeps `--help` and
the tab key from importing the libraries of that work.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """A module that is imported when one of its attributes is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)
