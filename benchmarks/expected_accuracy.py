"""How often the accuracy that `darkroom monitor` expects without labels holds, on inboxes that are corrupted or have drifted.

    python benchmarks/expected_accuracy.py FOLDER [FOLDER …] --weights FOLDER [--cache FILE]

Of each folder of photographs some images arrive, the rest is divided anew in each split: 70% train a head on a frozen
MobileNetV2, 10% calibrate it, 20% are the reference. Inboxes are the images that arrive, as they are, with six corruptions in
severities 1, 3 and 5, and with three quarters of one class. Where `monitor` says that it cannot estimate, the others are not
counted either; `without a limit` they are.

stated      share of the inboxes with an estimate
holds       share of these whose accuracy is within the interval; `error`, mean distance of the estimate from the accuracy
width       of the interval, on average

Compared, with the same interval around them: `confidence`, the mean confidence, which Darkroom has; `difference`, the
difference of confidences (Guillory et al. 2021); `threshold`, the average thresholded confidence (Garg et al. 2022).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from measuring import report
from prediction_sets import Embedder, read_folder

from darkroom.api.heads import train_head
from darkroom.augmentation import corruptions
from darkroom.models import mahalanobis
from darkroom.models.abstention import REFUSE, CalibrationDistances
from darkroom.monitoring import expected_accuracy
from darkroom.monitoring.expected_accuracy import Novelty
from darkroom.monitoring.reference import Outputs, Reference

CORRUPTED = ("gaussian_noise", "gaussian_blur", "brightness", "contrast", "jpeg", "pixelate")
SEVERITIES = (1, 3, 5)
ARRIVE, FEWEST, MOST = 0.09, 60, 90  # share of the images that arrive, and their number at least and at most
ONE_CLASS = 3  # images of one class for each other one
DIM = "dim"  # of embeddings, beside which the levels have the means of a feature map
METHODS = ("confidence", "difference", "threshold")


def embed(folders: list[Path], weights: Path) -> dict[str, np.ndarray]:
    """Return levels, labels and the number of images that arrive of each folder, and the levels of the corrupted ones."""
    network = Embedder(weights)
    outputs = {DIM: np.array(network.backbone.dim)}
    for folder in folders:
        images, labels = read_folder(folder)
        order = np.random.default_rng(0).permutation(len(labels))
        images, labels = images[order], labels[order]
        name, count = folder.name, min(max(round(ARRIVE * len(labels)), FEWEST), MOST)
        outputs |= {name: network.levels(images), f"{name}_y": labels, f"{name}_k": np.array(count)}
        for kind in CORRUPTED:
            for severity in SEVERITIES:
                outputs[f"{name}|{kind}|{severity}"] = network.levels(corruptions.corrupt(images[:count], kind, severity, 0))
    return outputs


def inboxes(data: Mapping[str, np.ndarray], name: str, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return levels and labels of each inbox of a folder."""
    count = int(data[f"{name}_k"])
    x, y = data[name][:count], data[f"{name}_y"][:count]
    one = np.flatnonzero(y == seed % (int(y.max()) + 1))
    mixed = np.r_[one, np.flatnonzero(y != y[one[0]])[: len(one) // ONE_CLASS]]
    corrupted = {key: (data[key], y) for key in data if key.startswith(f"{name}|")}
    return {"unchanged": (x, y), "one class": (x[mixed], y[mixed]), **corrupted}


def levels(data: Mapping[str, np.ndarray], both: np.ndarray) -> list[np.ndarray]:
    """Return embeddings and means."""
    return np.split(both, [int(data[DIM])], 1)


def run(data: Mapping[str, np.ndarray], name: str, seed: int) -> list[dict[str, Any]]:
    """Return a row for each inbox: whether there is an estimate, and of each method estimate, edges and accuracy."""
    count = int(data[f"{name}_k"])
    (x, means), y = levels(data, data[name][count:]), data[f"{name}_y"][count:]
    order = np.random.default_rng(seed).permutation(len(y))
    train, val, held_out = np.split(order, [round(0.7 * len(y)), round(0.8 * len(y))])
    with redirect_stdout(StringIO()):
        head = train_head(x[train], y[train], (x[val], y[val]), seed=seed, threads=1)
    distance = mahalanobis.fit([x[train], means[train]], y[train], len(head.classes_))
    threshold = CalibrationDistances.of(distance.measure(x[val], means[val])).threshold(REFUSE)
    assert threshold
    reference_probabilities = head.predict_proba(x[held_out])
    correct, sure = reference_probabilities.argmax(1) == y[held_out], reference_probabilities.max(1)
    reference = Reference(x[held_out], reference_probabilities.argmax(1), sure, correct)
    far = distance.measure(x[held_out], means[held_out])
    rows = []
    for kind, (both, labels) in inboxes(data, name, seed).items():
        embeddings, new_means = levels(data, both)
        probabilities, distances = head.predict_proba(embeddings), distance.measure(embeddings, new_means)
        new = Outputs(embeddings, probabilities.argmax(1), probabilities.max(1))
        unknown = np.array([threshold.is_unknown(value) for value in distances.tolist()])
        stated = expected_accuracy.estimate(reference, new, Novelty.of(far, distances, unknown)).value is not None
        shift = float(correct.mean() - sure.mean())
        share = float((new.confidence >= np.quantile(sure, 1 - correct.mean())).mean())
        as_if = {"confidence": new.confidence, "difference": (new.confidence + shift).clip(0, 1)}
        as_if["threshold"] = np.full(len(new), share)
        rows.append({
            "kind": kind.rpartition("|")[2] if "|" in kind else "0", "stated": stated,
            "accuracy": float((new.predicted == labels).mean()),
            **{method: expected_accuracy.interval(correct, values) for method, values in as_if.items()},
        })  # fmt: skip
    return rows


def summary(rows: list[dict[str, Any]], method: str) -> dict[str, Any]:
    if not rows:
        return {"holds": "", "error": "", "width": ""}
    estimates = np.array([(*row[method], row["accuracy"]) for row in rows])
    value, low, high, accuracy = estimates.T
    holds, error = ((low <= accuracy) & (accuracy <= high)).mean(), np.abs(value - accuracy).mean()
    return {"holds": float(holds), "error": float(error), "width": float((high - low).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="an .npz file that keeps the embeddings")
    args = parser.parse_args()
    if args.cache and args.cache.exists():
        data = dict(np.load(args.cache))
    else:
        data = embed(args.folders, args.weights)
        if args.cache:
            np.savez(args.cache, **data)
    results = {folder.name: [row for seed in range(args.splits) for row in run(data, folder.name, seed)] for folder in args.folders}
    groups = dict(results.items()) | {"all": [row for rows in results.values() for row in rows]}
    groups |= {f"all, severity {severity}": [row for row in groups["all"] if row["kind"] == severity] for severity in "0135"}
    table = []
    for name, rows in groups.items():
        stated = [row for row in rows if row["stated"]]
        for method in METHODS:
            own = {"inboxes": name, "method": method, "number": len(rows), "stated": len(stated) / len(rows)}
            every = {f"{key} without a limit": value for key, value in summary(rows, method).items() if key != "width"}
            table.append(own | summary(stated, method) | every)
    report("expected_accuracy", table, {"splits": args.splits})


if __name__ == "__main__":
    main()
