"""Where the files of a source are: a folder, a tar or a zip archive. Archives are read in place.

Nothing is unpacked under the name of a member, so no name can lead anywhere; of a compressed tar the inner tar, one file,
is written to a scratch folder.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from darkroom.core.errors import SourceError

MOST_FILES = 5_000_000
MOST_BYTES = 512 * 2**30  # of an archive, unpacked
MOST_FILE_BYTES = 2**30  # of one file
_TOO_LONG = f"it has more than {MOST_FILE_BYTES / 2**30:.0f} GiB"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file by its name in the source; `refused` is a reason code where it is not to be read, `key` is what `read` takes."""

    name: str
    key: Any
    refused: str = ""


class Place(Protocol):
    """Files that can be listed once and read by several threads."""

    def entries(self) -> list[Entry]: ...

    def read(self, key: Any) -> bytes:
        """Return a file's bytes. Raises OSError where they cannot be had, ValueError where the archive's are damaged."""


DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError,
    NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


@contextmanager
def place(source: Path, scratch: Path) -> Iterator[tuple[Place, list[Entry]]]:
    """Open a folder or an archive and list it; `scratch` is a folder for what has to be decompressed first.

    Raises SourceError where it is neither, cannot be read, or holds more than the limits allow.
    """
    with ExitStack() as stack:
        try:
            opened = _open(source, scratch, stack)
            entries = opened.entries()
        except PermissionError as error:
            raise SourceError(f"{source} cannot be read: {error.strerror}", "give yourself the right to read it") from error
        except DAMAGED as error:
            known = source.name.lower().endswith(ARCHIVES)
            raise SourceError(
                f"{source} is {'a damaged archive' if known else 'neither a folder, nor an archive, nor an .npz'} ({error})",
                "copy it again from where it came" if known else f"name a folder, or a file of a kind that is read ({_known()})",
            ) from error
        yield opened, entries


def _open(source: Path, scratch: Path, stack: ExitStack) -> Place:
    if source.is_dir():
        return Folder(source)
    with source.open("rb") as file:
        start = file.read(6)
    if zipfile.is_zipfile(source):
        return Zip(source, stack.enter_context(zipfile.ZipFile(source)))
    opener = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), None)
    inner = stack.enter_context(_decompressed(source, opener, scratch)) if opener else source
    tar = stack.enter_context(tarfile.TarFile.open(inner, "r:"))
    return Tar(source, stack.enter_context(inner.open("rb")), tar)


def _known() -> str:
    return ", ".join((*ARCHIVES, ".npz"))


_COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


@contextmanager
def _decompressed(source: Path, opener: Any, scratch: Path) -> Iterator[Path]:
    """Yield the path of the decompressed file, which vanishes afterwards."""
    scratch.mkdir(parents=True, exist_ok=True)
    inner = scratch / f"{os.getpid()}-{source.stem}"
    limit = min(MOST_BYTES, shutil.disk_usage(scratch).free * 9 // 10)
    try:
        with opener(source, "rb") as packed, inner.open("wb") as file:
            copy_limited(packed, file, limit, source)
        yield inner
    finally:
        inner.unlink(missing_ok=True)


def copy_limited(packed: IO[bytes], file: IO[bytes], limit: int, source: Path) -> None:
    """Copy a stream, or raise SourceError where it is longer than `limit` bytes."""
    done = 0
    while block := packed.read(2**20):
        done += len(block)
        if done > limit:
            raise SourceError(
                f"{source} holds more than {limit / 2**30:.0f} GiB when it is unpacked, more than is allowed or free",
                "unpack it yourself, and set `ingest.source` to the folder",
            )
        file.write(block)


class Folder:
    """A folder of the file system. Links are followed to files inside it alone."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entries(self) -> list[Entry]:
        root = self.root.resolve()
        found, todo = [], [("", str(self.root))]
        while todo:
            prefix, folder = todo.pop()
            try:
                with os.scandir(folder) as inside:
                    items = list(inside)
            except OSError as error:
                raise SourceError(
                    f"{folder} cannot be read: {error.strerror}",
                    "give yourself the right to read it, shorten its path, or move it away",
                ) from error
            for item in items:
                name = prefix + item.name
                if item.is_dir(follow_symlinks=False):
                    todo.append((name + "/", item.path))
                elif item.is_file(follow_symlinks=False):
                    found.append(Entry(name, item.path))
                else:
                    found.append(Entry(name, item.path, _refused(item.path, root)))
        return found

    def read(self, key: str) -> bytes:
        with open(key, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > MOST_FILE_BYTES:
                raise OSError(_TOO_LONG)
            return file.readall()


def _refused(path: str, root: Path) -> str:
    """Return why a link, or what is neither file nor folder, is not read; empty for a link to a file inside the source."""
    try:
        target = Path(path).resolve(strict=True)
        if target.is_dir():
            return "linked_folder"
        if root not in target.parents:
            return "leaves_source"
        return "" if target.is_file() else "unreadable"
    except (OSError, RuntimeError):  # a link to nowhere, or to itself
        return "unreadable"


def leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _too_many(source: Path, count: int, size: int) -> None:
    if count > MOST_FILES or size > MOST_BYTES:
        raise SourceError(
            f"{source} holds {count:,} files of {size / 2**30:,.0f} GiB in all; the limits are {MOST_FILES:,} files and "
            f"{MOST_BYTES / 2**30:.0f} GiB",
            "unpack it yourself, and set `ingest.source` to the folder",
        )


class Tar:
    """An uncompressed tar, whose members are read where they lie. Of several members of one name the last is the file."""

    def __init__(self, source: Path, file: IO[bytes], tar: tarfile.TarFile) -> None:
        self.source, self.file, self.tar = source, file, tar
        self.lock = threading.Lock()

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        size = 0
        for member in self.tar:
            if member.isdir():
                continue
            size += max(member.size, 0)
            _too_many(self.source, len(found) + 1, size)
            refused = "" if member.isreg() else "linked_file" if member.issym() or member.islnk() else "unreadable"
            name = member.name.removeprefix("./")
            found.append(Entry(name, member, "leaves_source" if leads_out(name) else refused))
        return _last_of_each(found)

    def read(self, key: tarfile.TarInfo) -> bytes:
        if key.size > MOST_FILE_BYTES:
            raise OSError(_TOO_LONG)
        if key.issparse():
            with self.lock:
                inner = self.tar.extractfile(key)
                return inner.read() if inner else b""
        content = os.pread(self.file.fileno(), key.size, key.offset_data)
        while len(content) < key.size:
            more = os.pread(self.file.fileno(), key.size - len(content), key.offset_data + len(content))
            if not more:
                raise ValueError("the archive ends before this file does")
            content += more
        return content


class Zip:
    """A zip archive, whose members are read where they lie."""

    def __init__(self, source: Path, archive: zipfile.ZipFile) -> None:
        self.source, self.archive = source, archive

    def entries(self) -> list[Entry]:
        members = [member for member in self.archive.infolist() if not member.is_dir()]
        _too_many(self.source, len(members), sum(member.file_size for member in members))
        found = []
        for member in members:
            refused = "encrypted" if member.flag_bits & 1 else ""
            if stat.S_ISLNK(member.external_attr >> 16):
                refused = "linked_file"
            name = member.filename.replace("\\", "/").removeprefix("./")
            found.append(Entry(name, member, "leaves_source" if leads_out(name) else refused))
        return _last_of_each(found)

    def read(self, key: zipfile.ZipInfo) -> bytes:
        try:
            with self.archive.open(key) as file:
                content = file.read(MOST_FILE_BYTES + 1)
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise ValueError(str(error)) from error
        except Exception as error:  # zlib.error, lzma.LZMAError, RuntimeError
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if len(content) > MOST_FILE_BYTES:
            raise OSError(_TOO_LONG)
        return content


def _last_of_each(entries: list[Entry]) -> list[Entry]:
    """Mark members that a later member of the same name replaces."""
    last = {entry.name: i for i, entry in enumerate(entries)}
    if len(last) == len(entries):
        return entries
    return [entry if last[entry.name] == i else Entry(entry.name, entry.key, "superseded") for i, entry in enumerate(entries)]
