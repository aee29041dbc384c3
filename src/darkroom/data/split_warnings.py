"""What a person has to know about the splits: classes without an image in one, shares that groups do not allow,
frozen splits that do not hold, and images that moved.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darkroom.config.params import SPLITS, Ingest
from darkroom.core.counts import counted
from darkroom.core.errors import printable
from darkroom.data.frozen_splits import FROZEN
from darkroom.data.manifest import Row
from darkroom.data.splits import MIN_GROUPS, ClassShare, SplitReport

MAX_LISTED = 5
MAX_DEVIATION = 0.5  # of a target, above which a split of a class is named
MIN_DEVIATION = 3  # images


@dataclass(frozen=True)
class Move:
    """An image that was in another split before."""

    path: str
    before: str
    after: str


def find_moves(previous: Sequence[Row], rows: Sequence[Row]) -> list[Move]:
    """Return the accepted images that an earlier manifest has in another split.

    An image is the same where its file or, failing that, its picture is the same, wherever it lies.
    """
    places: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in previous:
        if row.status == "accepted":
            for key in _identities(row):
                places[key].add(row.split)
    moves = []
    for row in rows:
        if row.status == "accepted":
            before: set[str] = next((places[key] for key in _identities(row) if key in places), set())
            if len(before) == 1 and row.split not in before:
                moves.append(Move(row.path, min(before), row.split))
    return moves


def _identities(row: Row) -> list[tuple[str, str]]:
    """Return what an image is known by, the most certain first."""
    return [(row.path, row.sha256), ("file", row.sha256), ("picture", row.pixel_hash)]


def describe_moves(moves: Sequence[Move]) -> str:
    """Return how many images moved from where to where, and the first of them."""
    move_counts = Counter((move.before, move.after) for move in moves)
    listing = ", ".join(f"{count:,} {before} → {after}" for (before, after), count in sorted(move_counts.items()))
    changed = f"{_images(len(moves))} changed {'its' if len(moves) == 1 else 'their'} split since the last ingest"
    return f"{changed} ({listing}): {_list([move.path for move in moves])}"


def warnings(report: SplitReport, classes: Mapping[str, Mapping[str, int]], ready: frozenset[str], params: Ingest) -> list[str]:
    """Return a sentence for each fault of the splits; `classes` has the images of each class by split."""
    sentences = []
    if report.overruled:
        examples = _list([f"{row.path} (frozen to {split}, now {row.split})" for row, split in report.overruled])
        sentences.append(
            f"{_images(len(report.overruled))} of {FROZEN} belong to a group or a folder of a more guarded split, which they "
            f"join: {examples}; correct or remove their lines"
        )
    if report.unused:
        count = len(report.unused)
        sentences.append(
            f"{count:,} line{'s' * (count != 1)} of {FROZEN} name{'s' * (count == 1)} no image that is used: {_list(report.unused)}"
        )
    absent, uneven = [], []
    for label, counts in classes.items():
        names = [name for name in SPLITS if not counts[name]]
        share = report.shares.get(label, ClassShare(0, 0, 0, {}))
        if names:
            absent.append(f"{label} has no image for {' and '.join(names)}: {_explain_absent(share, names, ready, params)}")
        elif params.split_by == "stratified":
            uneven += [_explain_uneven(label, name, counts[name], share) for name in _uneven_splits(counts, share)]
    return sentences + _first(absent, "classes without a split") + _first(uneven, "splits of classes that differ from their shares")


def _first(sentences: list[str], noun: str) -> list[str]:
    more = len(sentences) - MAX_LISTED
    return sentences[:MAX_LISTED] + ([f"and {more:,} more {noun}"] if more > 0 else [])


def _explain_absent(share: ClassShare, names: Sequence[str], ready: frozenset[str], params: Ingest) -> str:
    """Return why a class has no image in some splits, and the remedy."""
    own = [name for name in names if name in ready]
    if own and ready.issuperset(names):
        return f"the source's own {' and '.join(own)} {'has' if len(own) == 1 else 'have'} none; add images there"
    if params.split_by == "hash":
        return "set `ingest.split_by` to stratified, or add images"
    if share.groups < MIN_GROUPS:
        counts = f"{counted(share.groups, 'image')}"
        if share.images > share.groups:
            counts = f"{_images(share.images)} in {counted(share.groups, 'group')} of copies or of the table"
        return f"it has {counts} to divide, and {MIN_GROUPS} are needed; add images"
    if share.fixed:
        return f"{FROZEN} freezes {share.fixed:,} of its {share.groups:,} groups elsewhere; add images, or remove lines"
    return "its groups have images of other classes too, which do not fit there; add images"


def _uneven_splits(counts: Mapping[str, int], share: ClassShare) -> list[str]:
    """Return the splits whose number of images of a class is far from its share."""
    return [
        name for name, target in share.targets.items() if abs(counts[name] - target) >= max(MIN_DEVIATION, MAX_DEVIATION * target)
    ]


def _explain_uneven(label: str, name: str, count: int, share: ClassShare) -> str:
    """Return that a class has not its share, and why."""
    reason = f"its {share.groups:,} groups cannot be divided, and the largest has {_images(share.largest)}"
    if share.fixed:
        reason = f"{FROZEN} freezes {share.fixed:,} of its {share.groups:,} groups"
    return f"{label} has {_images(count)} for {name} instead of {share.targets[name]:,}: {reason}"


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _list(names: Sequence[str]) -> str:
    more = len(names) - MAX_LISTED
    return printable(", ".join(names[:MAX_LISTED])) + (f" and {more:,} more" if more > 0 else "")
