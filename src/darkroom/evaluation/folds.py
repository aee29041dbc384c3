"""Folds for cross-validation: parts of the images, of which each is predicted by models of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

GIVEN = "group fold "  # begins the name of a group in the manifest that is a fold of the source's table


def deal(labels: np.ndarray, groups: Sequence[str], count: int, draw: int = 0) -> np.ndarray:
    """Return each image's fold (N,), 0 to `count` - 1: groups stay together, those of a class are dealt in turn.

    A group has the class of most of its images. `draw` seeds the order in which the groups of a class are dealt.
    """
    members: dict[str, list[int]] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        members.setdefault(group, []).append(label)
    classes = {group: min((-count, label) for label, count in Counter(own).items())[1] for group, own in members.items()}
    names = sorted(classes)
    shuffled = [names[i] for i in np.random.default_rng(draw).permutation(len(names))]
    place = {group: i % count for i, group in enumerate(sorted(shuffled, key=classes.__getitem__))}
    return np.array([place[group] for group in groups], int)


def of_source(groups: Sequence[str]) -> np.ndarray | None:
    """Return the folds (N,) that the source itself has, each a group of its own; None where it has none."""
    if not groups or not all(group.startswith(GIVEN) for group in groups):
        return None
    return np.unique(groups, return_inverse=True)[1]
