"""Cells of CSV files that people open: a spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula and runs it.

Such a text, a file's name or a class, gets an apostrophe before it, which `unescaped` takes away again. Numbers stay, and all
cells do where DARKROOM_CSV is `raw`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

FORMULA = re.compile(r"'*[=+\-@\t\r]")  # apostrophes that are there too, so that a text comes back as it was
RAW = "DARKROOM_CSV"


def escaped(row: Iterable[Any]) -> list[Any]:
    """Return the cells of a row as they are written."""
    return [_escape(cell) if isinstance(cell, str) and os.environ.get(RAW) != "raw" else cell for cell in row]


def _escape(cell: str) -> str:
    if not FORMULA.match(cell):
        return cell
    with suppress(ValueError):
        float(cell)
        return cell
    return f"'{cell}"


def unescaped(cell: str) -> str:
    """Return the text of a cell, written as it is or escaped."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
