"""Splits of groups of images. A group is never divided, so that no picture is in two splits."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class SplitGroup:
    """Images that must share a split: the name of the group, its number of images, their commonest label."""

    key: str
    size: int
    label: str


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
