"""Replace a method of a network's modules temporarily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def replaced(functions: Mapping[Module, Callable[..., Any]], name: str = "forward") -> Iterator[None]:
    """Replace the method `name` of modules within a block; RuntimeError where it is replaced already."""
    if any(name in vars(module) for module in functions):
        raise RuntimeError(f"`{name}` of these modules is replaced already, by a block that has not ended")
    for module, function in functions.items():
        setattr(module, name, function)
    try:
        yield
    finally:
        for module in functions:
            delattr(module, name)
