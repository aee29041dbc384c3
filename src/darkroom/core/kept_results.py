"""Arrays that a stage keeps as soon as it has computed them, so that a run after a kill does not compute them again.

They are in a folder of the workspace's own in `.darkroom/resume`, are used only where their inputs, settings and code are
the same, and are removed by a later stage, once DVC has saved what came of them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from darkroom.core import atomic, large_arrays, shortage
from darkroom.core.errors import WorkspaceError

STATE = Path(".darkroom")
DIGEST = "digest.txt"
PACKAGE = Path(__file__).parents[1]

Arrays = tuple[np.ndarray, ...]
Compute = Callable[[], Arrays]


def folder() -> Path:
    """Return the folder of this workspace; worktrees share `.darkroom` with the project, and run beside it."""
    name = os.path.relpath(Path.cwd(), STATE.resolve().parent)
    return STATE / "resume" / ("main" if name == "." else name.replace(os.sep, "-"))


class KeptResults:
    """The arrays of a stage by key. `identity` is a digest of everything that decides them; those of another one are removed.

    A key has a folder with a .npy file for each of its arrays. Large ones are memory-mapped.
    """

    def __init__(self, name: str, identity: str) -> None:
        self.folder = folder() / name.replace("/", "-") / identity
        for other in self.folder.parent.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)

    def __contains__(self, key: str) -> bool:
        return self.load(key) is not None

    def get(self, key: str, compute: Compute) -> Arrays:
        """Return the arrays of a key, which are computed and kept where they are missing or damaged."""
        arrays = self.load(key)
        if arrays is None:
            arrays = compute()
            try:
                shortage.require_space(self._folder(key), sum(array.nbytes for array in arrays))
                with atomic.new_folder(self._folder(key)) as working:
                    for number, array in enumerate(arrays):
                        np.save(working / f"{number}.npy", array)
                    (working / DIGEST).write_text(f"{len(arrays)} {digest(*arrays)}")
                arrays = self._read(key, len(arrays))
            except (OSError, WorkspaceError) as error:  # the disk is full; the stage may yet end well
                print(f"{self._folder(key)} cannot be written ({shortage.reason(error)}): a kill would cost it", file=sys.stderr)
        return arrays

    def load(self, key: str) -> Arrays | None:
        """Return the arrays of a key, or None where they are missing or damaged."""
        with suppress(OSError, ValueError):
            count, expected = (self._folder(key) / DIGEST).read_text().split()
            arrays = self._read(key, int(count))
            if digest(*arrays) == expected:
                return arrays
        return None

    def _read(self, key: str, count: int) -> Arrays:
        files = [self._folder(key) / f"{number}.npy" for number in range(count)]
        sizes = [file.stat().st_size for file in files]
        modes: list[Literal["c"] | None] = ["c" if size > large_arrays.IN_MEMORY else None for size in sizes]
        return tuple(np.load(file, mmap_mode=mode) for file, mode in zip(files, modes, strict=True))

    def _folder(self, key: str) -> Path:
        return self.folder / key.replace("/", "-")


Get = Callable[[str, Compute], Arrays]


def compute_anew(key: str, compute: Compute) -> Arrays:
    """Do what `KeptResults.get` does where nothing is kept."""
    return compute()


def clear(but: str = "") -> None:
    """Remove what all stages have kept, training included, but for the one of this name."""
    for path in folder().glob("*"):
        if path.name != but:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def digest(*arrays: np.ndarray) -> str:
    """Return a digest of the content of arrays, which may be memory-mapped."""
    result = xxhash.xxh3_128()
    for array in arrays:
        result.update(f"{array.shape} {array.dtype}".encode())
        result.update(np.ascontiguousarray(array).data)
    return result.hexdigest()


def identity(*parts: object, files: Iterable[Path] = (), rooms: Iterable[str] = ()) -> str:
    """Return a digest of values that JSON can hold, files, and the code of rooms of the package."""
    result = xxhash.xxh3_128(json.dumps(parts, sort_keys=True, default=str).encode())
    code = (file for room in rooms for file in sorted((PACKAGE / room).rglob("*.py")))
    for file in (*files, *code):
        result.update(file.read_bytes())
    return result.hexdigest()
