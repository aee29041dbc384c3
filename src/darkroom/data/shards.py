"""Sources that are cut into files of many images, shards: Parquet files and tars of samples, in one folder.

The name of a shard without its number says its split, as the Hub and WebDataset write it: `train-00000-of-00002.parquet`,
`test-000001.tar`; or the folder that it lies in: `train/0000.parquet`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from darkroom.core.errors import SourceError, printable
from darkroom.data import file_names, split_names

_NUMBER = re.compile(r"[-_.]?\d+(?:[-_.]?of[-_.]?\d+)?$")


def find(source: Path, suffixes: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Return the files of some suffixes, and those beside them, where a source is such a file, or a folder without images.

    Both are empty elsewhere. A folder of images is left at its first one, so that finding this out takes no time.
    """
    if source.is_file():
        return ([source], []) if source.name.lower().endswith(suffixes) else ([], [])
    files: list[Path] = []
    others: list[Path] = []
    for folder, _, names in os.walk(source):
        for name in names:
            path = Path(folder, name)
            relative = path.relative_to(source).as_posix()
            if file_names.is_litter(relative):
                others.append(path)
            elif name.lower().endswith(suffixes):
                files.append(path)
            elif file_names.is_image(name) or file_names.is_unread(name):
                return [], []
            else:
                others.append(path)
    order = {path: os.fsencode(path.relative_to(source)) for path in (*files, *others)}
    return (sorted(files, key=order.__getitem__), sorted(others, key=order.__getitem__)) if files else ([], [])


def name_of(source: Path, shard: Path) -> str:
    """Return the name of a shard in its source."""
    return shard.name if shard == source else shard.relative_to(source).as_posix()


def splits(source: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the split of each shard, `unlabelled` for one whose name says that it has no labels; empty where splits are drawn.

    Raises SourceError where the names are of splits and of something else, or of splits without train, and where
    shards lie in several folders which are no splits: they may hold the same images.
    """
    listed = list(names)
    stems = {name: _NUMBER.sub("", Path(name).name.partition(".")[0]) or "" for name in listed}
    folders = {name: name.rpartition("/")[0] for name in listed}
    meaning = _meaning(source, set(stems.values()))
    if meaning:
        if len(set(folders.values())) > 1 and len({(folders[name], stems[name]) for name in listed}) > len(set(stems.values())):
            raise _several(source, folders.values())
        return {name: meaning[stem] for name, stem in stems.items()}
    if len(set(folders.values())) == 1:
        return {}
    last = {name: folder.rpartition("/")[2] for name, folder in folders.items()}
    meaning = _meaning(source, set(last.values())) if len(set(last.values())) == len(set(folders.values())) else {}
    if not meaning:
        raise _several(source, folders.values())
    return {name: meaning[folder] for name, folder in last.items()}


def split_named(text: str) -> str:
    """Return the split that a word says: train, val or test; empty for other words."""
    return (split_names.read_values([text]) or {}).get(text, "")


def _meaning(source: Path, names: set[str]) -> dict[str, str]:
    """Return the split that each of several names means; empty where they are no splits."""
    kinds = {name: reading.kind for name in sorted(names) if (reading := split_names.read_name(name))}
    if len(names) < 2 or not kinds:
        return {}
    labelled = [name for name in kinds if kinds[name] != "unlabelled"]
    meaning = split_names.read_values(labelled) or {}
    others = sorted(names - kinds.keys())
    if others or "train" not in meaning.values():
        detail = f"and beside them {', '.join(others[:3])}" if others else "and none is train"
        raise SourceError(
            f"{source}: the files are named like splits, {', '.join(kinds)}, {printable(detail)}",
            "name them train-…, val-… and test-…, or, for splits that are drawn, alike; move others away",
        )
    return meaning | {name: kind for name, kind in kinds.items() if kind == "unlabelled"}


def _several(source: Path, folders: Iterable[str]) -> SourceError:
    names = sorted({folder or "." for folder in folders})
    return SourceError(
        f"{source} has files of images in {len(names)} folders, {printable(', '.join(names[:4]))}, which are no splits: "
        "they may hold the same images",
        f"set `ingest.source` to one of them, for example {printable(str(source / names[-1]))}",
    )
