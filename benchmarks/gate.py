"""Simulate the gate: how often it promotes models that are worse, equal and better than the champion, and which
check vetoes.

    python benchmarks/gate.py [--runs 300]

Both models classify 90% of the images correctly, but for the difference. An image is as hard for one model as for
the other to the extent that exactly one is right on about 10% of them. Validation has half as many images as test.

test        test images: classes × images of a class, or × groups of images that are nearly alike
difference  of the accuracy, in points; `class` is of equal models, but for one class that loses 40 points
promoted    by the gate, in percent of the runs; `more right` if the better model were the one with more correct images,
            `p < 0.05` if it had to be significantly better; `best of 3` where validation selected it among three alike
vetoed      by any check, in percent; a model that is not better is kept back without a veto
others      vetoes of each check, in percent; `significant` is McNemar's test alone, of the test accuracy
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist

import measuring
import numpy as np

from darkroom.config import params
from darkroom.config.params import Register
from darkroom.evaluation import gate, significance

ACCURACY = 0.9
SHARED = 0.7  # of an image's difficulty, by which exactly one model is right on about 10% of the images
ALIKE = 0.9  # of the difficulty of an image, shared by its group
RESAMPLES = 200  # of the bootstrap: a fifth of the gate's, which changes no rate by more than its error
CHECKS = {
    "validation": "validation", "accuracy": "accuracy against the champion", "macro F1": "macro F1 against the champion",
    "class": "every class", "better": "better than the champion",
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """The images of a test split: classes, groups of a class, and images of a group."""

    classes: int
    groups: int
    images: int = 1

    def __str__(self) -> str:
        return f"{self.classes} × {self.groups}" + (f" groups of {self.images}" if self.images > 1 else "")


@dataclass(frozen=True)
class Split:
    """Labels and groups of a split, and what each image and each group adds to its difficulty, (N,) each."""

    labels: np.ndarray
    groups: np.ndarray
    difficulty: np.ndarray
    wrong: np.ndarray


SIZES = [Shape(10, count) for count in (5, 10, 20, 40, 100, 200)]
SHAPES = [Shape(20, 20), Shape(100, 10), Shape(10, 10, 4), Shape(4, 10, 10)]


def draw_split(rng: np.random.Generator, shape: Shape, share: float = 1.0) -> Split:
    groups = max(1, round(shape.groups * share))
    labels = np.repeat(np.arange(shape.classes), groups * shape.images)
    groups = np.repeat(np.arange(shape.classes * groups), shape.images)
    wrong = (labels + rng.integers(1, shape.classes, len(labels))) % shape.classes
    return Split(labels, groups, noise(rng, groups), wrong)


def noise(rng: np.random.Generator, groups: np.ndarray) -> np.ndarray:
    """Return normal noise (N,), most of which the images of a group share."""
    return ALIKE**0.5 * rng.standard_normal(groups.max() + 1)[groups] + (1 - ALIKE) ** 0.5 * rng.standard_normal(len(groups))


def predict(rng: np.random.Generator, split: Split, accuracy: float, weak: float = 0.0) -> np.ndarray:
    """Return the probabilities of a model of this accuracy (N, C), which is lower by `weak` in the first class."""
    levels = [NormalDist().inv_cdf(accuracy), NormalDist().inv_cdf(accuracy - weak)]
    level = np.where(split.labels == 0, levels[1], levels[0])
    right = SHARED**0.5 * split.difficulty + (1 - SHARED) ** 0.5 * noise(rng, split.groups) < level
    return np.eye(split.labels.max() + 1)[np.where(right, split.labels, split.wrong)]


def judge(
    rng: np.random.Generator, shape: Shape, difference: float, weak: float, candidates: int, limits: Register
) -> list[gate.Check]:
    """Return the checks of one challenger, that of several candidates with the highest validation accuracy."""
    test, val = draw_split(rng, shape), draw_split(rng, shape, 0.5)
    champion = gate.Candidate("champion", predict(rng, val, ACCURACY), predict(rng, test, ACCURACY), 1.0, 1.0)
    models = [
        gate.Candidate("challenger", *(predict(rng, split, ACCURACY + difference, weak) for split in (val, test)), 1.0, 1.0)
        for _ in range(candidates)
    ]
    challenger = max(models, key=lambda model: (model.val.argmax(1) == val.labels).sum())
    truth = gate.Truth(
        classes=tuple(map(str, range(shape.classes))), val=val.labels, test=test.labels,
        fresh_val=np.ones(len(val.labels), bool), fresh_test=np.ones(len(test.labels), bool),
        val_groups=val.groups, test_groups=test.groups,
    )  # fmt: skip
    return gate.against(challenger, champion, truth, limits)


def measure(
    shape: Shape, difference: float, limits: Register, runs: int, weak: float = 0.0, candidates: int = 1
) -> dict[str, object]:
    rng = np.random.default_rng(0)
    counts = Counter[str]()
    for _ in range(runs):
        checks = {check.name: check for check in judge(rng, shape, difference, weak, candidates, limits)}
        better = checks[CHECKS["better"]].figures
        test = checks[CHECKS["accuracy"]].figures
        counts["significant"] += test["mcnemar_p"] < gate.ALPHA and test["difference"] < 0
        counts.update(name for name, check in CHECKS.items() if not checks[check].passed)
        counts["vetoed"] += any(check.is_veto for check in checks.values())
        if all(check.passed for name, check in checks.items() if name != CHECKS["better"]):
            counts["promoted"] += better["p"] < gate.BETTER
            counts["more right"] += better["won"] > better["lost"]
            counts["p < 0.05"] += better["p"] < gate.ALPHA
    name = f"{100 * difference:+g}" if not weak else "class"
    columns = ("promoted", "vetoed", "more right", "p < 0.05", *CHECKS, "significant")
    start = {"test": f"{shape}{', best of 3' if candidates > 1 else ''}", "difference": name}
    return start | {column: f"{100 * counts[column] / runs:.1f}" for column in columns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="not used: `python benchmarks` names one")
    parser.add_argument("--runs", type=int, default=300)
    options = parser.parse_args()
    significance.bootstrap = partial(significance.bootstrap, resamples=RESAMPLES)
    limits, started = params.read().register_, time.perf_counter()
    rows = [measure(shape, difference, limits, options.runs) for shape in SIZES for difference in (-0.02, 0, 0.02, 0.04)]
    rows += [measure(shape, difference, limits, options.runs) for shape in SHAPES for difference in (0, 0.04)]
    rows += [measure(shape, 0, limits, options.runs, weak=0.4) for shape in (Shape(20, 20), Shape(10, 100))]
    rows += [measure(shape, -0.02, limits, options.runs, candidates=3) for shape in SIZES[:4]]
    measuring.report("gate", rows, {"runs": options.runs, "seconds": time.perf_counter() - started})


if __name__ == "__main__":
    main()
