"""What the folders of a source mean: which are splits, which are classes, and what is a question.

The tree of folders decides, never the number of files. A layout that has two readings is refused, and the
message names both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from darkroom.config.params import SPLITS
from darkroom.core.errors import SourceError, printable
from darkroom.data import split_names

ClassFolder = Literal["auto", "first", "last"]
_CONTAINERS = frozenset("images image imgs img pics photos pictures data jpegimages jpg masks mask annotations labels".split())
_SIMILAR = 0.5  # the share of subfolder names, of all that there are, above which folders hold the same ones
_TO_SAY = "name the level of the classes: `ingest.class_folder: first` (the upper folder) or `last` (the folder around the image)"

Folder = tuple[str, ...]


@dataclass
class Tree:
    """The folders that hold images somewhere below: the names in each, and those with images of their own."""

    inside: dict[Folder, set[str]] = field(default_factory=lambda: defaultdict(set))
    direct: set[Folder] = field(default_factory=set)

    @classmethod
    def of(cls, paths: Iterable[str]) -> Tree:
        tree = cls()
        for folder in {path.rpartition("/")[0] for path in paths}:
            parts = tuple(folder.split("/")) if folder else ()
            tree.direct.add(parts)
            for depth in range(len(parts)):
                tree.inside[parts[:depth]].add(parts[depth])
        return tree

    def below(self, folder: Folder) -> list[str]:
        return sorted(self.inside.get(folder, ()))

    def similar(self, folders: list[Folder]) -> bool:
        """Tell whether two or more folders, without images of their own, hold the same two subfolders or more."""
        sets = [self.inside.get(folder, set()) for folder in folders]
        union = set().union(*sets)
        if len(folders) < 2 or len(union) < 2 or not all(sets) or any(folder in self.direct for folder in folders):
            return False
        shared = [name for name in union if sum(name in names for names in sets) > 1]
        return len(shared) > 1 and sum(map(len, sets)) / (len(union) * len(sets)) >= _SIMILAR


@dataclass(frozen=True)
class Layout:
    """Where the split and the class stand in a path: below `base`, the folders that wrap all images.

    `splits` has the split of each folder that is one, or `unlabelled`; `skip` counts the folders between a
    split and its classes. With `class_first` the split is the folder below the class. With `last` the class
    is the folder around the image.
    """

    base: Folder = ()
    splits: dict[str, str] = field(default_factory=dict)
    skip: int = 0
    class_first: bool = False
    last: bool = False
    notes: tuple[str, ...] = ()

    def place(self, path: str) -> tuple[str, str] | None:
        """Return the split (perhaps empty) and the class of a file; None where it lies outside any class folder."""
        parts = path.split("/")
        if tuple(parts[: len(self.base)]) != self.base:
            return None
        inner, split = parts[len(self.base) :], ""
        if self.splits and not self.class_first:
            split = self.splits.get(inner[0], "")
            inner = inner[1 + self.skip :]
            if split not in SPLITS:
                return None
        if len(inner) < 2:
            return None
        if self.class_first:
            split = self.splits.get(inner[1], "") if len(inner) > 2 else ""
            return (split, inner[0]) if split in SPLITS else None
        return split, inner[-2] if self.last else inner[0]

    def class_folders(self, folders: Iterable[str]) -> dict[str, Folder]:
        """Return the classes that folders of the source are, also empty ones, each with a folder of it."""
        placed = {place[1]: tuple(folder.split("/")) for folder in sorted(folders) if (place := self.place(f"{folder}/x"))}
        return placed if not self.last else {}


def read(source: Path, paths: list[str], class_folder: ClassFolder = "auto") -> Layout:
    """Return what the folders of the images mean. Raises SourceError where only a person can tell."""
    tree = Tree.of(paths)
    base = _wrapping(tree, unwrap_classes=not source.is_dir())
    tops = tree.below(base)
    nested = any(tree.inside.get((*base, top)) for top in tops if (reading := split_names.read_name(top)) and not reading.rest)
    named = split_names.read_names(tops, tree.similar([(*base, top) for top in tops]), nested)
    place = source.joinpath(*base)
    _refuse_folds(place, tops)
    if named.question:
        raise SourceError(
            f"{printable(str(place))}: {printable(named.question)}",
            "keep one folder each for train, val and test, with one subfolder per class, and move the others away; or, if "
            "they are classes, rename the folders",
        )
    if named.splits:
        return _split_layout(place, tree, base, named.splits, class_folder)
    inner = {name for top in tops for name in tree.below((*base, top))}
    if len(tops) > 1 and inner and not any((*base, top) in tree.direct for top in tops):
        below = split_names.read_names(inner)
        if len(set(below.splits.values())) > 1 and not below.question:
            return _class_first_layout(place, tree, base, below.splits)
    if class_folder == "auto":
        _refuse_splits_in_some(place, tree, base)
    notes = _class_notes(place, tree, [(*base, top) for top in tops], class_folder)
    return Layout(base, last=class_folder == "last", notes=notes)


def _wrapping(tree: Tree, unwrap_classes: bool) -> Folder:
    """Return the folders that wrap all images: of an archive, and around splits or folds.

    In a folder a single subfolder of classes is not skipped: the message for one class names it.
    """
    base: Folder = ()
    while len(tree.below(base)) == 1:
        only = (*base, tree.below(base)[0])
        reading = split_names.read_name(only[-1])
        if not tree.inside.get(only) or (reading is not None and not reading.rest and reading.kind == "train"):
            break
        base = only
    if unwrap_classes:
        return base
    for depth in range(len(base), 0, -1):
        names = tree.below(base[:depth])
        named = split_names.read_names(names, tree.similar([(*base[:depth], name) for name in names]))
        if named.splits or named.question or sum(bool(split_names.fold_of(name)) for name in names) > 1:
            return base[:depth]
    return ()


def _split_layout(place: Path, tree: Tree, base: Folder, splits: dict[str, str], class_folder: ClassFolder) -> Layout:
    """Return the layout of folders that are splits, each with its classes below, perhaps wrapped once more."""
    bare = [name for name, split in splits.items() if split == "unlabelled" or not _holds_classes(tree, (*base, name))]
    if "train" not in {split for name, split in splits.items() if name not in bare}:
        raise SourceError(
            f"{printable(str(place))}: {printable(', '.join(bare))} {'are' if len(bare) > 1 else 'is'} named like "
            f"{'splits' if len(bare) > 1 else 'a split'}, and {'have' if len(bare) > 1 else 'has'} no class folders",
            "give each one subfolder per class, or add a table with the columns path and label; if they are classes, rename them",
        )
    labelled, skip = [(*base, name) for name in splits if name not in bare], 0
    while all(len(tree.below(folder)) == 1 and folder not in tree.direct for folder in labelled):
        inner = [(*folder, tree.below(folder)[0]) for folder in labelled]
        if not all(tree.inside.get(folder) for folder in inner):
            break
        labelled, skip = inner, skip + 1
    listing = ", ".join(f"{name} is {split}" for name, split in splits.items() if split in SPLITS)
    notes = [f"the folders of {place} are splits: {listing}"]
    if bare:
        notes.append(f"{', '.join(bare)} has no class folders: its images are unlabelled and left out")
    pooled = Tree()
    for folder in labelled:
        for name in tree.below(folder):
            pooled.inside[()].add(name)
            pooled.inside[(name,)] |= tree.inside.get((*folder, name), set())
            if (*folder, name) in tree.direct:
                pooled.direct.add((name,))
    classes: list[Folder] = [(name,) for name in pooled.below(())]
    if class_folder == "auto":
        _refuse_splits_within(place, [name for name in pooled.below(()) if pooled.inside.get((name,))])
    notes += _class_notes(place, pooled, classes, class_folder)
    splits = splits | dict.fromkeys(bare, "unlabelled")
    return Layout(base, splits, skip, last=class_folder == "last", notes=tuple(map(printable, notes)))


def _holds_classes(tree: Tree, folder: Folder) -> bool:
    """Tell whether the folder of a split holds folders of classes: `test/test` or `test/images` with images alone does not."""
    below = tree.below(folder)
    reading = split_names.read_name(below[0]) if len(below) == 1 and folder not in tree.direct else None
    if (reading and not reading.rest) or (below and below == [folder[-1]]):
        return _holds_classes(tree, (*folder, below[0]))
    return bool(below)


def _class_first_layout(place: Path, tree: Tree, base: Folder, splits: dict[str, str]) -> Layout:
    """Return the layout of class folders that hold splits: cat/train, cat/test.

    Raises SourceError where there are classes below the splits: then the upper folders may be sources of images.
    """
    tops = tree.below(base)
    deeper = [{name for split in tree.below((*base, top)) for name in tree.below((*base, top, split))} for top in tops]
    shared = sorted(name for name in set().union(*deeper) if sum(name in names for names in deeper) > 1)
    if len(shared) > 1:
        raise SourceError(
            f"{printable(str(place))}: {_shown(tops)} hold the splits {', '.join(splits)}, and these {_shown(shared)}, "
            "so either may be the classes",
            "put the images into folders split/class/image, or write a table with the columns path, label and split",
        )
    if any(top.lower() in _CONTAINERS for top in tops):
        raise SourceError(
            f"{printable(str(place))}: {', '.join(map(printable, tops))} hold the splits {', '.join(splits)}, and are "
            "no names of classes",
            "set `ingest.source` to the folder that has one subfolder of images per class, or per split and class",
        )
    listing = ", ".join(f"{name} is {split}" for name, split in splits.items())
    return Layout(base, splits, class_first=True, notes=(printable(f"the folders in each class of {place} are splits: {listing}"),))


def _refuse_splits_in_some(place: Path, tree: Tree, base: Folder) -> None:
    """Raise SourceError where one of the folders holds splits and another does not."""
    tops = tree.below(base)
    named = {top: split_names.read_names(tree.below((*base, top))) for top in tops}
    holding = [top for top in tops if len(set(named[top].splits.values())) > 1 or named[top].question]
    if holding and len(tops) > 1:
        first = holding[0]
        raise SourceError(
            f"{printable(str(place))}: {printable(first)} holds {_shown(tree.below((*base, first)))}, which are named like splits, "
            f"and beside it {'is' if len(tops) == 2 else 'are'} {_shown([top for top in tops if top != first])}",
            f"set `ingest.source` to {printable(str(place / first))} if it is the data set; if {_shown(tops)} are the classes, "
            "give each the same splits, or set `ingest.class_folder: first`, and splits are drawn",
        )


def _refuse_splits_within(place: Path, names: list[str]) -> None:
    """Raise SourceError where folders with subfolders, within splits, are named like folds or splits themselves."""
    _refuse_folds(place, names)
    inner = [name for name in names if (reading := split_names.read_name(name)) is not None and not reading.rest]
    if inner:
        raise SourceError(
            f"{printable(str(place))}: {_shown(inner)} lies in the folder of a split and is named like one",
            "keep one folder each for train, val and test beside one another, with one subfolder per class; or, if it is a "
            "class, set `ingest.class_folder: first`",
        )


def _refuse_folds(place: Path, tops: list[str]) -> None:
    folds = [top for top in tops if split_names.fold_of(top)]
    others = [top for top in tops if top not in folds]
    if len(folds) > 1 and all(split_names.read_name(top) for top in others):
        raise SourceError(
            f"{printable(str(place))}: {printable(', '.join(folds[:4]))}{', …' if len(folds) > 4 else ''} are named like the folds "
            "of a cross-validation, and Darkroom trains on one division into train, val and test",
            "rename one fold to val and one to test and move the others together into train; or put all images into class "
            "folders; or write a table (columns path, label, fold): each fold then stays in one split, and `cross_validation` "
            "in params.yaml takes those of train and val",
        )


def _class_notes(place: Path, tree: Tree, classes: list[Folder], class_folder: ClassFolder) -> tuple[str, ...]:
    """Return what was understood of folders below the classes. Raises SourceError where either may be the class."""
    deeper = sorted({name for folder in classes for name in tree.below(folder)})
    names = [folder[-1] for folder in classes]
    upper, lower = _shown(names), _shown(deeper)
    if class_folder == "last":
        return (f"the class is the folder around each image (`ingest.class_folder: last`): {lower or upper}",)
    if not deeper or len(classes) < 2:
        return _batch_note(names)
    if class_folder == "first":
        return (f"the classes are {upper}; the folders below belong to them (`ingest.class_folder: first`)",)
    level = classes
    while all(len(tree.below(folder)) == 1 and folder not in tree.direct for folder in level):
        level = [(*folder, tree.below(folder)[0]) for folder in level]  # amazon/images/mug: one folder around the next
    if tree.similar(level):
        lower = _shown(sorted({name for folder in level for name in tree.below(folder)}))
        raise SourceError(
            f"{printable(str(place))}: {upper} all hold {lower}, so either level may be the classes",
            f"{_TO_SAY}; or rename the upper folders to train, val and test if they are splits",
        )
    return (f"the classes are {upper}; folders below ({lower}) belong to them (else set `ingest.class_folder: last`)",)


def _batch_note(names: list[str]) -> tuple[str, ...]:
    if not split_names.batch_like(names):
        return ()
    return (
        f"warning: the classes are {_shown(names)}, which look like batches; if they are, add a table with the columns path "
        "and label, or sort the images into one folder per class",
    )


def _shown(names: list[str]) -> str:
    return printable(", ".join(names[:4])) + (f" … ({len(names)} in all)" if len(names) > 4 else "")
