"""The split of each group of images: by its hash alone, or so that every class has its shares. A group is never
divided, and an image whose split is frozen keeps it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from darkroom.config.params import Ingest
from darkroom.data.frozen_splits import FrozenImage, match, more_guarded
from darkroom.data.source_row import SourceRow

Rows = list[SourceRow]
MIN_GROUPS = 3  # of a class that is in all splits
MAX_KINDS = 40  # different groups of a class, up to which they are exchanged


@dataclass(frozen=True)
class SplitGroup:
    """Images that must share a split: the name of the group, its images by label, and its split where it is fixed."""

    key: str
    counts: Mapping[str, int]
    split: str = ""


Transfer = tuple[SplitGroup, str, str]  # a group, the split that it leaves, and the one that it joins


@dataclass(frozen=True)
class ClassShare:
    """What a class has to divide: its images, their groups, the images of the largest, and the target of each
    split that is drawn.
    """

    images: int
    groups: int
    largest: int
    targets: Mapping[str, int]
    fixed: int = 0  # groups whose split is frozen


@dataclass(frozen=True)
class SplitReport:
    """What frozen splits and groups led to: images with a frozen split, frozen lines that match no image, images
    whose frozen split a more guarded one overrules, each with both, and what each class has to divide.
    """

    frozen: int = 0
    unused: list[str] = field(default_factory=list)
    overruled: list[tuple[SourceRow, str]] = field(default_factory=list)  # with the frozen split
    shares: dict[str, ClassShare] = field(default_factory=dict)


def draw_splits(accepted: Rows, params: Ingest, ready: frozenset[str], frozen: Sequence[FrozenImage] = ()) -> SplitReport:
    """Give each row its split, and report what stood in the way.

    The source's own validation and test images keep theirs. A frozen split holds for the whole group, and of
    several the most guarded one. All other groups are drawn; splits that the source lacks come out of its train.
    """
    test = 0.0 if "test" in ready else params.test_share
    val = 0.0 if "val" in ready else params.val_share
    frozen_splits, unused = match(frozen, accepted)
    fixed: dict[str, str] = {}  # the splits of groups that are not drawn
    for row in accepted:
        for split in (row.split if row.split in ("val", "test") else "", frozen_splits.get(row.path, "")):
            if split:
                fixed[row.group] = more_guarded(split, fixed.get(row.group, split))
    guarded = {row.group for row in accepted if row.split in ("val", "test")}
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for row in accepted:
        if row.group not in guarded:
            labels[row.group][row.label] += 1
    groups = [SplitGroup(key, counts, fixed.get(key, "")) for key, counts in labels.items()]
    drawn = stratified(groups, test, val, params.seed) if params.split_by == "stratified" else {}
    for row in accepted:
        if row.group in guarded and row.split and params.on_leak == "keep" and row.path not in frozen_splits:
            continue  # a leak of the source that is kept
        row.split = fixed.get(row.group) or drawn.get(row.group) or by_hash(row.group, test, val, params.seed)
    overruled = [(row, frozen_splits[row.path]) for row in accepted if frozen_splits.get(row.path, row.split) != row.split]
    return SplitReport(len(frozen_splits), unused, overruled, _class_shares(groups, {"test": test, "val": val}))


def _class_shares(groups: Iterable[SplitGroup], shares: Mapping[str, float]) -> dict[str, ClassShare]:
    """Return what each class has to divide."""
    counts: dict[str, list[int]] = defaultdict(list)
    fixed: Counter[str] = Counter()
    for group in groups:
        for label, count in group.counts.items():
            counts[label].append(count)
            fixed[label] += bool(group.split)
    return {
        label: ClassShare(
            sum(sizes), len(sizes), max(sizes),
            {name: target(sum(sizes), share) for name, share in shares.items() if share > 0}, fixed[label],
        )
        for label, sizes in counts.items()
    }  # fmt: skip


def target(images: int, share: float) -> int:
    """Return how many of the images of a class a split with this share has."""
    return round(images * share)


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

    Groups with a split keep it and count. The others are taken in the order of their `position`, as far as they
    fit, so that an image more or less moves few others. What is then missing is filled by the group that comes
    nearest, and groups are exchanged while this brings the splits nearer to their shares. A class with three
    groups or more has at least one in each split that has a share, unless fixed groups or groups of several
    classes stand in the way. Classes with few groups choose first, as in Sechidis et al. (2011), "On the
    Stratification of Multi-Label Data".
    """
    shares = {name: share for name, share in (("test", test_share), ("val", val_share)) if share > 0}
    draw = _StratifiedDraw(sorted(groups, key=lambda group: (position(group.key, seed), group.key)), shares)
    labels = sorted(draw.members, key=lambda label: (len(draw.members[label]), label))
    for label in labels:
        for name in shares:
            draw.fill(label, name)
    draw.fill_train()
    for label in labels:
        draw.exchange(label)
    return draw.splits


class _StratifiedDraw:
    """The state of a stratified draw: the splits so far, what each split lacks of each class, and its groups."""

    def __init__(self, groups: Sequence[SplitGroup], shares: Mapping[str, float]) -> None:
        self.groups, self.names = groups, ("train", *shares)  # groups in the order in which they are taken
        self.order = {group.key: i for i, group in enumerate(groups)}
        self.splits: dict[str, str] = {}
        self.members: dict[str, list[SplitGroup]] = defaultdict(list)  # the groups of a class that can be drawn
        totals: Counter[str] = Counter()
        group_counts: Counter[str] = Counter()
        for group in groups:
            for label, count in group.counts.items():
                totals[label] += count
                group_counts[label] += 1
                if not group.split:
                    self.members[label].append(group)
        self.left = {label: len(members) for label, members in self.members.items()}
        self.lack = {name: {label: target(n, share) for label, n in totals.items()} for name, share in shares.items()}
        self.required = {label: self.names if n >= MIN_GROUPS else ("train",) for label, n in group_counts.items()}
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in ("train", "val", "test")}  # groups by split and class
        self.penalty = 1 + sum(totals.values())  # of a split without a class, more than of any number of images
        for group in groups:
            if group.split:
                self._put(group, group.split)

    def _put(self, group: SplitGroup, name: str, times: int = 1) -> None:
        """Add a group to a split; -1 times removes it."""
        lack = self.lack.get(name)
        for label, count in group.counts.items():
            self.counts[name][label] += times
            if lack is not None:
                lack[label] -= times * count
        self.splits[group.key] = name

    def _take(self, group: SplitGroup, name: str) -> None:
        for label in group.counts:
            self.left[label] -= 1
        self._put(group, name)

    def _needs(self, label: str) -> list[str]:
        """Return the splits that have to get a group of a class, the most important first."""
        return [name for name in self.required[label] if not self.counts[name][label]]

    def fill(self, label: str, name: str) -> None:
        """Give a split its images of a class: groups that fit, then those that come nearest."""
        lack = self.lack[name]
        for group in self.members[label]:
            if lack[label] <= 0:
                break
            fits = group.key not in self.splits and all(n <= lack[other] for other, n in group.counts.items())
            if fits and self._is_free(group, name):
                self._take(group, name)
        if lack[label] <= 0 and name not in self._needs(label):
            return
        kinds = self._kinds(label)[""]
        while lack[label] > 0 or name in self._needs(label):
            free = [groups for groups in kinds if groups and self._is_free(groups[-1], name)]
            best = min(free, key=lambda groups: (self._change(groups[-1], name), self.order[groups[-1].key]), default=[])
            if not best or (self._change(best[-1], name) >= 0 and name not in self._needs(label)):
                break
            self._take(best.pop(), name)

    def fill_train(self) -> None:
        """Give the groups that were not taken to train."""
        for group in self.groups:
            if group.key not in self.splits:
                self._put(group, "train")

    def _is_free(self, group: SplitGroup, name: str) -> bool:
        """Tell whether a group leaves enough groups of its classes for the splits that have none."""
        for label in group.counts:
            if self.left[label] > len(self.names):
                continue
            served = self._needs(label)[: self.left[label]]
            if self.left[label] - 1 < len(served) - (name in served):
                return False
        return True

    def _change(self, group: SplitGroup, name: str) -> int:
        """Return by how much the distance from the targets grows with a group."""
        lack = self.lack[name]
        return sum(abs(lack[label] - count) - abs(lack[label]) for label, count in group.counts.items())

    def _kinds(self, label: str) -> dict[str, list[list[SplitGroup]]]:
        """Return the groups of a class that can be drawn, by split and by their counts, the first one last."""
        kinds: dict[str, dict[tuple[tuple[str, int], ...], list[SplitGroup]]] = {name: {} for name in ("", *self.names)}
        for group in reversed(self.members[label]):
            of_split = kinds[self.splits.get(group.key, "")]
            of_split.setdefault(tuple(sorted(group.counts.items())), []).append(group)
        return {name: list(of_split.values()) for name, of_split in kinds.items()}

    def _cost(self, labels: Iterable[str]) -> int:
        """Return the distance of classes from their targets, in images; a split without one costs more than all."""
        return sum(
            sum(abs(lack[label]) for lack in self.lack.values()) + self.penalty * len(self._needs(label)) for label in labels
        )

    def exchange(self, label: str) -> None:
        """Move groups of a class between splits, one or two at a time, while this lowers the cost."""
        while self._cost([label]) > 0:
            kinds = {name: [groups[0] for groups in of_split] for name, of_split in self._kinds(label).items() if name}
            if sum(map(len, kinds.values())) > MAX_KINDS:
                return  # of so many groups there is always one that fits
            moves = [(group, one, other) for one in kinds for group in kinds[one] for other in kinds if one != other]
            pairs = [pair for pair in combinations(moves, 2) if pair[0][0] is not pair[1][0]]
            candidates: list[tuple[Transfer, ...]] = [*((move,) for move in moves), *pairs]
            gains = [self._gain(candidate) for candidate in candidates]
            best = max(gains, default=0)
            if best <= 0:
                return
            self._apply(candidates[gains.index(best)])

    def _gain(self, moves: Sequence[Transfer]) -> int:
        """Return by how much moves of groups, each from one split to another, lower the cost."""
        labels = {label for group, _, _ in moves for label in group.counts}
        before = self._cost(labels)
        self._apply(moves)
        gain = before - self._cost(labels)
        self._apply([(group, other, one) for group, one, other in moves])
        return gain

    def _apply(self, moves: Sequence[Transfer]) -> None:
        for group, one, other in moves:
            self._put(group, one, -1)
            self._put(group, other)
