"""How many labels does an order of labelling save? Uncertain and diverse images against random ones, on embeddings.

    python benchmarks/active_learning.py FLOWERS CIFAR.npz --weights WEIGHTS [--seeds 10] [--strategies NAME…] [--size 160]

Each source is a folder of class folders, or an .npz with train_images, train_labels, test_images, test_labels. Its images are
embedded once by a frozen backbone. A seed draws the test images (30%; of an .npz its own) and the first labels, 5 times as many as
classes, which all strategies share. A strategy then chooses the same number again and again; after each choice a logistic head is
fitted on all labels so far, and its accuracy on the test images is a point of its curve.

labels  for the mean accuracy that random reaches with N labels, the labels that a strategy needs, as a share of N, with a 95%
        interval of a bootstrap over seeds (interpolated between points; `inf` where its curve ends below)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.labels import embed
from benchmarks.measuring import report
from darkroom.data import decoding
from darkroom.data.resizing import fit
from darkroom.evaluation.pixel_baseline import Regression
from darkroom.labelling import active_learning

C = 0.01
GREY = (128, 128, 128)
STEPS = 20  # choices after the first labels
AT = (4, 8, 12, 16, 20)  # the points of random's curve whose accuracy is to be reached
RESAMPLES = 2_000
TINY = 1e-9  # of an accuracy, by which sums in another order differ

# probabilities (N, C), embeddings (N, D) and number to choose, embeddings (M, D) that have labels, generator → indices
Strategy = Callable[[np.ndarray, np.ndarray, int, np.ndarray, np.random.Generator], list[int]]


def centres(embeddings: np.ndarray, count: int, labelled: np.ndarray) -> list[int]:
    """Return the indices of rows of embeddings (N, D), each the farthest from those before it and from those with labels (M, D):
    greedy k-centre (Gonzalez 1985; for images Sener and Savarese 2018)."""
    rows, covered = active_learning.normalised(embeddings), active_learning.normalised(labelled)
    distances = (2 - 2 * rows @ covered.T).min(1)
    chosen: list[int] = []
    while len(chosen) < count:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, 2 - 2 * rows @ rows[chosen[-1]])
        distances[chosen] = -1
    return chosen


def margin_centres(probabilities: np.ndarray, values: np.ndarray, count: int, labelled: np.ndarray, rng: Any) -> list[int]:
    """Return the same of the most uncertain images, of which there are twice as many."""
    pool = np.argsort(active_learning.margins(probabilities), kind="stable")[: 2 * count]
    return pool[centres(values[pool], count, labelled)].tolist()


def clusters(probabilities: np.ndarray, values: np.ndarray, count: int, _: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Return of each of `count` clusters of the ten times as many most uncertain images, by k-means with their uncertainty as
    weights, the image next to its centre (Zhdanov 2019)."""
    lead = active_learning.margins(probabilities)
    pool = np.argsort(lead, kind="stable")[: active_learning.POOL * count]
    rows, weights = active_learning.normalised(values[pool]), (1 - lead[pool]).clip(1e-9)
    means = rows[rng.choice(len(rows), count, replace=False, p=weights / weights.sum())]
    owner = np.zeros(len(rows), int)
    for _step in range(10):
        owner = (rows @ means.T).argmax(1)
        for k in range(count):
            own = owner == k
            if own.any():
                means[k] = np.average(rows[own], axis=0, weights=weights[own])
        means = active_learning.normalised(means)
    nearest = rows @ means.T
    chosen: list[int] = []
    for k in np.argsort(-np.bincount(owner, minlength=count), kind="stable").tolist():
        best = int(nearest[:, k].argmax())
        nearest[best] = -np.inf  # of one cluster alone
        chosen.append(int(pool[best]))
    return chosen


def badge(probabilities: np.ndarray, values: np.ndarray, count: int, _: np.ndarray, rng: Any) -> list[int]:
    """Return seeds of k-means++ on the gradients of the head under its own predictions (Ash et al. 2020)."""
    errors = probabilities - np.eye(probabilities.shape[1])[probabilities.argmax(1)]
    rows = active_learning.normalised(values)
    squares = (errors**2).sum(1)
    chosen = [int(squares.argmax())]
    distances = np.full(len(rows), np.inf)
    while len(chosen) < count:
        last = chosen[-1]  # the inner product of two outer products is the product of the inner ones
        inner = (errors @ errors[last]) * (rows @ rows[last])
        distances = np.minimum(distances, (squares + squares[last] - 2 * inner).clip(0))
        distances[chosen] = 0
        chosen.append(int(rng.choice(len(rows), p=distances / distances.sum())))
    return chosen


STRATEGIES: dict[str, Strategy] = {
    "random": lambda p, values, count, labelled, rng: rng.permutation(len(p))[:count].tolist(),
    "margin": lambda p, values, count, labelled, rng: np.argsort(active_learning.margins(p), kind="stable")[:count].tolist(),
    "centres": lambda p, values, count, labelled, rng: centres(values, count, labelled),
    "margin_centres": margin_centres,
    "clusters": clusters,
    # what `darkroom label` does: the model has learned the first labels, and the inbox has those after them
    "herding": lambda p, values, count, labelled, rng: active_learning.choose(p, values, count, labelled[count:]),
    "herding_all": lambda p, values, count, labelled, rng: active_learning.choose(p, values, count, labelled),
    "badge": badge,
}


def load(path: Path, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return images (N, S, S, 3) uint8, labels (N,), and the indices of the source's own test images."""
    if path.suffix == ".npz":
        content = np.load(path)
        parts = [content["train_images"], content["test_images"]]
        images = np.stack([fit(image, size, "crop", GREY) for part in parts for image in part])
        labels = np.concatenate([content["train_labels"], content["test_labels"]])
        return images, labels, np.arange(len(parts[0]), len(labels))
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
    pixels, numbers = [], []
    for number, folder in enumerate(folders):
        for file in sorted(folder.iterdir()):
            decoded = decoding.decode(file.read_bytes(), size, "crop", GREY).pixels
            if decoded is not None:
                pixels.append(decoded)
                numbers.append(number)
    return np.stack(pixels), np.array(numbers), None


def curve(strategy: Strategy, values: np.ndarray, labels: np.ndarray, test: np.ndarray | None, seed: int) -> list[float]:
    """Return the test accuracy (STEPS + 1) of a head after the first labels and after each choice."""
    rng = np.random.default_rng(seed)
    if test is None:
        test = rng.permutation(len(labels))[: round(0.3 * len(labels))]
    classes = int(labels.max()) + 1
    pool = rng.permutation(np.setdiff1d(np.arange(len(labels)), test))
    batch = 5 * classes
    labelled, unlabelled = pool[:batch], pool[batch:]
    accuracies = []
    for step in range(STEPS + 1):
        head = Regression(values[labelled], labels[labelled], classes, C)
        accuracies.append(float((head.probabilities(values[test]).argmax(1) == labels[test]).mean()))
        if step < STEPS and len(unlabelled):  # a small source is labelled before the last step
            count = min(batch, len(unlabelled))
            chosen = np.array(strategy(head.probabilities(values[unlabelled]), values[unlabelled], count, values[labelled], rng))
            labelled = np.concatenate([labelled, unlabelled[chosen]])
            unlabelled = np.delete(unlabelled, chosen)
    return accuracies


def needed(curves: np.ndarray, reference: np.ndarray, counts: np.ndarray, point: int) -> float:
    """Return the labels with which a strategy's mean curve reaches that of random at a point, as a share of random's labels.

    `curves` and `reference` are (seeds, points), `counts` (points,) the labels of each point.
    """
    target, mean = reference[:, point].mean(), np.maximum.accumulate(curves.mean(0))
    if mean[-1] < target - TINY:
        return float("inf")
    after = int(np.argmax(mean >= target - TINY))
    before = max(after - 1, 0)
    rise = mean[after] - mean[before]
    part = (target - mean[before]) / rise if rise > 0 else 0
    return float((counts[before] + part * (counts[after] - counts[before])) / counts[point])


def needed_interval(curves: np.ndarray, reference: np.ndarray, counts: np.ndarray, point: int) -> tuple[float, float]:
    """Return the 95% interval of `needed` by a bootstrap over seeds."""
    draws = np.random.default_rng(0).integers(0, len(curves), (RESAMPLES, len(curves)))
    shares = [needed(curves[draw], reference[draw], counts, point) for draw in draws]
    low, high = np.quantile(shares, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the sources, the network that embeds them, and the number of seeds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", metavar="SOURCE")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=10)
    return parser


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    all_curves: dict[str, Any] = {}
    for source in options.sources:
        images, labels, test = load(source, options.size)
        values = embed(images, Path(), None, options.backbone, options.weights)
        curves: dict[str, np.ndarray] = {}
        for name in dict.fromkeys(["random", *options.strategies]):
            began = time.process_time()
            with threadpool_limits(1):
                curves[name] = np.array([curve(STRATEGIES[name], values, labels, test, seed) for seed in range(options.seeds)])
            print(f"{source.name} {name}: {time.process_time() - began:.0f} s of processor time", flush=True)
        all_curves[source.name] = {name: item.mean(0).round(4).tolist() for name, item in curves.items()}
        counts = np.arange(1, STEPS + 2) * 5 * (int(labels.max()) + 1)
        for name, item in curves.items():
            for point in AT:
                low, high = needed_interval(item, curves["random"], counts, point)
                rows.append({
                    "source": source.name, "strategy": name, "random_labels": int(counts[point]),
                    "random_accuracy": round(float(curves["random"][:, point].mean()), 4),
                    "accuracy": round(float(item[:, point].mean()), 4),
                    "labels": round(needed(item, curves["random"], counts, point), 3), "low": round(low, 3), "high": round(high, 3),
                })  # fmt: skip
    report("active_learning", rows, {"curves": all_curves})


if __name__ == "__main__":
    main()
