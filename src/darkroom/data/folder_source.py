"""The files of a folder of the file system.

Links to files are followed wherever they lead, as DVC and people make them. A link to a folder is followed
once, and never into a folder that is being listed. Nothing but regular files is opened.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.core import machine_limits
from darkroom.core.errors import SourceError, printable

MAX_FILE_BYTES = 2**30
MAX_FOLDERS = 1_000_000
BLOCK = 2**16  # bytes that are read where a file goes on after its size
MAX_GROWTH = 2**26  # bytes by which a file may grow while it is read
ENDLESS = f"more than {MAX_GROWTH >> 20} MiB came after its end: it grows, or is no file of a disk"
TOO_LONG = f"it has more than {MAX_FILE_BYTES / 2**30:.0f} GiB"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file by its name in the source; `refused` says why it must not be read, `read` takes its `key`."""

    name: str
    key: Any
    refused: str = ""


class Folder:
    """A folder of the file system; after `entries`, `folders` are the names of those in it, empty ones too."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: list[str] = []
        self.notes: list[str] = []

    def entries(self) -> list[Entry]:
        root = os.path.realpath(self.root)
        entries: list[Entry] = []
        linked: list[str] = []
        followed: set[str] = {root}
        todo = [("", str(self.root), root)]
        while todo:
            prefix, folder, real = todo.pop()
            for item in _list_folder(folder):
                name = prefix + item.name
                if item.is_dir(follow_symlinks=False):
                    self.folders.append(name)
                    todo.append((name + "/", item.path, os.path.join(real, item.name)))
                elif item.is_file(follow_symlinks=False):
                    entries.append(Entry(name, item.path))
                elif _is_folder_link(item):
                    target = os.path.realpath(item.path)
                    if any(_contains(one, target) or _contains(target, one) for one in followed) or _contains(target, real):
                        entries.append(Entry(name, item.path, "linked_folder"))
                        continue
                    followed.add(target)
                    linked.append(name)
                    self.folders.append(name)
                    todo.append((name + "/", item.path, target))
                else:
                    entries.append(Entry(name, item.path, "" if _is_regular(item.path) else "unreadable"))
            if len(self.folders) > MAX_FOLDERS:
                raise SourceError(f"{self.root} has more than {MAX_FOLDERS:,} folders", "name a folder of images")
        if linked:
            shown = printable(", ".join(linked[:4])) + (", …" if len(linked) > 4 else "")
            self.notes.append(
                f"{shown} {'is a link to a folder' if len(linked) == 1 else 'are links to folders'}: DVC does not see what changes "
                "there; run `dvc repro -f ingest` after a change"
            )
        return entries

    def read(self, key: str) -> bytes:
        with open(key, "rb", buffering=0, opener=_open_regular) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise OSError(TOO_LONG)
            parts: list[bytes] = []
            read = 0
            while part := file.read(max(size - read, BLOCK)):
                parts.append(part)
                read += len(part)
                if read > size + MAX_GROWTH:  # files of /proc have no size, and may have no end
                    raise OSError(ENDLESS)
            return b"".join(parts)


def _list_folder(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by name, so that of two links to one folder always the same is followed."""
    try:
        with os.scandir(folder) as inside:
            return sorted(inside, key=lambda item: os.fsencode(item.name))
    except OSError as error:
        machine_limits.check(error)
        if isinstance(error, FileNotFoundError):
            problem = f"{folder} was there and is gone: something else changes the folder"
            raise SourceError(problem, "wait until it has ended, then run the command again", retryable=True) from error
        raise SourceError(
            f"{folder} cannot be read: {error.strerror}",
            "give yourself the right to read it, shorten its path, or move it away",
        ) from error


def _is_folder_link(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_symlink() and item.is_dir()
    except OSError:  # a link to itself
        return False


def _contains(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # a link to nowhere, or to itself
        return False


def _open_regular(path: str, flags: int) -> int:
    """Open a file without waiting for a writer, should it have become a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
