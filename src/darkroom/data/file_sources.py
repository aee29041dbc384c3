"""The files of a folder, a tar or a zip archive. Archives are read in place.

Nothing is unpacked under the name of a member, so no name can lead anywhere. Of a compressed tar the inner
tar, one file, is written to a scratch folder.
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
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, Self

from darkroom.core import atomic, machine_limits, shortage
from darkroom.core.errors import SourceError
from darkroom.data import zip_names
from darkroom.data.folder_source import MAX_FILE_BYTES, TOO_LONG, Entry, Folder

MAX_FILES = 5_000_000
MAX_BYTES = 512 * 2**30  # of an archive, unpacked
MAX_TEXT = 2**24  # bytes of the names and comments of a member of a tar
_TEXT_TYPES = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError,
    NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip
_COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


class Reader(Protocol):
    """Files that can be read by several threads, by their keys."""

    def read(self, key: Any) -> bytes:
        """Return the bytes of a file.

        Raises OSError where it cannot be read, ValueError where the archive is damaged, and MemoryError or WorkspaceError
        where the machine lacks memory or open files.
        """


class FileSource(Reader, Protocol):
    """Files that can be listed once and read by several threads.

    After that `folders` are the names of all folders, also empty ones, and `notes` what a person should know.
    """

    folders: list[str]
    notes: list[str]

    def entries(self) -> list[Entry]: ...


@contextmanager
def open_files(source: Path, scratch: Path) -> Iterator[tuple[FileSource, list[Entry]]]:
    """Open a folder or an archive and list it; `scratch` is the folder for a decompressed tar.

    Raises SourceError where it is neither, cannot be read, or holds more than the limits allow.
    """
    with ExitStack() as stack:
        try:
            files = _open(source, scratch, stack)
            entries = files.entries()
        except PermissionError as error:
            raise SourceError(f"{source} cannot be read: {error.strerror}", "give yourself the right to read it") from error
        except (*DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk; bz2 has none for damaged bytes
                raise
            machine_limits.check(error)
            if source.name.lower().endswith(ARCHIVES):
                raise SourceError(f"{source} is a damaged archive ({error})", "copy it again from where it came") from error
            raise SourceError(
                f"{source} is neither a folder, nor an archive, nor an .npz ({error})",
                f"name a folder, or a file of a kind that is read ({', '.join((*ARCHIVES, '.parquet', '.npz'))})",
            ) from error
        yield files, entries


def _open(source: Path, scratch: Path, stack: ExitStack) -> FileSource:
    if source.is_dir():
        return Folder(source)
    with source.open("rb") as file:
        start = file.read(6)
    if zipfile.is_zipfile(source):
        return Zip(source, stack.enter_context(zipfile.ZipFile(source)))
    opener = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), None)
    inner = source
    if opener:
        folder = stack.enter_context(atomic.scratch_folder(scratch / source.name))
        inner = folder / "archive.tar"
        with opener(source, "rb") as packed:
            copy_limited(packed, inner, source)
    tar = stack.enter_context(tarfile.TarFile.open(inner, "r:", tarinfo=_Member))
    return Tar(source, stack.enter_context(inner.open("rb")), tar)


def copy_limited(packed: IO[bytes], target: Path, source: Path) -> None:
    """Copy a stream to a file; SourceError where it is longer than is allowed, WorkspaceError where most of the disk would go."""
    room = shutil.disk_usage(target.parent).free * 9 // 10
    size = 0
    with target.open("wb") as file:
        while block := packed.read(2**20):
            size += len(block)
            if size > MAX_BYTES:
                raise SourceError(
                    f"{source} holds more than {MAX_BYTES / 2**30:.0f} GiB when it is unpacked, more than is allowed",
                    "unpack it yourself, and set `ingest.source` to the folder",
                )
            if size > room:
                raise shortage.disk_full(target, size, at_least=True)
            file.write(block)


def leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _check_limits(source: Path, count: int, size: int) -> None:
    if count > MAX_FILES or size > MAX_BYTES:
        raise SourceError(
            f"{source} holds {count:,} files of {size / 2**30:,.0f} GiB in all; the limits are {MAX_FILES:,} files and "
            f"{MAX_BYTES / 2**30:.0f} GiB",
            "unpack it yourself, and set `ingest.source` to the folder",
        )


class _Member(tarfile.TarInfo):
    """A member whose name and other text are limited, since tarfile reads them into memory, as long as their header says."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _TEXT_TYPES and member.size > MAX_TEXT:
            raise tarfile.ReadError(f"a member has {member.size:,} bytes of names and comments")
        return member


class Tar:
    """An uncompressed tar. Of several members of one name the last is the file."""

    def __init__(self, source: Path, file: IO[bytes], tar: tarfile.TarFile) -> None:
        self.source, self.file, self.tar = source, file, tar
        self.lock = threading.Lock()
        self.folders: list[str] = []
        self.notes: list[str] = []

    def entries(self) -> list[Entry]:
        entries: list[Entry] = []
        size = end = 0
        for member in self.tar:
            end = member.offset_data + (0 if member.isdir() else max(member.size, 0))
            if member.isdir():
                self.folders.append(member.name.removeprefix("./").rstrip("/"))
                continue
            size += max(member.size, 0)
            _check_limits(self.source, len(entries) + 1, size)
            refused = "" if member.isreg() else "linked_file" if member.issym() or member.islnk() else "unreadable"
            name = member.name.removeprefix("./")
            entries.append(Entry(name, member, "leaves_source" if leads_out(name) else refused))
        if os.fstat(self.file.fileno()).st_size < end + tarfile.BLOCKSIZE:  # two blocks of zeros are the end of a tar
            self.notes.append(f"warning: {self.source} has no end mark: it may be cut off, and lack files")
        return _mark_superseded(entries)

    def read(self, key: tarfile.TarInfo) -> bytes:
        if key.size > MAX_FILE_BYTES:
            raise OSError(TOO_LONG)
        if key.issparse():
            with self.lock:
                inner = self.tar.extractfile(key)
                return inner.read() if inner else b""
        content = b""
        while len(content) < key.size:
            part = os.pread(self.file.fileno(), key.size - len(content), key.offset_data + len(content))
            if not part:
                raise ValueError("the archive ends before this file does")
            content += part
        return content


class Zip:
    """A zip archive. Of several members of one name the last is the file."""

    def __init__(self, source: Path, archive: zipfile.ZipFile) -> None:
        self.source, self.archive = source, archive
        self.folders: list[str] = []
        self.notes: list[str] = []

    def entries(self) -> list[Entry]:
        members = self.archive.infolist()
        _check_limits(self.source, len(members), sum(member.file_size for member in members))
        names, note = zip_names.read(self.source, members)
        self.notes = [note] if note else []
        entries = []
        for member, name in zip(members, names, strict=True):
            if name.endswith("/"):
                self.folders.append(name.removeprefix("./").rstrip("/"))
                continue
            refused = "encrypted" if member.flag_bits & 1 else ""
            if stat.S_ISLNK(member.external_attr >> 16):
                refused = "linked_file"
            name = name.removeprefix("./")
            entries.append(Entry(name, member, "leaves_source" if leads_out(name) else refused))
        return _mark_superseded(entries)

    def read(self, key: zipfile.ZipInfo) -> bytes:
        try:
            with self.archive.open(key) as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise ValueError(str(error)) from error
        except MemoryError:
            raise
        except Exception as error:  # zlib.error, lzma.LZMAError, RuntimeError
            machine_limits.check(error)
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if len(content) > MAX_FILE_BYTES:
            raise OSError(TOO_LONG)
        return content


def _mark_superseded(entries: list[Entry]) -> list[Entry]:
    """Mark the members that a later member of the same name replaces."""
    last = {entry.name: i for i, entry in enumerate(entries)}
    return [entry if last[entry.name] == i else replace(entry, refused="superseded") for i, entry in enumerate(entries)]
