"""Pages and tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MADE = "<!-- made from the code by docs/reference.py: `make docs` -->"


def page(title: str, lines: Iterable[str]) -> str:
    """Return a page that is made from the code."""
    return "\n".join([f"# {title}", "", MADE, "", *lines]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [
        f"| {' | '.join(header)} |",
        f"|{' --- |' * len(header)}",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |" for row in rows),
    ]


def plain(text: str) -> str:
    """Return a text whose signs have no meaning in Markdown, but for what stands in backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<\[\]])", r"\\\1", part) for part in parts)
