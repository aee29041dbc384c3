"""Paths as people type them: `~` expanded; what is no path is named, with what to write instead."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from darkroom.core.errors import ParamsError, printable

NO_FILE = "a pipe, a device or a socket, not a file"
_LOGIN = re.compile(r"://[^\s/?#]*@")
_SIGNATURE = re.compile(r"[?&][^=&]*(?:sig|signature|token|secret|password|credential|key)[^=&]*=", re.IGNORECASE)
_ADDRESS = re.compile(r"^(?:([a-z][a-z0-9+.-]+)://|(file):/)", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Tell whether a text is an address on the network, and no file of this name."""
    match = _ADDRESS.match(text)
    return bool(match and match[1] and match[1].lower() not in ("file", "local") and not os.path.lexists(text))


def has_secret(address: str) -> bool:
    """Tell whether an address has a user and a password in it, or a signature."""
    return bool(_LOGIN.search(address) or _SIGNATURE.search(address))


def expand(text: str, origin: str, expected: str = "a folder of images") -> Path:
    """Return a path with its `~` expanded.

    Raises ParamsError where the text is empty, an address on the network, or of a user that does not exist.
    `origin` is the option or key that has the text, `expected` what it names.
    """
    if not text.strip():
        raise ParamsError(f"{origin} is empty", f"name {expected}; in a shell, check the variable that was to hold it")
    address = _ADDRESS.match(text)
    if address and not os.path.lexists(text):
        if address[2] or address[1].lower() == "file":
            path = "/" + printable(text[address.end() :]).lstrip("/")
            raise ParamsError(f"{origin} is the address {printable(text)}", f"write the path alone: {path}")
        raise ParamsError(f"{origin} is {printable(text)}, an address on the network", f"download it first, and name {expected}")
    expanded = os.path.expanduser(text)
    if text.startswith("~") and expanded == text:
        if os.path.lexists(text):
            return Path.cwd() / text
        user = text[1:].partition("/")[0]
        missing = f'there is no user "{printable(user)}"' if user else "the home folder is not known"
        raise ParamsError(f"{origin} is {printable(text)}, and {missing}", f"write the whole path of {expected}")
    return Path(expanded)


def read_file(path: Path) -> bytes:
    """Return the bytes of a file. Raises OSError for a pipe, a device or a socket, which might never end."""
    if _may_never_end(path):
        raise OSError(errno.EINVAL, NO_FILE, str(path))
    return path.read_bytes()


def check_file(path: Path) -> None:
    """Raise ParamsError for a pipe, a device or a socket where a file is expected; whoever reads it misses what is not there."""
    if path.exists() and _may_never_end(path):
        raise ParamsError(f"{path} is {NO_FILE}", "name a file; what a program writes to a pipe, let it write to a file first")


def _may_never_end(path: Path) -> bool:
    mode = path.stat().st_mode
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def check_storable(path: Path, origin: str) -> None:
    """Raise ParamsError for a path that params.yaml and dvc.lock cannot hold."""
    shown = printable(os.fsencode(path).decode("utf-8", "backslashreplace"))
    if any(character in str(path) for character in "\0\n\r"):
        raise ParamsError(f"{origin} is {shown}, which has a line break in it", "rename the folder, and name it again")
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ParamsError(
            f"{origin} is {shown}, a name that is not UTF-8: neither params.yaml nor DVC can hold it", "rename it"
        ) from None
