"""Which file a table means by a path, a file name or an id."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from darkroom.data import split_names
from darkroom.data.class_names import normalise

Find = Callable[[str], list[str]]
MAX_DIGITS = 20  # of a number that names a file


class Matches(NamedTuple):
    """The file that each text means, of the way to read them that finds most; texts that mean several files."""

    files: dict[str, str]
    ambiguous: dict[str, list[str]]

    @property
    def total(self) -> int:
        return len(self.files) + len(self.ambiguous)


def clean(text: str) -> str:
    """Return a path with `/` between folders and without what changes nothing: `./`, `//`, `x/..`, a drive."""
    path = normalise(text.strip().strip('"')).replace("\\", "/").removeprefix("file://")
    path = re.sub(r"^(https?|s3|gs)://[^/]+(?=/)|^[A-Za-z]:(?=/)", "", path)
    if not path:
        return ""
    path = posixpath.normpath(path)
    return "/" + path.lstrip("/") if path.startswith("/") else path


def leads_out(text: str) -> bool:
    """Tell whether a path is absolute or goes above its folder."""
    path = clean(text)
    return path.startswith(("/", "../")) or path == ".."


class FileIndex:
    """The files of a source, to be found by what a table in `folder` says of them."""

    def __init__(self, names: Iterable[str], folder: str, source: Path, split: str = "") -> None:
        self.folder, self.split = folder, split
        self.roots = sorted({f"{clean(str(path))}/" for path in (source.absolute(), source.resolve())})
        self.exact: dict[str, str] = {}
        self.stems: dict[str, list[str]] = defaultdict(list)
        self.bases: dict[str, list[str]] = defaultdict(list)
        self.base_stems: dict[str, list[str]] = defaultdict(list)
        self.folded: dict[str, list[str]] = defaultdict(list)
        self.numbers: dict[int, list[str]] = defaultdict(list)
        for name in names:
            path = normalise(name)
            self.exact[path] = name
            stem, base = _stem(path), path.rpartition("/")[2]
            self.stems[stem].append(name)
            self.bases[base].append(name)
            self.base_stems[_stem(base)].append(name)
            self.folded[base.casefold()].append(name)
            if _stem(base).isdecimal():
                self.numbers[int(_stem(base))].append(name)

    def match(self, texts: Iterable[str], numbers: bool = True) -> Matches:
        """Return what each text means. All are read in one way: the first of those that find the most files."""
        cleaned = {text: self._within(clean(text)) for text in dict.fromkeys(texts) if text.strip()}
        best = Matches({}, {})
        for find in self._finders(list(cleaned.values()), numbers):
            matches = self._apply(find, cleaned)
            if matches.total > best.total:
                best = matches
            if best.total == len(cleaned):
                break
        return best

    def _within(self, path: str) -> str:
        """Return an absolute path below the source as one from the source's folder."""
        for root in self.roots:
            if path.startswith(root):
                return "/" + path[len(root) :]
        return path

    def _apply(self, find: Find, cleaned: dict[str, str]) -> Matches:
        files, ambiguous = {}, {}
        for text, path in cleaned.items():
            names = find(path)
            if len(names) > 1 and self.split:
                names = [name for name in names if _split_of(name) == self.split] or names
            if len(names) == 1:
                files[text] = names[0]
            elif names:
                ambiguous[text] = names
        return Matches(files, ambiguous)

    def _finders(self, paths: list[str], numbers: bool) -> Iterable[Find]:
        yield lambda path: self._at(posixpath.normpath(posixpath.join(self.folder, path)) if not path.startswith("/") else path[1:])
        yield lambda path: self._at(path.lstrip("/"))
        yield lambda path: self.stems.get(posixpath.normpath(posixpath.join(self.folder, path.lstrip("/"))), [])
        yield lambda path: self.stems.get(path.lstrip("/"), [])
        yield lambda path: _ending(self.bases.get(path.rpartition("/")[2], []), path)
        yield lambda path: _ending(self.base_stems.get(path.rpartition("/")[2], []), path, stem=True)
        for depth in range(1, _common_depth(paths) + 1):
            yield lambda path, depth=depth: self._below(path, depth)  # type: ignore[misc]
        yield lambda path: _ending(self.folded.get(path.rpartition("/")[2].casefold(), []), path, fold=True)
        if numbers:
            yield lambda path: self.numbers.get(int(path), []) if path.isdecimal() and len(path) < MAX_DIGITS else []

    def _at(self, path: str) -> list[str]:
        return [self.exact[path]] if path in self.exact else []

    def _below(self, path: str, depth: int) -> list[str]:
        """Return the files of a path without its first folders, which all paths of the table share."""
        short = "/".join(path.lstrip("/").split("/")[depth:])
        return (
            self._at(posixpath.normpath(posixpath.join(self.folder, short)))
            or self._at(short)
            or self.stems.get(short, [])
            or _ending(self.bases.get(short.rpartition("/")[2], []), short)
        )


def _stem(path: str) -> str:
    """Return a path without its suffix, which has one to five letters or digits."""
    return re.sub(r"(?<=[^/])\.[A-Za-z0-9]{1,5}$", "", path)


def _ending(names: list[str], path: str, stem: bool = False, fold: bool = False) -> list[str]:
    """Return the files whose paths end in a path, of whole folders."""
    if "/" not in path:
        return names
    end = "/" + (path.casefold() if fold else path).lstrip("/")
    paths = {name: "/" + (_stem(normalise(name)) if stem else normalise(name)) for name in names}
    return [name for name, normal in paths.items() if (normal.casefold() if fold else normal).endswith(end)]


def _common_depth(paths: list[str]) -> int:
    """Return how many first folders all paths share."""
    folders = [path.lstrip("/").split("/")[:-1] for path in paths]
    depth = 0
    while folders and all(len(parts) > depth for parts in folders) and len({parts[depth] for parts in folders}) == 1:
        depth += 1
    return depth


def _split_of(path: str) -> str:
    kinds = [reading.kind for part in path.split("/")[:-1] if (reading := split_names.read_name(part)) is not None]
    return kinds[0] if kinds else ""
