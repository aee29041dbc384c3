"""Which images belong together, and what follows: conflicts of labels, leaks across splits, and the split of
each image. A group is never divided, so that no picture is in two splits.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from darkroom.config.params import Ingest
from darkroom.core.progress import Progress
from darkroom.data import duplicates
from darkroom.data.duplicates import Clusters
from darkroom.data.source_row import SourceRow

Rows = list[SourceRow]
ReadThumbnails = Callable[[Sequence[int]], np.ndarray]
_GUARDED = ("test", "val", "train")  # the most guarded first


@dataclass(frozen=True)
class SplitGroup:
    """Images that must share a split: the name of the group, its number of images, their commonest label."""

    key: str
    size: int
    label: str


@dataclass(frozen=True)
class Groups:
    """Sets of rows that belong together."""

    duplicates: list[Rows]  # the same picture, two rows or more
    conflicts: list[Rows]  # the same picture under several labels
    leaks: list[Rows]  # the same picture in several of the source's own splits
    torn: list[Rows]  # groups of the table in several of the source's own splits


def assign_splits(rows: Rows, thumbnails: ReadThumbnails, params: Ingest, ready: frozenset[str]) -> Groups:
    """Give each accepted row its group and its split.

    Quarantine conflicts and leaks unless `params` keep them.

    `thumbnails` reads the thumbnails (N, 64, 64) uint8 of slots, `ready` names the splits that the source has
    itself.
    """
    accepted = [row for row in rows if row.status == "accepted"]
    clusters, near = _find_duplicates(accepted, thumbnails)
    copies = [members for members in _members(accepted, clusters) if len(members) > 1]
    for members in copies:
        for row in members:
            row.copies = len(members)
    conflicts = _find_conflicts(accepted, copies, near)
    if params.on_conflict == "quarantine":
        _quarantine_conflicts(conflicts)
    leaks = _find_leaks(copies)
    if params.on_leak == "quarantine":
        _quarantine_leaks(leaks, "duplicate_across_splits", "the same as")
    _join_source_groups(accepted, clusters)
    groups = _members(accepted, clusters)
    torn = [members for members in _find_leaks(groups) if any(row.source_group for row in members)]
    if params.on_leak == "quarantine":
        _quarantine_leaks(torn, "group_across_splits", "grouped with")
    _name_groups(groups)
    _draw_splits([row for row in accepted if row.status == "accepted"], params, ready)
    return Groups(copies, conflicts, leaks, torn)


def _find_duplicates(accepted: Rows, thumbnails: ReadThumbnails) -> tuple[Clusters, list[tuple[int, int]]]:
    """Return the clusters of rows that show the same picture, and the pairs of near duplicates."""
    clusters = Clusters(len(accepted))
    first: dict[str, int] = {}
    compared: dict[tuple[str, str], int] = {}
    for i, row in enumerate(accepted):
        clusters.join(first.setdefault(row.pixel_hash, i), i)
        if row.has_thumbnail:
            compared.setdefault((row.pixel_hash, row.label), i)
    numbers = sorted(compared.values())  # of copies pixel for pixel, one of each label
    if not numbers:
        return clusters, []
    slots = np.array([accepted[i].slot for i in numbers])
    labels = [accepted[i].label for i in numbers]
    with Progress("near duplicates", len(numbers), "images") as progress:

        def on_step(done: int, total: int) -> None:
            progress.advance(len(numbers) * done // total - progress.done)

        pairs, hashes = duplicates.find_pairs(labels, lambda indices: thumbnails(slots[indices].tolist()), on_step)
    by_pixels = {accepted[i].pixel_hash: value for i, value in zip(numbers, hashes, strict=True)}
    for row in accepted:
        row.perceptual_hash = by_pixels.get(row.pixel_hash, "")
    near = [(numbers[i], numbers[j]) for i, j in pairs]
    for i, j in near:
        clusters.join(i, j)
    return clusters, near


def _members(accepted: Rows, clusters: Clusters) -> list[Rows]:
    """Return the rows of each cluster."""
    members: dict[int, Rows] = defaultdict(list)
    for i, row in enumerate(accepted):
        members[clusters.root(i)].append(row)
    return list(members.values())


def _find_conflicts(accepted: Rows, copies: list[Rows], near: list[tuple[int, int]]) -> list[Rows]:
    """Return sets of rows of one picture under several labels: exact copies, and pairs of near ones."""
    conflicts = []
    for members in copies:
        exact: dict[str, Rows] = defaultdict(list)
        for row in members:
            exact[row.pixel_hash].append(row)
        conflicts += [same for same in exact.values() if len({row.label for row in same}) > 1]
    alike: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in accepted:
        alike[row.pixel_hash, row.label].append(row)
    for i, j in near:
        one, other = accepted[i], accepted[j]
        if one.label != other.label and one.pixel_hash != other.pixel_hash:  # with all exact copies of both
            conflicts.append(alike[one.pixel_hash, one.label] + alike[other.pixel_hash, other.label])
    return conflicts


def _quarantine_conflicts(conflicts: list[Rows]) -> None:
    others: dict[int, list[str]] = defaultdict(list)
    rows = {}
    for members in conflicts:
        for row in members:
            rows[id(row)] = row
            others[id(row)] += [other.path for other in members if other.label != row.label]
    for key, row in rows.items():
        row.quarantine("label_conflict", "the same as " + _list_paths(others[key]))


def _find_leaks(sets: list[Rows]) -> list[Rows]:
    """Return the accepted rows of the sets that span several of the source's own splits."""
    accepted = [[row for row in members if row.status == "accepted"] for members in sets]
    return [members for members in accepted if len({row.split for row in members if row.split}) > 1]


def _quarantine_leaks(leaks: list[Rows], reason: str, relation: str) -> None:
    """Keep the rows of the most guarded split, test before val before train."""
    for members in leaks:
        guarded = next(name for name in _GUARDED if any(row.split == name for row in members))
        others = _list_paths([row.path for row in members if row.split == guarded])
        for row in members:
            if row.split != guarded:
                row.quarantine(reason, f"{relation} {others}")


def _list_paths(paths: list[str]) -> str:
    unique = list(dict.fromkeys(paths))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")


def _join_source_groups(accepted: Rows, clusters: Clusters) -> None:
    first: dict[str, int] = {}
    for i, row in enumerate(accepted):
        if row.source_group:
            clusters.join(first.setdefault(row.source_group, i), i)


def _name_groups(groups: list[Rows]) -> None:
    """Name each group by the first of the source's own groups in it, else by the least of its pixel hashes."""
    for members in groups:
        first = min((row.source_group for row in members if row.source_group), default="")
        name = f"group {first}" if first else min(row.pixel_hash for row in members)
        for row in members:
            row.group = name


def _draw_splits(accepted: Rows, params: Ingest, ready: frozenset[str]) -> None:
    """Give each row its split: the source's own, if any; splits that it lacks come out of its train."""
    test = 0.0 if "test" in ready else params.test_share
    val = 0.0 if "val" in ready else params.val_share
    free = [row for row in accepted if row.split in ("", "train")]
    drawn: dict[str, str] = {}
    if params.split_by == "stratified":
        labels: dict[str, list[str]] = defaultdict(list)
        for row in free:
            labels[row.group].append(row.label)
        groups = [SplitGroup(key, len(members), _commonest(members)) for key, members in labels.items()]
        drawn = stratified(groups, test, val, params.seed)
    guarded = {row.group: row.split for row in sorted(accepted, key=lambda row: row.split) if row.split in ("val", "test")}
    for row in free:
        if row.group in guarded:  # a copy of an image whose split the source gives
            row.split = row.split or guarded[row.group]
            continue
        row.split = drawn.get(row.group) or by_hash(row.group, test, val, params.seed)


def _commonest(labels: list[str]) -> str:
    """Return the commonest label, of several the first in the alphabet."""
    return min(Counter(labels).items(), key=lambda item: (-item[1], item[0]))[0]


def position(group: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the name of a group and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8], "big") / 2**64


def by_hash(group: str, test_share: float, val_share: float, seed: int) -> str:
    """Return train, val or test. Other images that come or go do not change it."""
    u = position(group, seed)
    if u < test_share:
        return "test"
    return "val" if u < test_share + val_share else "train"


def stratified(groups: Iterable[SplitGroup], test_share: float, val_share: float, seed: int) -> dict[str, str]:
    """Return the split of each group by its key, so that every class has its shares as exactly as its groups
    allow.

    A class with three groups or more has at least one in each split that has a share. Groups are taken in the
    order of their `position`, so that an image more or less moves few others.
    """
    classes: dict[str, list[SplitGroup]] = defaultdict(list)
    for group in groups:
        classes[group.label].append(group)
    splits: dict[str, str] = {}
    for members in classes.values():
        members.sort(key=lambda group: (position(group.key, seed), group.key))
        total = sum(group.size for group in members)
        rest = list(members)
        for name, share in (("test", test_share), ("val", val_share)):
            target, taken = round(total * share), 0
            least = 1 if share > 0 and len(members) >= 3 else 0
            for group in list(rest):
                if len(rest) <= 1:
                    break
                fits = abs(target - taken - group.size) < abs(target - taken)
                if (fits and taken < target) or taken < least:
                    splits[group.key] = name
                    taken += group.size
                    rest.remove(group)
                if taken >= max(target, least):
                    break
        splits.update({group.key: "train" for group in rest})
    return splits
