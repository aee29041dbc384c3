"""Which split an image belongs to: decided by the group of images that it is in, so that the same picture is never in two."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Images that must share a split: what identifies them, their number, their commonest label."""

    key: str
    size: int
    label: str


def position(group: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on what identifies a group and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8], "big") / 2**64


def by_hash(group: str, test_share: float, val_share: float, seed: int) -> str:
    """Return train, val or test. Adding or removing other images moves none."""
    u = position(group, seed)
    if u < test_share:
        return "test"
    return "val" if u < test_share + val_share else "train"


def stratified(groups: Iterable[Group], test_share: float, val_share: float, seed: int) -> dict[str, str]:
    """Return the split of each group by its key, such that every class has its shares as exactly as its groups allow.

    Of a class with three groups or more, each split that has a share gets at least one. Groups are taken in the order of their
    `position`, so that an image more or less moves few others; but it may move some.
    """
    classes: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        classes[group.label].append(group)
    chosen: dict[str, str] = {}
    for members in classes.values():
        members.sort(key=lambda group: (position(group.key, seed), group.key))
        total = sum(group.size for group in members)
        rest = list(members)
        for name, share in (("test", test_share), ("val", val_share)):
            wanted, taken = round(total * share), 0
            least = 1 if share > 0 and len(members) >= 3 else 0
            for group in list(rest):
                if len(rest) <= 1:
                    break
                fits = abs(wanted - taken - group.size) < abs(wanted - taken)
                if (fits and taken < wanted) or taken < least:
                    chosen[group.key] = name
                    taken += group.size
                    rest.remove(group)
                if taken >= max(wanted, least):
                    break
        chosen.update({group.key: "train" for group in rest})
    return chosen
