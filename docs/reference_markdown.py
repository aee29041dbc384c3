"""Pages and tables in Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 112  # columns of a paragraph
MADE = "<!-- made from the code by docs/reference.py: `make docs` -->"


def page(title: str, lines: Iterable[str]) -> str:
    """Return a page that is made from the code; its paragraphs and lists are wrapped."""
    wrapped: list[str] = []
    words: list[str] = []
    is_code = False
    for line in [*lines, ""]:
        is_code ^= line.startswith("```")
        is_prose = bool(line) and not is_code and not line.startswith(("|", "#", "```"))
        if words and (not is_prose or line.startswith("- ")):
            wrapped += _wrap(" ".join(words))
            words = []
        if is_prose:
            words.append(line)
        else:
            wrapped.append(line)
    return "\n".join([f"# {title}", "", MADE, "", *wrapped])


def _wrap(text: str) -> list[str]:
    """Return the lines of a paragraph, or of an item of a list; code is not divided."""
    unbroken = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), text)
    rest = "  " if text.startswith("- ") else ""
    lines = textwrap.wrap(unbroken, WIDTH, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


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
