"""The files of a source as DVC sees them: what it cannot hash is named, before it stops at it or waits for ever."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from darkroom.config import dvc_graph
from darkroom.core.errors import SourceError, nearest_file, printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.data import manifest

_KINDS = {
    stat.S_IFIFO: "a named pipe, which never ends", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


@dataclass(frozen=True)
class Listing:
    """How many files a source has, and their bytes."""

    files: int
    bytes: int


@dataclass(frozen=True)
class _Hazard:
    path: str
    problem: str
    remedy: str


def check(source: Path) -> Listing:
    """Return the files and bytes of a folder or a file.

    Raises SourceError for one that does not exist, and for what DVC cannot hash in it, by the first name.
    """
    mode = _mode(source)
    if stat.S_ISREG(mode):
        if not os.access(source, os.R_OK):
            raise SourceError(f"{source} cannot be read: permission denied", f"`chmod u+r '{source}'`, or ask its owner")
        return Listing(1, source.stat().st_size)
    if not stat.S_ISDIR(mode):
        raise SourceError(f"{source} is {_KINDS.get(stat.S_IFMT(mode), 'neither a folder nor a file')}", "name a folder of images")
    count = size = 0
    hazards: list[_Hazard] = []
    for item in _walk(str(source)):
        if isinstance(item, _Hazard):
            hazards.append(item)
        else:
            count, size = count + 1, size + item
    if hazards:
        first = min(hazards, key=lambda hazard: os.fsencode(hazard.path))
        alike = sum(hazard.remedy == first.remedy for hazard in hazards) - 1
        more = f" (and {alike:,} more)" if alike else ""
        shown = printable(os.fsencode(first.path).decode("utf-8", "backslashreplace"))
        raise SourceError(f"DVC would stop at {shown}{more}: it {first.problem}", first.remedy)
    return Listing(count, size)


def overlooked(source: Path, files: int) -> str:
    """Return a sentence where dvc.lock says that ingest has read all `files` of a source, and the manifest has another number.

    DVC counts them after ingest has ended. A file that comes in the moment between is in dvc.lock, and was not read.
    """
    locked = dvc_graph.read_lock().get("ingest")
    path = next((Path(out) for out in locked.outs if out.endswith("manifest.parquet")), None) if locked else None
    if not locked or not path or not path.exists() or locked.files.get(source.as_posix()) != check(source).files:
        return ""
    rows = manifest.count(path)
    return (
        f"{source} has {files:,} files, and ingest has read {rows:,}: others came just as it ended; `dvc repro -f ingest` reads all"
        if rows != files
        else ""
    )


def _mode(source: Path) -> int:
    try:
        return source.stat().st_mode
    except FileNotFoundError:
        if source.is_symlink():
            raise SourceError(
                f"{source} is a link to {os.readlink(source)}, which does not exist", "correct the link, or name the folder itself"
            ) from None
        raise SourceError(
            f"there is no {source}{nearest_file(source)}",
            "name a folder with one subfolder of images per class, an archive, Parquet files or an .npz, by `--data` or in "
            "`ingest.source`, or there data/raw/<name> for a data set that `fetch.datasets` names",
        ) from None
    except OSError as error:
        raise SourceError(
            f"{source} cannot be read: {(error.strerror or '').lower()}", "correct the path, or the rights to its folders"
        ) from error


def _walk(root: str) -> Iterator[_Hazard | int]:
    """Yield the bytes of each file and each hazard. DVC does not enter linked folders."""
    rights = "give yourself the right to read it: `chmod -R u+rX FOLDER`; or move it out of the source"
    todo = [root]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(folder) as inside:
                items = list(inside)
        except OSError as error:
            yield _Hazard(folder, f"cannot be read ({(error.strerror or '').lower()})", rights)
            continue
        for item in items:
            if not _is_utf8(item.name):
                yield _Hazard(
                    item.path, "has a name that is not UTF-8",
                    "rename it; `convmv -r -f cp1252 -t utf-8 --notest FOLDER` renames all (or -f cp850, shift_jis, …)",
                )  # fmt: skip
            elif item.name == ".dvcignore":
                yield _Hazard(item.path, "is read by DVC alone, which refuses it inside data", "move it out of the source")
            elif item.is_symlink():
                yield from _check_link(item)
            elif item.is_dir(follow_symlinks=False):
                todo.append(item.path)
            elif not item.is_file(follow_symlinks=False):
                mode = stat.S_IFMT(item.stat(follow_symlinks=False).st_mode)
                yield _Hazard(item.path, f"is {_KINDS.get(mode, 'no file')}", "move it out of the source")
            elif not os.access(item.path, os.R_OK):
                yield _Hazard(item.path, "cannot be read (permission denied)", rights)
            else:
                yield item.stat(follow_symlinks=False).st_size


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_link(item: os.DirEntry[str]) -> Iterator[_Hazard | int]:
    try:
        target = os.stat(item.path)
    except OSError:
        yield _Hazard(
            item.path, f"is a link to {os.readlink(item.path)}, which does not exist", "delete the link, or restore its target"
        )
        return
    if stat.S_ISREG(target.st_mode):
        yield target.st_size
    elif not stat.S_ISDIR(target.st_mode):
        yield _Hazard(item.path, f"is a link to {_KINDS.get(stat.S_IFMT(target.st_mode), 'no file')}", "move it out of the source")
