"""What is a session of `darkroom label --inbox` worth whose order is made once, or again while people label?

    python -m benchmarks.labelling_session FLOWERS CIFAR.npz --weights WEIGHTS [--seeds 10] [--first 0] [--every 10 25 50]
                                           [--shown 200]

Each source is one of `benchmarks/active_learning.py`, embedded as there. A seed draws the test images, and 5 images for each class
as the project's own; all others are the inbox. A session shows `--shown` of them by the functions of `darkroom label`: in the order
of a head of the project's images, or in one that is made again after every N labels by a head of all labels so far, without the
images that the page holds by then. A logistic head of all labels is judged on the test images after every 25.

gain    of the test accuracy over that of images drawn by chance, the mean of seeds, with its standard error
share   of these labels, those that this order needs for the mean accuracy that images drawn by chance reach with all of them, with
        a 95% interval of a bootstrap over seeds; `of all` counts the project's own labels, which both have, in both numbers
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.active_learning import C, argument_parser, load, needed, needed_interval
from benchmarks.labels import embed
from benchmarks.measuring import report
from darkroom.evaluation.pixel_baseline import Regression
from darkroom.labelling import active_learning

JUDGED = 25  # labels between two points of a curve
ONCE = 10**9  # labels after which an order is made again: never
AHEAD = 3  # images that the page holds: the next, and two after it


def session(values: np.ndarray, labels: np.ndarray, own: np.ndarray, inbox: np.ndarray, shown: int, every: int) -> np.ndarray:
    """Return the indices of the images of the inbox in the order in which a session shows them (`shown`,).

    `own` are those of the project's images, with labels.
    """
    classes = int(labels.max()) + 1
    order: list[int] = []  # positions in the inbox
    for done in range(0, shown, every):
        labelled = np.concatenate([own, inbox[order[:done]]])
        kept = order[: done + AHEAD] if done else []
        free = np.setdiff1d(np.arange(len(inbox)), kept)
        head = Regression(values[labelled], labels[labelled], classes, C)
        probabilities = head.probabilities(values[inbox[free]])
        rest = active_learning.order(probabilities, values[inbox[free]], shown - len(kept), values[inbox[kept]])
        order = kept + free[rest].tolist()
    return inbox[order]


def curves(
    values: np.ndarray, labels: np.ndarray, test: np.ndarray | None, seed: int, shown: int, every: list[int]
) -> dict[str, list[float]]:
    """Return the test accuracy after 0, 25, … labels of each kind of session, and of images drawn by chance."""
    rng = np.random.default_rng(seed)
    if test is None:
        test = rng.permutation(len(labels))[: round(0.3 * len(labels))]
    classes = int(labels.max()) + 1
    pool = rng.permutation(np.setdiff1d(np.arange(len(labels)), test))
    own, inbox = pool[: 5 * classes], pool[5 * classes :]
    orders = {"chance": inbox[:shown], "once": session(values, labels, own, inbox, shown, ONCE)}
    orders |= {f"every {n}": session(values, labels, own, inbox, shown, n) for n in every}
    accuracies: dict[str, list[float]] = {}
    for name, order in orders.items():
        accuracies[name] = []
        for count in range(0, shown + 1, JUDGED):
            labelled = np.concatenate([own, order[:count]])
            head = Regression(values[labelled], labels[labelled], classes, C)
            accuracies[name].append(float((head.probabilities(values[test]).argmax(1) == labels[test]).mean()))
    return accuracies


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--every", type=int, nargs="+", default=[10, 25, 50])
    parser.add_argument("--shown", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for source in options.sources:
        images, labels, test = load(source, options.size)
        values = embed(images, Path(), None, options.backbone, options.weights)
        began = time.process_time()
        with threadpool_limits(1):
            chosen = range(options.first, options.first + options.seeds)
            seeds = [curves(values, labels, test, seed, options.shown, options.every) for seed in chosen]
        print(f"{source.name}: {time.process_time() - began:.0f} s of processor time", flush=True)
        accuracies_of = {name: np.array([item[name] for item in seeds]) for name in seeds[0]}
        counts = JUDGED * np.arange(options.shown // JUDGED + 1)
        with_own = counts + 5 * (int(labels.max()) + 1)
        for name, items in accuracies_of.items():
            for point in range(1, items.shape[1]):
                low, high = needed_interval(items, accuracies_of["chance"], counts, point)
                gains = 100 * (items[:, point] - accuracies_of["chance"][:, point])
                rows.append({
                    "source": source.name, "order": name, "labels": point * JUDGED,
                    "accuracy": round(float(items[:, point].mean()), 4), "gain": round(float(gains.mean()), 2),
                    "error": round(float(gains.std(ddof=1) / len(gains) ** 0.5), 2),
                    "share": round(needed(items, accuracies_of["chance"], counts, point), 3),
                    "low": round(low, 3), "high": round(high, 3),
                    "of all": round(needed(items, accuracies_of["chance"], with_own, point), 3),
                })  # fmt: skip
    report("labelling_session", rows)


if __name__ == "__main__":
    main()
