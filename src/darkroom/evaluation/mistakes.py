"""Most confident mistakes, pairs of confused classes, and images that every model misclassifies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from darkroom.data import image_rows
from darkroom.evaluation.diagnostics_file import AlwaysWrong, ConfusedPair, Mistake

MOST = 50  # of each kind


def surest(
    probabilities: np.ndarray, labels: np.ndarray, images: Sequence[Mapping[str, str]], classes: tuple[str, ...]
) -> list[Mistake]:
    """Return a model's mistakes, most confident first: `probabilities` (N, C), `labels` (N,), N `images`."""
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels).tolist()
    paths = image_rows.column(images, "path")
    wrong.sort(key=lambda i: (-float(confidence[i]), paths[i]))
    return [
        Mistake(
            path=paths[i], sha256=images[i]["sha256"], label=classes[labels[i]], predicted=classes[predicted[i]],
            confidence=float(confidence[i]), label_probability=float(probabilities[i, labels[i]]),
        )
        for i in wrong[:MOST]
    ]  # fmt: skip


def confused(predictions: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> list[ConfusedPair]:
    """Return the pairs of classes that are predicted for each other, the most frequent first."""
    pairs: dict[tuple[int, int], list[int]] = {}
    for label, predicted in zip(labels.tolist(), predictions.tolist(), strict=True):
        if label != predicted:
            pairs.setdefault((min(label, predicted), max(label, predicted)), [0, 0])[label > predicted] += 1
    ordered = sorted(pairs.items(), key=lambda item: (-sum(item[1]), item[0]))
    support = np.bincount(labels, minlength=len(classes))
    return [
        ConfusedPair(
            classes=(classes[one], classes[other]), count=sum(counts), first_as_second=counts[0], second_as_first=counts[1],
            share=sum(counts) / int(support[one] + support[other]),
        )
        for (one, other), counts in ordered[:MOST]
    ]  # fmt: skip


def always_wrong(
    probabilities: Mapping[str, np.ndarray], labels: np.ndarray, images: Sequence[Mapping[str, str]], classes: tuple[str, ...]
) -> tuple[int, list[AlwaysWrong]]:
    """Return how many images all models (`probabilities`, (N, C) each) misclassify, and the first `MOST`.

    Those come first on whose class most models agree.
    """
    predictions = {name: values.argmax(1) for name, values in probabilities.items()}
    wrong = np.flatnonzero(np.all([predicted != labels for predicted in predictions.values()], axis=0)).tolist()
    rows = []
    paths, sha256 = (image_rows.column(images, name) for name in ("path", "sha256"))
    for i in wrong:
        votes = [classes[predicted[i]] for predicted in predictions.values()]
        agreed = min(set(votes), key=lambda name: (-votes.count(name), name))
        confidence = {name: float(values[i].max()) for name, values in probabilities.items()}
        rows.append(
            AlwaysWrong(
                path=paths[i], sha256=sha256[i], label=classes[labels[i]], predicted=agreed,
                agree=votes.count(agreed), confidence=float(np.mean(list(confidence.values()))),
                models={name: (vote, confidence[name]) for name, vote in zip(predictions, votes, strict=True)},
            )
        )  # fmt: skip
    rows.sort(key=lambda row: (-row.agree, -row.confidence, row.path))
    return len(rows), rows[:MOST]
