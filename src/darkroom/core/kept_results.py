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

import numpy as np
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from darkroom.core import atomic

STATE = Path(".darkroom")
PACKAGE = Path(__file__).parents[1]

Arrays = tuple[np.ndarray, ...]
Compute = Callable[[], Arrays]


def folder() -> Path:
    """Return the folder of this workspace; worktrees share `.darkroom` with the project, and run beside it."""
    name = os.path.relpath(Path.cwd(), STATE.resolve().parent)
    return STATE / "resume" / ("main" if name == "." else name.replace(os.sep, "-"))


class KeptResults:
    """The arrays of a stage by key. `identity` is a digest of everything that decides them; those of another one are removed."""

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
            content = {str(number): np.asarray(array, order="C") for number, array in enumerate(arrays)}
            try:
                with atomic.new_file(self._file(key)) as working:
                    save_file(content, working, {"digest": digest(*arrays)})
            except (OSError, SafetensorError) as error:  # the disk is full; the stage may yet end well
                print(f"{self._file(key)} cannot be written ({error}): a kill would cost it", file=sys.stderr)
        return arrays

    def load(self, key: str) -> Arrays | None:
        """Return the arrays of a key, or None where they are missing or damaged."""
        with suppress(OSError, KeyError, TypeError, SafetensorError), safe_open(self._file(key), "numpy") as file:
            arrays = tuple(file.get_tensor(str(number)) for number in range(len(file.keys())))
            if file.metadata()["digest"] == digest(*arrays):
                return arrays
        return None

    def _file(self, key: str) -> Path:
        return self.folder / f"{key.replace('/', '-')}.safetensors"


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
