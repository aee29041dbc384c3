"""Files and folders that appear whole or not at all, even when the process is killed or the power fails.

An output is written into a scratch folder beside it, `.NAME.RANDOM.partial`, brought to the disk, and then renamed into
place. The scratch folder holds `lock`, which the writer holds while it lives; `new`, the output being written; and
`old`, the folder that it replaces. A scratch folder whose lock is free was left by a killed writer: `recover`
finishes the swap if it had begun, and deletes the rest. The next writer of the same path does so, and each stage for the
folders where outputs are (`sweep`). RANDOM begins with a tag of the machine: on a shared disk the locks of other machines
may not be seen, so that what they leave is touched only when it is `FOREIGN_AGE` old. DVC ignores these names, see .dvcignore.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from darkroom.core import shortage, strict_json
from darkroom.core.locks import hold, is_taken

PARTIAL = ".partial"
FOREIGN_AGE = 86_400.0  # seconds since the last write to what another machine has left
MOST_SYNCED = 200  # files of a folder that are brought to the disk one by one
MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
_NAME = re.compile(r"\.(.+)\.(\w+)\.partial")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block succeeds and vanishes when it
    fails.

    At every instant the old or the new folder is whole at `path`, or `recover` puts the new one there.
    """
    with scratch_folder(path) as scratch:
        new = scratch / "new"
        new.mkdir()
        yield new
        _to_disk(new)
        if os.path.lexists(path):
            path.rename(scratch / "old")
        new.rename(path)
        _to_disk(path.parent, recursive=False)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file takes the place of `path` when the block succeeds and vanishes when
    it fails.
    """
    with scratch_folder(path) as scratch:
        yield scratch / "new"
        _to_disk(scratch / "new")
        (scratch / "new").replace(path)
        _to_disk(path.parent, recursive=False)


def write_json(path: Path, content: Any, private: bool = False) -> None:
    """Write JSON whose bytes depend on the content alone; a private file is for its owner alone."""
    with new_file(path) as working:
        if private:
            working.touch(0o600)
        working.write_text(strict_json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a locked folder beside `path`, for what is needed to write `path`.

    It vanishes when the block ends; those of killed writers of `path` vanish now.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in scratch_folders(path.parent):
        if _target(left) == path:
            recover(left)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.{MACHINE}", suffix=PARTIAL, dir=path.parent))
    with hold(scratch / "lock"):  # makes the folder again if `darkroom tidy` has just removed it
        try:
            with shortage.noted(path, scratch):
                yield scratch
        finally:
            _finish(scratch)


def scratch_folders(folder: Path) -> list[Path]:
    """Return the scratch folders directly inside a folder, of writers alive and dead."""
    return sorted(path for path in folder.iterdir() if is_scratch(path.name) and path.is_dir())


def is_scratch(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def is_abandoned(scratch: Path) -> bool:
    """Return whether the writer of a scratch folder is dead, as far as this machine can tell."""
    return not _may_be_foreign(scratch) and not is_taken(scratch / "lock")


def _may_be_foreign(scratch: Path) -> bool:
    """Return whether another machine may be writing there."""
    match = _NAME.fullmatch(scratch.name)
    token = match[2] if match else ""
    if len(token) <= len(MACHINE) or token.startswith(MACHINE):  # a short one is of an earlier version
        return False
    newest = 0.0
    for path in (scratch, *scratch.rglob("*")):
        with suppress(OSError):
            newest = max(newest, path.stat().st_mtime)
    return time.time() - newest < FOREIGN_AGE


def sweep(folders: Iterable[Path]) -> None:
    """Recover what killed processes have left directly inside folders; what has no lock may be a person's."""
    for folder in folders:
        with suppress(OSError):
            for scratch in scratch_folders(folder):
                if (scratch / "lock").exists():
                    recover(scratch)


def recover(scratch: Path) -> None:
    """Finish the swap that a killed writer began, and delete its scratch folder.

    Leave that of a living writer alone, and of one that may live on another machine.
    """
    if _may_be_foreign(scratch):
        return
    with hold(scratch / "lock", wait=0) as acquired:
        if acquired:
            _finish(scratch)


def _target(scratch: Path) -> Path:
    """Return the path that a scratch folder belongs to."""
    return scratch.with_name(_NAME.sub(r"\1", scratch.name))


def _finish(scratch: Path) -> None:
    # `new` beside `old` is whole: the old folder is moved aside only once the block has succeeded
    new, path = scratch / "new", _target(scratch)
    if new.exists() and os.path.lexists(scratch / "old") and not os.path.lexists(path):
        new.rename(path)
    shutil.rmtree(scratch, ignore_errors=True)


def _to_disk(path: Path, recursive: bool = True) -> None:
    """Wait until a file, or a folder with all in it, is on the disk.

    Renamed before that, it could be there and empty after a power failure. A folder of more than `MOST_SYNCED` files, as of
    images that `fetch` can write again, is left to the system: each costs milliseconds on many a disk.
    """
    paths = [path]
    if recursive and path.is_dir():
        paths += islice(path.rglob("*"), MOST_SYNCED + 1)
        if len(paths) > MOST_SYNCED:
            return
    for item in paths:
        with suppress(OSError):  # a link to nowhere, or a file system that cannot
            file = os.open(item, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
