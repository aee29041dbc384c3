"""A source at an address that fsspec knows: `s3://`, `gs://`, `https://…/x.tar`, `hf://datasets/…`. `fetch` copies it.

The version of a source is a digest of the names, sizes and identities of its files (ETag, checksum, or the time of the last
change), so that an unchanged source is known without its content.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from darkroom.core import machine_limits, shortage
from darkroom.core.errors import ParamsError, SourceError, nearest, printable
from darkroom.core.lazy import lazy_imports
from darkroom.core.progress import Progress

with lazy_imports():
    import fsspec
    from fsspec import core as fsspec_core

BLOCK = 2**22  # bytes that are copied at a time
THREADS = 8  # files that are copied at a time
MAX_FILES = 5_000_000
_FILES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".npz", ".parquet")  # that are sources by themselves
_PACKAGES = {  # by protocol, and the extra that installs it, if there is one
    "s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", ""), "gcs": ("gcsfs", ""), "hf": ("huggingface_hub", "timm"),
}  # fmt: skip
_IDENTITIES = (
    "ETag", "etag", "md5Hash", "Content-MD5", "Digest", "blob_id", "sha256", "crc32c", "LastModified", "Last-Modified",
    "last_modified", "mtime", "updated", "created",
)  # fmt: skip


@dataclass(frozen=True)
class RemoteFile:
    """A file by the path of its server and its name in the source; a size of −1 is not known."""

    path: str
    name: str
    size: int
    identity: str


@dataclass(frozen=True)
class Listing:
    """The files at an address, in the order of their names. `lone` where the address is that of a file, not of a folder."""

    address: str
    files: tuple[RemoteFile, ...]
    lone: bool

    @property
    def bytes(self) -> int:
        return sum(max(file.size, 0) for file in self.files)

    @property
    def version(self) -> str:
        """A digest of the names, sizes and identities of the files."""
        lines = (f"{file.name}\0{file.size}\0{file.identity}\n" for file in self.files)
        return "v" + hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:15]  # no number to YAML

    def place(self, folder: Path) -> Path:
        """Return what to name as the source, of a copy in a folder."""
        return folder / self.files[0].name if self.lone else folder


def shown(address: str) -> str:
    """Return an address for messages, without what follows its `?`, which may be a signature."""
    base, mark, _ = address.partition("?")
    return printable(base) + ("?***" if mark else "")


def list_files(address: str) -> Listing:
    """Ask the server of an address for its files.

    Raises ParamsError for an address that is none or needs a package, SourceError where there is nothing, where it may not be
    read, and, retryable, where the server does not answer.
    """
    with _explained(address):
        system, path = _open(address)
        info = system.info(path)
        if info.get("type") != "directory":
            name = unquote(PurePosixPath(urlsplit(path).path).name) if "://" in path else PurePosixPath(path).name
            if not name.lower().endswith(_FILES):
                raise SourceError(f"{shown(address)} is no source of images", f"name a folder, or one of {', '.join(_FILES)}")
            return Listing(address, (_file(path, name, info),), lone=True)
        entries: Mapping[str, Any] = system.find(path, detail=True)
    root = str(info.get("name", path)).rstrip("/") + "/"
    files = []
    for full, entry in entries.items():
        name = str(full).removeprefix(root).lstrip("/")
        if entry.get("type") == "directory" or not name or name.endswith("/") or PurePosixPath(name).name == ".dvcignore":
            continue
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise SourceError(f"{shown(address)} has a file {printable(name)!r}, which leads out of it", "rename it there")
        files.append(_file(str(full), name, entry))
    if not files or len(files) > MAX_FILES:
        raise SourceError(f"{shown(address)} has {len(files):,} files", "name a folder of images, or an archive")
    return Listing(address, tuple(sorted(files, key=lambda file: file.name)), lone=False)


def copy(folder: Path, address: str, version: str, scratch: Path) -> int:
    """Copy the files at an address into a folder; return their number.

    What was copied before an error or a kill stays in `scratch`, and is gone on from. Raises SourceError where the source is not
    of `version` (empty: any), or changes meanwhile; errors as of `list_files`.
    """
    listing = list_files(address)
    if version and listing.version != version:
        raise SourceError(
            f"{shown(address)} is not what `fetch.version` {version} names: it has changed, and is {listing.version}",
            "take what is there now: `darkroom recipe --latest`; or get the earlier copy: `dvc pull`",
        )
    room = shutil.disk_usage(folder).free
    if listing.bytes > room:
        raise shortage.disk_full(folder, listing.bytes)
    work = scratch / f"{hashlib.sha256(address.encode()).hexdigest()[:8]}-{listing.version}"
    for old in scratch.iterdir() if scratch.is_dir() else ():
        if old != work:
            shutil.rmtree(old, ignore_errors=True)
    (work / "parts").mkdir(parents=True, exist_ok=True)
    system, _ = _open(address)
    lock = threading.Lock()
    with Progress(f"copying {shown(address)}", max(listing.bytes >> 20, 1), "MB") as progress, ThreadPoolExecutor(THREADS) as pool:
        copied = [0, 0]

        def advance(size: int) -> None:
            with lock:
                copied[0] += size
                megabytes = copied[0] >> 20
                progress.advance(megabytes - copied[1])
                copied[1] = megabytes

        def copy_one(numbered: tuple[int, RemoteFile]) -> None:
            number, file = numbered
            _copy_file(system, file, work / "files" / file.name, work / "parts" / str(number), advance)

        try:
            with _explained(address):
                for _ in pool.map(copy_one, enumerate(listing.files)):
                    pass
        finally:
            pool.shutdown(cancel_futures=True)
    if list_files(address).version != listing.version:
        raise SourceError(f"{shown(address)} changed while it was copied", "run it again when nothing writes there", retryable=True)
    for path in (work / "files").iterdir():
        shutil.move(path, folder / path.name)
    shutil.rmtree(scratch, ignore_errors=True)
    return len(listing.files)


def _copy_file(system: Any, file: RemoteFile, target: Path, part: Path, advance: Any) -> None:
    """Copy a file, from where an earlier try has stopped if the server can."""
    if target.exists():
        advance(target.stat().st_size)
        return
    done = part.stat().st_size if part.exists() else 0
    with system.open(file.path, "rb", block_size=BLOCK) as stream:
        if done:
            try:
                stream.seek(done)
            except (ValueError, OSError, NotImplementedError):  # a server without ranges
                done = 0
        advance(done)
        with part.open("r+b" if done else "wb") as out:
            out.truncate(done)
            out.seek(done)
            while block := stream.read(BLOCK):
                out.write(block)
                done += len(block)
                advance(len(block))
    if file.size >= 0 and done != file.size:
        part.unlink()
        raise SourceError(
            f"{printable(file.name)} has {done:,} bytes, and the server said {file.size:,}", "run it again", retryable=True
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)


def _file(path: str, name: str, info: Mapping[str, Any]) -> RemoteFile:
    size = info.get("size")
    identity = next((f"{key}={info[key]}" for key in _IDENTITIES if info.get(key)), "")
    return RemoteFile(path, name, size if isinstance(size, int) else -1, identity)


def _open(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it."""
    protocol = address.partition("://")[0].lower()
    protocols = fsspec.available_protocols()
    if protocol not in protocols:
        raise ParamsError(
            f'{shown(address)} is an address of the unknown kind "{printable(protocol)}"{nearest(protocol, protocols)}',
            "name one that fsspec knows, such as s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or https://HOST/FILE.tar",
        )
    try:
        system, path = fsspec_core.url_to_fs(address)
    except ImportError as error:
        package, extra = _PACKAGES.get(protocol, ("", ""))
        remedy = f"`pip install {package}`" if package else f"install it: {error}"
        remedy += f", or the wheel's extra `{extra}`" if extra else ""
        raise ParamsError(f"{protocol}:// needs a package that is not installed", remedy) from error
    system.invalidate_cache()
    return system, str(path)


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn what a server's library raises into an error with a remedy."""
    try:
        yield
    except (SourceError, ParamsError):
        raise
    except Exception as error:  # each library has its own
        machine_limits.check(error)
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error  # fsspec's, over HTTP
        response = getattr(cause, "response", None)  # of the Hub's library
        status = getattr(cause, "status", None) or getattr(cause, "code", None) or getattr(response, "status_code", None)
        if isinstance(cause, FileNotFoundError) or status == 404:
            raise SourceError(f"there is nothing at {shown(address)}", "correct the address") from error
        refused = isinstance(cause, PermissionError) or status in (401, 403) or "credentials" in str(cause).lower()
        reason = printable(str(cause).partition("\n")[0].replace(address, shown(address))) or type(cause).__name__
        query = address.partition("?")[2]
        reason = type(cause).__name__ if query and query in reason else reason
        remedy = (
            "set the credentials that its library looks for, such as AWS_ACCESS_KEY_ID, HF_TOKEN or fsspec's configuration"
            if refused
            else "check the network and the address, then run it again; what was copied is kept"
        )
        may_work_later = not refused and (not isinstance(status, int) or status >= 500)
        raise SourceError(f"{shown(address)} cannot be read: {reason}", remedy, retryable=may_work_later) from error
