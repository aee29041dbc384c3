"""Names that a module registers with a decorator, read from its source: listing them imports nothing of it."""

from __future__ import annotations

import ast
from pathlib import Path


def decorated_functions(path: Path, decorator: str) -> tuple[str, ...]:
    """Return the names of the functions of a module that have a decorator, written as a plain name, in their order."""
    return tuple(
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == decorator for mark in node.decorator_list)
    )
