"""Cells of CSV files that people open: a spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula and runs it.

Such a text, a file's name or a class, gets an apostrophe before it, which `unescaped` takes away again. Numbers stay, and all
cells do where DARKROOM_CSV is `raw`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from darkroom.core import user_paths
from darkroom.core.errors import SourceError

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


def read_rows(path: Path, remedy: str) -> list[list[str]]:
    """Return the rows of a file that a person may have written, without empty ones; cells as they are written.

    Raises ParamsError for what is no file, and SourceError with this remedy for what is no text or no CSV.
    """
    user_paths.check_file(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read: {error}", remedy) from error
