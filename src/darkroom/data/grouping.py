"""Which images belong together, and what follows: conflicts of labels, leaks across splits, and the split of each image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from darkroom.config.params import Ingest
from darkroom.core.progress import Progress
from darkroom.data import duplicates, splits
from darkroom.data.duplicates import Clusters
from darkroom.data.manifest import Row
from darkroom.data.splits import Group

_GUARDED = ("test", "val", "train")  # the most guarded first


@dataclass(frozen=True)
class Groups:
    """What was found among the accepted rows, which now have a group and a split."""

    clusters: list[list[Row]]
    conflicts: list[list[Row]]
    leaks: list[list[Row]]
    torn: list[list[Row]]  # groups of the table that the source's own splits tear apart


def find(rows: list[Row], thumbnails: Callable[[Sequence[int]], np.ndarray], params: Ingest, ready: frozenset[str]) -> Groups:
    """Group the accepted rows and give each its split; quarantine conflicts and leaks unless `params` keep them."""
    accepted = [row for row in rows if row.status == "accepted"]
    together, near = _duplicates(accepted, thumbnails)
    clusters = [members for members in _gathered(accepted, together) if len(members) > 1]
    for members in clusters:
        for row in members:
            row.copies = len(members)
    conflicts = _conflicts(accepted, clusters, near)
    if params.on_conflict == "quarantine":
        _quarantine_conflicts(conflicts)
    leaks = _leaks(clusters)
    if params.on_leak == "quarantine":
        _quarantine_leaks(leaks, "duplicate_across_splits", "the same as")
    _join_given_groups(accepted, together)
    groups = _gathered(accepted, together)
    torn = [group for group in _leaks(groups) if any(row.given_group for row in group)]
    if params.on_leak == "quarantine":
        _quarantine_leaks(torn, "group_across_splits", "grouped with")
    _name_groups(groups)
    _assign([row for row in accepted if row.status == "accepted"], params, ready)
    return Groups(clusters, conflicts, leaks, torn)


def _duplicates(accepted: list[Row], thumbnails: Callable[[Sequence[int]], np.ndarray]) -> tuple[Clusters, list[tuple[int, int]]]:
    """Return which rows show the same picture, and the pairs that do so nearly."""
    together = Clusters(len(accepted))
    first: dict[tuple[str, str], int] = {}
    any_of: dict[str, int] = {}
    for i, row in enumerate(accepted):
        together.join(any_of.setdefault(row.pixel_hash, i), i)
        if row.has_thumbnail:
            first.setdefault((row.pixel_hash, row.label), i)
    asked = sorted(first.values())  # of copies, pixel for pixel, one of each label
    if not asked:
        return together, []
    slots = np.array([accepted[i].slot for i in asked])
    labels = [accepted[i].label for i in asked]
    with Progress("near duplicates", len(asked), "images") as progress:

        def note(done: int, total: int) -> None:
            progress.advance(len(asked) * done // total - progress.done)

        found, hashed = duplicates.pairs(labels, lambda numbers: thumbnails(slots[numbers].tolist()), note)
    by_pixels = {accepted[i].pixel_hash: value for i, value in zip(asked, hashed, strict=True)}
    for row in accepted:
        row.perceptual_hash = by_pixels.get(row.pixel_hash, "")
    near = [(asked[i], asked[j]) for i, j in found]
    for i, j in near:
        together.join(i, j)
    return together, near


def _gathered(accepted: list[Row], together: Clusters) -> list[list[Row]]:
    """Return the rows that belong together, each set once."""
    found: dict[int, list[Row]] = defaultdict(list)
    for i, row in enumerate(accepted):
        found[together.find(i)].append(row)
    return list(found.values())


def _conflicts(accepted: list[Row], clusters: list[list[Row]], near: list[tuple[int, int]]) -> list[list[Row]]:
    """Return sets of rows that show the same picture under several labels: exact copies, and pairs of near ones."""
    found = []
    for members in clusters:
        exact: dict[str, list[Row]] = defaultdict(list)
        for row in members:
            exact[row.pixel_hash].append(row)
        found += [same for same in exact.values() if len({row.label for row in same}) > 1]
    alike: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in accepted:
        alike[row.pixel_hash, row.label].append(row)
    for i, j in near:
        one, other = accepted[i], accepted[j]
        if one.label != other.label and one.pixel_hash != other.pixel_hash:  # with all copies of both, pixel for pixel
            found.append(alike[one.pixel_hash, one.label] + alike[other.pixel_hash, other.label])
    return found


def _quarantine_conflicts(conflicts: list[list[Row]]) -> None:
    against: dict[int, list[str]] = defaultdict(list)
    rows = {}
    for members in conflicts:
        for row in members:
            rows[id(row)] = row
            against[id(row)] += [other.path for other in members if other.label != row.label]
    for key, row in rows.items():
        row.quarantine("label_conflict", "the same as " + _listed(against[key]))


def _leaks(sets: list[list[Row]]) -> list[list[Row]]:
    """Return what is accepted of the sets of rows that the source's own splits tear apart."""
    kept = [[row for row in members if row.status == "accepted"] for members in sets]
    return [members for members in kept if len({row.split for row in members if row.split}) > 1]


def _quarantine_leaks(leaks: list[list[Row]], reason: str, how: str) -> None:
    """Keep what is in the most guarded split, test before val before train."""
    for members in leaks:
        kept = next(name for name in _GUARDED if any(row.split == name for row in members))
        others = _listed([row.path for row in members if row.split == kept])
        for row in members:
            if row.split != kept:
                row.quarantine(reason, f"{how} {others}")


def _listed(paths: list[str]) -> str:
    unique = list(dict.fromkeys(paths))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")


def _join_given_groups(accepted: list[Row], together: Clusters) -> None:
    """Join what the source's table groups."""
    first: dict[str, int] = {}
    for i, row in enumerate(accepted):
        if row.given_group:
            together.join(first.setdefault(row.given_group, i), i)


def _name_groups(groups: list[list[Row]]) -> None:
    """Name each group by the first of the groups that the source gives its images, else by the least of their pixel hashes."""
    for group in groups:
        given = min((row.given_group for row in group if row.given_group), default="")
        name = f"group {given}" if given else min(row.pixel_hash for row in group)
        for row in group:
            row.group = name


def _assign(accepted: list[Row], params: Ingest, ready: frozenset[str]) -> None:
    """Give each row its split: the source's own where it has one; what the source lacks is taken out of its training images."""
    test = 0.0 if "test" in ready else params.test_share
    val = 0.0 if "val" in ready else params.val_share
    free = [row for row in accepted if row.split in ("", "train")]
    chosen: dict[str, str] = {}
    if params.split_by == "stratified":
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in free:
            groups[row.group].append(row)
        described = [
            Group(key, len(members), min(Counter(row.label for row in members).items(), key=lambda item: (-item[1], item[0]))[0])
            for key, members in groups.items()
        ]
        chosen = splits.stratified(described, test, val, params.seed)
    guarded = {row.group: row.split for row in sorted(accepted, key=lambda row: row.split) if row.split in ("val", "test")}
    for row in free:
        if row.group in guarded:  # beside a copy whose split the source gives
            row.split = row.split or guarded[row.group]
            continue
        row.split = chosen.get(row.group) or splits.by_hash(row.group, test, val, params.seed)
