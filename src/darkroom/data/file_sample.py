"""A part of a source's files, drawn before any of them is read."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence

from darkroom.data.sources import SourceFile


def draw_files(files: Sequence[SourceFile], count: int, seed: int) -> list[SourceFile]:
    """Return `count` of the files that may be images, or all if there are fewer, in their order.

    Of each class the same share is drawn, to within one file and at least one. Of two files of a class the one with
    the lower hash of its path and the seed is drawn first, so that a class with other files changes none of
    this class's order.
    """
    classes: dict[str, list[int]] = defaultdict(list)
    for number, file in enumerate(files):
        if not file.ignored and not file.refused:
            classes[file.label].append(number)
    shares = _shares({label: len(numbers) for label, numbers in classes.items()}, count)
    drawn: list[int] = []
    for label, numbers in classes.items():
        drawn += sorted(numbers, key=lambda number: _rank(files[number].path, seed))[: shares[label]]
    return [files[number] for number in sorted(drawn)]


def _shares(sizes: dict[str, int], count: int) -> dict[str, int]:
    """Return how many of each class are drawn: by the largest remainder, at least one."""
    total = sum(sizes.values())
    if count >= total:
        return sizes
    exact = {label: size * count / total for label, size in sizes.items()}
    shares = {label: max(1, math.floor(share)) for label, share in exact.items()}
    order = sorted(sizes, key=lambda label: (shares[label] - exact[label], label))
    for label in order[: max(0, count - sum(shares.values()))]:
        shares[label] += 1
    return shares


def _rank(path: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{path}".encode()).digest()
