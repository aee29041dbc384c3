"""Files and folders that appear whole or not at all, even when the process is killed.

An output is written into a scratch folder beside it, `.NAME.RANDOM.partial`, and then renamed into place. The
scratch folder holds `lock`, which the writer holds while it lives; `new`, the output being written; and
`old`, the folder that it replaces. A scratch folder whose lock is free was left by a killed writer: `recover`
finishes the swap if it had begun, and deletes the rest. DVC ignores these names, see .dvcignore.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom.core import strict_json
from darkroom.core.locks import hold, is_taken

PARTIAL = ".partial"
_NAME = re.compile(r"\.(.+)\.\w+\.partial")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block succeeds and vanishes when it
    fails.

    At every instant the old or the new folder is whole at `path`, or `recover` puts the new one there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in scratch_folders(path.parent):
        if _target(left) == path:
            recover(left)
    with scratch_folder(path) as scratch:
        new = scratch / "new"
        new.mkdir()
        yield new
        if os.path.lexists(path):
            path.rename(scratch / "old")
        new.rename(path)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file takes the place of `path` when the block succeeds and vanishes when
    it fails.
    """
    with scratch_folder(path) as scratch:
        yield scratch / "new"
        (scratch / "new").replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whose bytes depend on the content alone."""
    with new_file(path) as working:
        working.write_text(strict_json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a locked folder beside `path`, for what is needed to write `path`.

    It vanishes when the block ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent))
    with hold(scratch / "lock"):  # makes the folder again if `darkroom tidy` has just removed it
        try:
            yield scratch
        finally:
            _finish(scratch)


def scratch_folders(folder: Path) -> list[Path]:
    """Return the scratch folders directly inside a folder, of writers alive and dead."""
    return sorted(path for path in folder.iterdir() if is_scratch(path.name) and path.is_dir())


def is_scratch(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def is_abandoned(scratch: Path) -> bool:
    """Return whether the writer of a scratch folder is dead."""
    return not is_taken(scratch / "lock")


def recover(scratch: Path) -> None:
    """Finish the swap that a killed writer began, and delete its scratch folder.

    Leave that of a living writer alone.
    """
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
