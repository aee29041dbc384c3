"""Tables and JSON on standard output."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from darkroom.core import strict_json

ASCII = box.Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)  # SIMPLE_HEAD where the terminal cannot show its line
UNLIMITED = 10_000  # columns, where nothing has to fit a terminal


def text(header: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = ()) -> str:
    """Return a table as aligned lines below a ruled header; a cell of None is empty.

    `right` are the titles of the columns that are aligned to the right, as numbers are.
    """
    return _render(header, rows, right, Console(file=io.StringIO(), width=UNLIMITED, force_terminal=False))


def show(header: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = ()) -> None:
    """Print a table as `text` has it; on a terminal with a bold header, fitted to its width."""
    if sys.stdout.isatty():
        click.echo(
            _render(header, rows, right, Console(file=io.StringIO(), width=Console().width, force_terminal=True)), color=True
        )
    else:
        click.echo(text(header, rows, right))


def print_json(value: Any) -> None:
    """Print a value as JSON, ASCII only, indented by two."""
    click.echo(strict_json.dumps(value, indent=2))


def _render(header: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str], console: Console) -> str:
    is_unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    table = Table(box=box.SIMPLE_HEAD if is_unicode else ASCII, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in header:
        table.add_column(Text(title), justify="right" if title in right else "left", header_style="bold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
