"""Imports that take place when a module is first used, as PEP 810's `lazy import` does."""

from __future__ import annotations

import builtins
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_LOCK = threading.Lock()  # of builtins.__import__


class LazyModule(ModuleType):
    """A module that is imported when one of its attributes is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


class _Package(ModuleType):
    """The package of `from package import module`: each of its attributes is a lazy module."""

    def __getattr__(self, name: str) -> LazyModule:
        return LazyModule(f"{self.__name__}.{name}")


@contextmanager
def lazy_imports() -> Iterator[None]:
    """Import the modules that this block names when they are first used: `from package import module`, `import module`.

    Type checkers and linters see ordinary imports. What is imported must be a module: a class or a function is not.
    """
    with _LOCK:
        eager_import, thread = builtins.__import__, threading.get_ident()

        def lazy_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> ModuleType:
            if threading.get_ident() != thread:
                return eager_import(name, globals, locals, fromlist, level)
            return _Package(name) if fromlist else LazyModule(name)

        builtins.__import__ = lazy_import
        try:
            yield
        finally:
            builtins.__import__ = eager_import
