"""The source files of images: links to them, and the commands that correct their labels."""

from __future__ import annotations

import shlex
from urllib.parse import quote

from darkroom.core.errors import printable


def address(folder: str | None, path: str) -> str:
    """Return the address of an image's file below a folder, relative as the folder is.

    It is empty without a folder (of an archive or arrays), and for names that cannot be printed.
    """
    return "" if folder is None or printable(path) != path else quote(f"{folder}/{path}")


def fix_command(path: str, label: str) -> str:
    """Return the line for a shell that gives an image another label; empty for names that cannot be printed."""
    if printable(path + label) != path + label:
        return ""
    options = "-- " if path.startswith("-") or label.startswith("-") else ""
    return f"darkroom fix {options}{shlex.quote(path)} {shlex.quote(label)}"
