"""The files that dvc.lock names, hashed again: objects of DVC's cache, and outputs in the workspace.

DVC trusts an object of its cache by its size and the time of its last change, so it would use a damaged one.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from darkroom.config import dvc_graph
from darkroom.core import strict_json

UNREADABLE = "unreadable"  # begins what stands for the md5 of a file that cannot be opened
FOLDER = ".dir"  # ends the md5 of a folder, which is that of its listing


@dataclass(frozen=True)
class Damage:
    """A file whose md5 is not the one in dvc.lock; `actual` is empty where it cannot be read."""

    file: str
    expected: str
    actual: str
    remedy: str


@dataclass(frozen=True)
class Examination:
    """How many objects and outputs were read, their bytes, how many are in neither place, and the damaged files."""

    objects: int = 0
    outputs: int = 0
    bytes: int = 0
    absent: int = 0
    damaged: list[Damage] = field(default_factory=list)


class File(NamedTuple):
    """A file of an output, or the listing of a folder, which has no `path`; paths are seen from here."""

    stage: str
    out: str  # as dvc.lock has it
    root: Path  # of the DVC repository
    md5: str
    object: Path
    path: Path | None


def present(files: Iterable[File]) -> set[Path]:
    """Return the objects and outputs of these files that are there."""
    return {path for file in files for path in (file.object, file.path) if path and path.is_file()}


def examine(files: Sequence[File], advance: Callable[[int], object]) -> Examination:
    """Hash the objects and outputs of files; `advance` is called with 1 for each that was read."""
    paths = present(files)
    digests: dict[Path, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, digest in zip(paths, pool.map(_md5, paths), strict=True):
            digests[path] = digest
            advance(1)
    damaged: dict[str, Damage] = {}
    for file in files:
        for path in filter(None, (file.object, file.path)):
            if digests.get(path, file.md5) != file.md5:
                damaged[str(path)] = Damage(str(path), file.md5, digests[path], _remedy(file, path, digests))
    objects = {file.object for file in files}
    absent = {file.object for file in files if file.object not in paths and file.path not in paths}
    return Examination(
        objects=len(objects & paths), outputs=len(paths - objects), bytes=sum(path.stat().st_size for path in paths),
        absent=len(absent), damaged=list(damaged.values()),
    )  # fmt: skip


def files(root: Path) -> Iterator[File]:
    """Yield the files of every output in the dvc.lock of the DVC repository in a folder."""
    for stage, locked in dvc_graph.read_lock(root / dvc_graph.LOCK).items():
        for out, md5 in locked.outs.items():
            target, source = root / out, dvc_graph.cache_path(md5, root)
            if not md5:
                continue
            if not md5.endswith(FOLDER):
                yield File(stage, out, root, md5, source, target)
                continue
            yield File(stage, out, root, md5.removesuffix(FOLDER), source, None)
            for name, inner in _listing(source, md5):
                yield File(stage, out, root, inner, dvc_graph.cache_path(inner, root), target / name)


def _listing(source: Path, md5: str) -> list[tuple[str, str]]:
    """Return name and md5 of each file of a folder; nothing where its listing is missing or damaged."""
    if not source.is_file() or _md5(source) + FOLDER != md5:
        return []
    return [(item["relpath"], item["md5"]) for item in strict_json.loads(source.read_text(encoding="utf-8"))]


def _md5(path: Path) -> str:
    try:
        return dvc_graph.md5(path)
    except OSError as error:
        return f"{UNREADABLE}: {(error.strerror or '').lower()}"


def _remedy(file: File, path: Path, digests: dict[Path, str]) -> str:
    """Return the commands that bring a file back, from the sound copy of it, if there is one, or by its stage."""
    if digests[path].startswith(UNREADABLE):  # it may be whole
        return f"let it be read, as its owner: chmod u+r,go+r {shlex.quote(str(path))}"
    in_cache, in_workspace = digests.get(file.object), digests.get(file.path) if file.path else None
    out, removed = shlex.quote(file.out), f"rm -f {shlex.quote(str(file.object))}"
    place = f"cd {shlex.quote(str(file.root))} && " if file.root != Path() else ""
    again = f"{place}dvc repro -f -s {shlex.quote(file.stage)}"
    if in_cache == file.md5:
        return f"{place}dvc checkout --relink -f {out}"
    if in_cache is None:
        return again
    return f"{removed} && {place}dvc commit -f {out}" if in_workspace == file.md5 else f"{removed} && {again}"
