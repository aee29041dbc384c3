"""Simulate stratified splits: how far they are from their shares, and how many images move when some are added.

    python benchmarks/splits.py [--seeds 300]

shape      groups of images of a class, divided with 20% for test and 10% for validation; images a class in brackets
test, val  mean and largest distance from the share, in images of a class
empty      classes with three groups or more that have no image in some split
moved      images that change their split where a tenth more images of the same shape come, in percent: without
           a file of frozen splits; with one, none does
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import measuring

from darkroom.data.splits import SplitGroup, stratified

SHARES = {"test": 0.2, "val": 0.1}
Shape = Callable[[random.Random], list[dict[str, int]]]  # the images of each group, by class


def single(classes: int, images: int) -> Shape:
    return lambda draw: [{str(label): 1} for label in range(classes) for _ in range(images)]


def sizes(*of_groups: int) -> Shape:
    return lambda draw: [{"a": size} for size in of_groups]


def patients(count: int, largest: int) -> Shape:
    return lambda draw: [{"a": draw.randint(1, largest)} for _ in range(count)]


def of_two_classes(draw: random.Random) -> list[dict[str, int]]:
    return [{label: count for label in "ab" if (count := draw.randint(0, 6))} or {"a": 1} for _ in range(60)]


SHAPES: dict[str, Shape] = {
    "one group of 50 beside 50 images (100)": sizes(50, *[1] * 50),
    "two classes of 50 images (50)": single(2, 50),
    "100 classes of 5 images (5)": single(100, 5),
    "3 groups of 50, 30, 20 (100)": sizes(50, 30, 20),
    "3 groups of 50 (150)": sizes(50, 50, 50),
    "2 groups of 50 beside 3 images (103)": sizes(50, 50, 1, 1, 1),
    "51 pairs (102)": sizes(*[2] * 51),
    "20 patients of 1 to 30 images (310)": patients(20, 30),
    "60 patients with up to 6 images of each of two classes (180)": of_two_classes,
}


def simulate(shape: Shape, seed: int) -> tuple[dict[str, list[int]], int, float]:
    """Return the distances of each class from its shares, the number of empty splits and the share of images that move."""
    draw = random.Random(seed)
    counts = shape(draw)
    groups = [SplitGroup(f"{seed} {i}", labels) for i, labels in enumerate(counts)]
    splits = stratified(groups, SHARES["test"], SHARES["val"], seed)
    images: dict[str, Counter[str]] = {}
    of_class: Counter[str] = Counter()
    for group in groups:
        for label, count in group.counts.items():
            images.setdefault(label, Counter())[splits[group.key]] += count
            of_class[label] += 1
    distances = {
        name: [abs(split_counts[name] - round(split_counts.total() * share)) for split_counts in images.values()]
        for name, share in SHARES.items()
    }
    empty = sum(
        of_class[label] >= 3 and not all(split_counts[name] for name in ("train", *SHARES))
        for label, split_counts in images.items()
    )
    more = [SplitGroup(f"{seed} new {i}", labels) for i, labels in enumerate(shape(draw)[::10])]
    later = stratified([*groups, *more], SHARES["test"], SHARES["val"], seed)
    moved = sum(sum(group.counts.values()) for group in groups if splits[group.key] != later[group.key])
    return distances, empty, moved / sum(split_counts.total() for split_counts in images.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="not used: `python benchmarks` names one")
    parser.add_argument("--seeds", type=int, default=300)
    options = parser.parse_args()
    rows = []
    for name, shape in SHAPES.items():
        results = [simulate(shape, seed) for seed in range(options.seeds)]
        row: dict[str, object] = {"shape": name}
        for split in SHARES:
            values = [value for distances, _, _ in results for value in distances[split]]
            row[split] = f"{statistics.mean(values):.2f}, {max(values)}"
        row["empty"] = sum(empty for _, empty, _ in results)
        row["moved %"] = 100 * statistics.mean(moved for _, _, moved in results)
        rows.append(row)
    measuring.report("splits", rows, {"seeds": options.seeds})


if __name__ == "__main__":
    main()
