"""How often prediction sets hold the true class, and how large they are, by method: splits of folders of photographs.

    python benchmarks/prediction_sets.py FOLDER [FOLDER …] --weights FOLDER [--splits 20] [--coverage 0.9]

Each folder is embedded once by a frozen MobileNetV2; each split trains a head on 70% of its images, chooses the epoch, the
temperature and the thresholds by 10%, as the stages do, and counts on 20%. Compared: `lac`, the score 1 − p that Darkroom
has; `aps` and `raps`, sums of the probabilities down to a class, without randomisation (Romano et al. 2020; Angelopoulos et
al. 2021, λ 0.1 from the second class on); and `aps_random`, with it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from measuring import report

from darkroom.api.heads import train_head
from darkroom.data.subsets import SubsetOptions, load_subset
from darkroom.inference.classifier import batches
from darkroom.models import mahalanobis, pretrained
from darkroom.models.base import Normalize
from darkroom.models.prediction_sets import ConformalScores

SIZE = 160
BACKBONE = "mobilenet_v2"
LAMBDA, FREE = 0.1, 1  # of RAPS: a penalty for each class after the first FREE
Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, S, S, 3) uint8 of a folder of classes, and labels (N,)."""
    subset = load_subset(SubsetOptions(str(folder), SIZE, 3, None, 0.2))
    images = np.concatenate([subset.train[0], subset.held_out[0]]).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.concatenate([subset.train[1], subset.held_out[1]])


class Embedder:
    """Images (N, S, S, 3) uint8 to embeddings (N, D) by a frozen backbone; `levels`: with the means (N, M) of the feature map that
    the distance takes beside them, (N, D + M), which `split` takes apart."""

    def __init__(self, weights_folder: Path, name: str = BACKBONE, source: str = "folder") -> None:
        self.backbone, origin = pretrained.load(name, SIZE, "pooled", source, weights_folder)
        self.backbone.eval()
        self.normalize = Normalize(origin.mean, origin.std)
        self.steps = mahalanobis.steps_of(self.backbone.step_count())

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.split(self.levels(images))[0]

    def levels(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            parts = [self.backbone.levels(self.normalize(batch), self.steps) for batch in batches(images, 32)]
            return np.concatenate([torch.cat(part, 1).numpy() for part in parts])

    def split(self, x: np.ndarray) -> list[np.ndarray]:
        return np.split(x, [self.backbone.dim], 1)


def lac(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return 1 − p (N, C)."""
    return 1 - probabilities


def aps(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return the sum of the probabilities (N, C) of a class and of all more probable ones."""
    order = np.argsort(-probabilities, axis=1)
    sums = np.take_along_axis(probabilities, order, 1).cumsum(1)
    return np.take_along_axis(sums, np.argsort(order, axis=1), 1)


def aps_random(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return the same, less a uniform share of the class's own probability."""
    return aps(probabilities, uniform) - uniform[:, None] * probabilities


def raps(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return `aps` with a penalty for each class after the first."""
    ranks = np.argsort(np.argsort(-probabilities, axis=1), axis=1) + 1
    return aps(probabilities, uniform) + LAMBDA * np.maximum(ranks - FREE, 0)


METHODS: dict[str, Scores] = {"lac": lac, "aps": aps, "aps_random": aps_random, "raps": raps}


def split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of train, val and test: 70, 10 and 20% of each class."""
    rng = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for number in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == number))
        first, second = round(0.1 * len(rows)), round(0.3 * len(rows))
        for part, chosen in zip(parts, (rows[second:], rows[:first], rows[first:second]), strict=True):
            part.extend(chosen.tolist())
    train, val, test = (np.array(part) for part in parts)
    return train, val, test


def figures(sets: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return of sets (N, C): how many hold the label, that of the worst class, their mean size, the share of empty ones."""
    hits = sets[np.arange(len(labels)), labels]
    by_class = [float(hits[labels == number].mean()) for number in np.unique(labels)]
    sizes = sets.sum(1)
    empty = float((sizes == 0).mean())
    return {"coverage": float(hits.mean()), "worst class": min(by_class), "size": float(sizes.mean()), "empty": empty}


def run(x: np.ndarray, y: np.ndarray, seed: int, coverage: float) -> dict[str, dict[str, float]]:
    """Return the figures of a split by method, `darkroom` is what the package does."""
    train, val, test = split(y, seed)
    with redirect_stdout(StringIO()):
        head = train_head(x[train], y[train], (x[val], y[val]), seed=seed, threads=1)
    on_val, on_test = head.predict_proba(x[val]), head.predict_proba(x[test])
    rng = np.random.default_rng(seed)
    uniform = rng.random(len(val)), rng.random(len(test))
    results: dict[str, dict[str, float]] = {}
    for name, scores in METHODS.items():
        calibration = np.sort(scores(on_val, uniform[0])[np.arange(len(val)), y[val]])
        place = math.ceil((len(val) + 1) * coverage)
        limit = calibration[place - 1] if place <= len(val) else np.inf
        results[name] = figures(scores(on_test, uniform[1]) <= limit, y[test])
    results["darkroom"] = figures(ConformalScores.of(on_val, y[val]).sets(on_test, coverage), y[test])
    return {name: row | {"accuracy": float((on_test.argmax(1) == y[test]).mean())} for name, row in results.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--coverage", type=float, default=0.9)
    args = parser.parse_args()
    rows = []
    embed = Embedder(args.weights)
    for folder in args.folders:
        images, y = read_folder(folder)
        x = embed(images)
        splits = [run(x, y, seed, args.coverage) for seed in range(args.splits)]
        for method in splits[0]:
            means = {key: fmean(part[method][key] for part in splits) for key in splits[0][method]}
            spread = stdev(part[method]["coverage"] for part in splits)
            rows.append({"folder": folder.name, "method": method, "images": len(y), **means, "sd of coverage": spread})
    report("prediction_sets", rows, {"splits": args.splits, "coverage": args.coverage})


if __name__ == "__main__":
    main()
