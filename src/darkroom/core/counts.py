"""Counts with their nouns, in grammar: 1 image, 2 images."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with what is counted: `1 image is`, `1,234 images are`.

    Without `many` the plural of `one` has an s, or es after s, x, ch and sh.
    """
    plural = many or one + ("es" if one.endswith(("s", "x", "ch", "sh")) else "s")
    return f"{count:,} {one if count == 1 else plural}"
