"""How well images unlike the data are told from images like them, by method: splits of folders of photographs.

    python benchmarks/abstention.py FOLDER [FOLDER …] --weights FOLDER [--splits 20] [--refuse 0.02] [--apart FOLDER …]
        [--backbone mobilenet_v2] [--source folder]

Each folder is embedded once by a frozen network; each split fits on 70% of its images, calibrates on 10%, as the stages do,
and takes 20% as images like the data. Unlike the data are the other folders, noise, and textures that are drawn here; `a sixth
class` are the images of a class that is left out, of folders with three classes or more. The classes of a folder that is named
`--apart` are also unlike images of their own, as bees, which sit on flowers, are apart from ants. Compared: `distance`, that of
Darkroom; `embedding`, the same of the embedding alone; `softmax`, 1 − the largest probability (Hendrycks and Gimpel 2017);
`energy` (Liu et al. 2020); `neighbours`, the distance to the tenth neighbour among all training embeddings (Sun et al. 2022);
`relative`, the squared distance of the embedding less that without classes (Ren et al. 2021); `with_energy`, the logarithm of the
distance and a quarter of the energy, both standardised on validation.

AUROC       how often an image unlike the data has the larger score; `low`, `high`: 95% interval of the mean of splits, by
            Student's t; `sd of AUROC` is that of one split
FPR95       share of the images unlike the data that are answered where 95% of those like them are
refused     share of the images like the data that are refused by the calibrated threshold; `unlike`, of those unlike them
few         the same with 10 validation images and 70 to train, of two classes: a folder of 2 × 50 photographs
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import cv2
import numpy as np
from measuring import report
from prediction_sets import BACKBONE, SIZE, Embedder, read_folder, split
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import nn

from darkroom.api.heads import Head, train_head
from darkroom.models import mahalanobis
from darkroom.models.abstention import CalibrationDistances

NOISE = TEXTURES = 200
NEIGHBOUR = 10
FEW_TRAIN, FEW_VAL = 70, 10
LEFT_OUT = "a sixth class"
METHODS = ("distance", "embedding", "softmax", "energy", "neighbours", "relative", "with_energy")
ENERGY = 0.25  # of the energy beside the distance
Score = Callable[[np.ndarray], np.ndarray]
Split = Callable[[np.ndarray], list[np.ndarray]]  # levels (N, D + M) to embeddings (N, D), and means (N, M) of a feature map


def noise(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield images of random cells, from 2 a side to one a pixel."""
    for number in range(NOISE):
        cells = SIZE if number % 2 else int(rng.integers(2, SIZE // 2))
        yield cv2.resize(rng.integers(0, 256, (cells, cells, 3), np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)


def textures(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield stripes, checks, clouds and rings between two colours, with a little noise."""
    down, right = np.mgrid[0:SIZE, 0:SIZE]
    for number in range(TEXTURES):
        angle, frequency = rng.uniform(0, np.pi), rng.uniform(0.03, 0.5)
        along, across = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
        middle, octaves = rng.uniform(0, SIZE, 2), (rng.normal(size=(2**j, 2**j)) / 2 ** (0.8 * j) for j in range(1, 8))
        shades = [
            lambda along=along, frequency=frequency: np.sin(along * frequency),
            lambda along=along, across=across, frequency=frequency: np.sign(np.sin(along * frequency) * np.sin(across * frequency)),
            lambda octaves=octaves: sum(cv2.resize(part, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for part in octaves),
            lambda frequency=frequency, middle=middle: np.sin(np.hypot(right - middle[0], down - middle[1]) * frequency),
        ][number % 4]()
        share = ((shades - shades.min()) / np.ptp(shades))[..., None]
        first, second = rng.uniform(0, 255, (2, 3))
        yield (first + (second - first) * share + rng.normal(0, 6, (SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8)


def scores(x: np.ndarray, y: np.ndarray, val: np.ndarray, head: Head, levels: Split) -> dict[str, Score]:
    """Return the methods for training levels (N, D + M) and labels (N,), and validation levels (V, D + M): levels (M, D + M) to
    scores (M,), large where unlike."""
    both, (own, _) = mahalanobis.fit(levels(x), y, len(head.classes_)), levels(x)
    alone, background = mahalanobis.fit([own], y, len(head.classes_)), mahalanobis.fit([own], np.zeros_like(y), 1)
    train_units = unit(own)

    def of_embeddings(score: Score) -> Score:
        return lambda rows: score(levels(rows)[0])

    def energy(embeddings: np.ndarray) -> np.ndarray:
        return -np.logaddexp.reduce(embeddings @ head.coef_.T + head.intercept_, axis=1)

    def distance(rows: np.ndarray) -> np.ndarray:
        return both.measure(*levels(rows))

    def standardised(score: Score) -> Score:
        mean, deviation = score(val).mean(), score(val).std()
        return lambda rows: (score(rows) - mean) / deviation

    far, uncertain = standardised(lambda rows: np.log(distance(rows))), standardised(of_embeddings(energy))
    return {
        "distance": distance,
        "embedding": of_embeddings(alone.measure),
        "softmax": of_embeddings(lambda embeddings: 1 - head.predict_proba(embeddings).max(1)),
        "energy": of_embeddings(energy),
        "neighbours": of_embeddings(lambda embeddings: -np.sort(unit(embeddings) @ train_units.T, axis=1)[:, -NEIGHBOUR]),
        "relative": of_embeddings(lambda embeddings: alone.measure(embeddings) ** 2 - background.measure(embeddings) ** 2),
        "with_energy": lambda rows: far(rows) + ENERGY * uncertain(rows),
    }


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def trained(x: np.ndarray, y: np.ndarray, parts: tuple[np.ndarray, np.ndarray], seed: int, levels: Split) -> dict[str, Score]:
    train, val = parts
    own = levels(x)[0]
    with redirect_stdout(StringIO()):
        head = train_head(own[train], y[train], (own[val], y[val]), seed=seed, threads=1)
    return scores(x[train], y[train], x[val], head, levels)


def run(
    x: np.ndarray, y: np.ndarray, others: Mapping[str, np.ndarray], seed: int, refuse: float, levels: Split
) -> dict[tuple[str, str], dict]:
    """Return the figures of a split by method and kind of image."""
    train, val, test = split(y, seed)
    results = {}
    for method, score in trained(x, y, (train, val), seed, levels).items():
        limit = rank_threshold(score(x[val]), refuse)
        like = score(x[test])
        for name, unlike in ((name, score(values)) for name, values in others.items()):
            target = np.r_[np.zeros(len(like)), np.ones(len(unlike))]
            results[method, name] = {
                "AUROC": roc_auc_score(target, np.r_[like, unlike]),
                "FPR95": float((unlike <= np.quantile(like, 0.95)).mean()),
                "refused": float((like > limit).mean()),
                "unlike": float((unlike > limit).mean()),
            }
    return results


def rank_threshold(values: np.ndarray, refuse: float) -> float:
    """Return the threshold as Darkroom has it; scores are shifted to be positive, which changes no rank."""
    low = min(float(values.min()), 0.0) - 1
    threshold = CalibrationDistances.of(values - low).threshold(refuse)
    assert threshold
    return threshold.distance + low


def few(x: np.ndarray, y: np.ndarray, seed: int, refuse: float, levels: Split) -> float:
    """Return the share of images like the data that is refused where 2 × 50 photographs are all there are."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(y))[:2]
    rows = rng.permutation(np.flatnonzero(np.isin(y, classes)))
    train, val, test = np.split(rows, [FEW_TRAIN, FEW_TRAIN + FEW_VAL])
    distance = mahalanobis.fit(levels(x[train]), (y[train] == classes[1]).astype(int), 2)
    threshold = CalibrationDistances.of(distance.measure(*levels(x[val]))).threshold(refuse)
    assert threshold
    return float(np.mean([threshold.is_unknown(value) for value in distance.measure(*levels(x[test]))]))


def without(x: np.ndarray, y: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return levels and labels without a class, and the levels of that class."""
    kept = y != number
    return x[kept], np.unique(y[kept], return_inverse=True)[1], x[~kept]


def cost(embed: Embedder, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return the bytes of the distance, and its share of the time that an image takes."""
    distance = mahalanobis.fit(embed.split(x), y, int(y.max()) + 1)
    images = np.zeros((64, SIZE, SIZE, 3), np.uint8)
    seconds = {}
    for name, work in (("network", lambda: embed(images)), ("distance", lambda: distance.measure(*embed.split(x[:64])))):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        seconds[name] = sorted(times)[2]
    size = sum(value.numel() * value.element_size() for value in nn.Module.state_dict(distance).values())
    return {"bytes": size, "bytes of all embeddings": x.nbytes, "share of the time": seconds["distance"] / seconds["network"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--refuse", type=float, default=0.02)
    parser.add_argument("--apart", nargs="*", type=Path, default=[])
    parser.add_argument("--backbone", default=BACKBONE)
    parser.add_argument("--source", default="folder", help="of the weights: folder, or package")
    args = parser.parse_args()
    embed, rng = Embedder(args.weights, args.backbone, args.source), np.random.default_rng(0)
    data = {folder.name: (embed.levels(images), labels) for folder in args.folders for images, labels in [read_folder(folder)]}
    drawn = {name: embed.levels(np.stack(list(draw(rng)))) for name, draw in (("noise", noise), ("textures", textures))}
    apart = {
        name: (data[folder.name][0][data[folder.name][1] == number], folder.name)
        for folder in args.apart
        for number, name in enumerate(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    }
    rows: list[Mapping[str, Any]] = []
    details: dict[str, Any] = {"splits": args.splits, "refuse": args.refuse}
    for folder, (x, y) in data.items():
        others = {name: part for name, (part, _) in data.items() if name != folder} | drawn
        others |= {name: part for name, (part, owner) in apart.items() if owner != folder}
        results = [run(x, y, others, seed, args.refuse, embed.split) for seed in range(args.splits)]
        keys = list(results[0])
        if y.max() >= 2:  # as many splits in all, each class in turn
            for seed in range(args.splits):
                kept, labels, left_out = without(x, y, seed % (int(y.max()) + 1))
                results[seed] |= run(kept, labels, {LEFT_OUT: left_out}, seed, args.refuse, embed.split)
            keys += [(method, LEFT_OUT) for method in METHODS]
        for method, name in keys:
            parts = [part[method, name] for part in results]
            means = {key: fmean(part[key] for part in parts) for key in parts[0]}
            spread, spread_of_area = (stdev(part[key] for part in parts) for key in ("refused", "AUROC"))
            reach = float(stats.t.ppf(0.975, len(parts) - 1)) * spread_of_area / len(parts) ** 0.5
            low, high = means["AUROC"] - reach, means["AUROC"] + reach
            rows.append({
                "data": folder, "method": method, "unlike them": name, **means, "low": low, "high": high,
                "sd of AUROC": spread_of_area, "sd of refused": spread,
            })  # fmt: skip
        shares = [few(x, y, seed, args.refuse, embed.split) for seed in range(5 * args.splits)]
        details[folder] = {"few, refused": fmean(shares), "few, sd": stdev(shares), **cost(embed, x, y)}
        print(folder, details[folder], flush=True)
    report("abstention", rows, details)


if __name__ == "__main__":
    main()
