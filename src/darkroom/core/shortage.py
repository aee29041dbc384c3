"""A full disk and too little memory, as each library reports them: one sentence, and exit code 75, since it may pass."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darkroom.core import platforms
from darkroom.core.errors import DarkroomError, WorkspaceError

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_MESSAGE = re.compile(r"no space left on device|disk is full|disk quota exceeded|\d+ requested and \d+ written", re.IGNORECASE)
MEMORY_MESSAGE = re.compile(
    r"(can't|cannot|failed to|unable to) (re)?alloc|bad.?alloc|insufficient memory|out of memory|failed to map segment|"
    r"can't start new thread",
    re.IGNORECASE,
)
OUTPUT = "darkroom_output"  # the attribute of an error: the path of an output, its bytes until then, and those that were free
_SCRATCH = re.compile(r"\.([^/]+)\.\w+\.partial(/new)?")  # of `core/atomic`, beside the output
FREE_DISK = (
    "free some: `darkroom tidy`, then `dvc gc --workspace --all-commits` frees what no commit uses; then run the command again"
)
FREE_MEMORY = (
    "end other programs, raise the limit (`ulimit -v`, that of the container), or lower `compute.threads`, a batch size or "
    "`ingest.image_size`; then run the command again"
)


def explain(error: BaseException) -> DarkroomError | None:
    """Return the sentence about a full disk or too little memory where one of them is the cause of an error, else None.

    What has a sentence already is left alone.
    """
    for cause in [] if isinstance(error, DarkroomError) else _causes(error):
        message = str(cause)
        if _is_disk_full(cause):
            name = getattr(cause, "filename", None)
            named = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else _fullest()
            path, written, free = getattr(cause, OUTPUT, (named, 0, None))
            return disk_full(path, written, at_least=True, free=free)
        if type(cause).__name__ == "BrokenProcessPool":
            return killed("a worker process")
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM or MEMORY_MESSAGE.search(message):
            reason = message.strip().splitlines()
            return WorkspaceError(f"there is too little memory{': ' + reason[0] if reason else ''}", FREE_MEMORY, retryable=True)
    return None


def killed(name: str) -> DarkroomError:
    """Return the error of a process that SIGKILL has ended."""
    problem = f"{name} was killed, as the operating system does where memory runs out"
    return WorkspaceError(problem, FREE_MEMORY, retryable=True)


@contextmanager
def noted(path: Path, written: Path) -> Iterator[None]:
    """Let `explain` name the output that a full disk has no room for, and its bytes until then, those of the folder `written`.

    A write that fails says neither. Of several outputs that are under way the inner one is named.
    """
    try:
        yield
    except DarkroomError:
        raise
    except Exception as error:
        for cause in _causes(error):
            if _is_disk_full(cause) and not hasattr(cause, OUTPUT):
                with suppress(AttributeError):  # the attribute `filename` would change the message of an OSError without a number
                    free = shutil.disk_usage(written).free  # what was written is removed then
                    setattr(cause, OUTPUT, (path, folder_bytes(written), free))
        raise


def _is_disk_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in FULL or FULL_MESSAGE.search(str(error)) is not None


def _fullest() -> Path:
    """Return the working folder or that of temporary files, whichever has less space: the two that nobody has named."""
    return min((Path.cwd(), Path(tempfile.gettempdir())), key=lambda folder: shutil.disk_usage(folder).free)


def disk_full(path: Path, needed: int = 0, at_least: bool = False, free: int | None = None) -> DarkroomError:
    """Return the error of a file or folder that does not fit on its disk; `needed` are its bytes, where they are known, and
    `free` those that were free when it did not, now by default.
    """
    path = Path(_SCRATCH.sub(r"\1", str(path)))  # the output's own name
    folder = _nearest_folder(path)
    free = shutil.disk_usage(folder).free if free is None else free
    need = f"{path} needs {'more than ' if at_least else ''}{needed / 1e6:,.1f} MB, and " if needed else ""
    return WorkspaceError(f"the disk is full: {need}{free / 1e6:,.1f} MB are free in {folder}", FREE_DISK, retryable=True)


def require_space(path: Path, needed: int, at_least: bool = False) -> None:
    """Raise the error of a full disk where a file or folder of so many bytes, or at least so many, does not fit on its disk.

    To be called before it is written, wherever its size is known: the message then says what it needs.
    """
    if shutil.disk_usage(_nearest_folder(path)).free < needed:
        raise disk_full(path, needed, at_least)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of the files in a folder and its folders."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def reason(error: Exception) -> str:
    """Return why a file could not be written, without a remedy."""
    known = error if isinstance(error, DarkroomError) else explain(error)
    return known.problem if known else str(error)


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of a file, or raise the error of a full disk, before anything is written where that is possible."""
    require_space(target, source.stat().st_size)
    platforms.copy_file(source, target)


def _nearest_folder(path: Path) -> Path:
    return next((parent for parent in (path.absolute(), *path.absolute().parents) if parent.is_dir()), Path("/"))


def reserve_space(path: Path) -> None:
    """Give a file that was made with its final size its space on disk, or raise the error of a full disk.

    Written through a memory map, a file without its space ends the process (SIGBUS) when the disk is full. Where a file system
    cannot reserve space, nothing is reserved.
    """
    try:
        platforms.reserve_space(path)
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(path, path.stat().st_size) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
