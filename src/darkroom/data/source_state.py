"""The files of a source at one moment, to notice what was added, changed or removed while they were read.

DVC hashes a stage's dependencies after it has run. An image that was added meanwhile would count as read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from darkroom.core.errors import SourceError, printable
from darkroom.data.folder_source import Folder

State = Mapping[str, tuple[int, ...]]
SHOWN = 3


def observe(source: Path) -> State:
    """Return the identity, size and times of each file of a folder, or of the file that the source is."""
    if not source.is_dir():
        return {source.name: _state(source)}
    return {entry.name: _state(entry.key) for entry in Folder(source).entries()}


def changes(before: State, after: State) -> str:
    """Return in words what was added, removed and changed; empty where nothing was."""
    added, removed = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    kinds = {"added": added, "removed": removed, "changed": changed}
    return "; ".join(f"{len(names):,} {kind} ({_shown(names)})" for kind, names in kinds.items() if names)


def unsteady(source: Path, words: str, attempts: int) -> SourceError:
    """Return the error about a source that changed whenever it was read."""
    return SourceError(
        f"the files of {source} changed each of the {attempts} times that they were read, the last time: {words}",
        "run `dvc repro` again when nothing writes there any more",
        retryable=True,
    )


def _state(path: str | Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:  # a link to nowhere
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _shown(names: list[str]) -> str:
    return printable(", ".join(names[:SHOWN])) + (", …" if len(names) > SHOWN else "")
