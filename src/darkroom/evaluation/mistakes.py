"""What is behind the errors: mistakes a model is sure of, classes it takes for each other, images no model gets right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST = 50  # of each kind


def surest(
    probabilities: np.ndarray, labels: np.ndarray, images: Sequence[Mapping[str, str]], classes: tuple[str, ...], most: int = MOST
) -> list[dict[str, Any]]:
    """Return the mistakes of a model, those first of which it is surest: `probabilities` (N, C), `labels` (N,), N `images`."""
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels).tolist()
    wrong.sort(key=lambda i: (-float(confidence[i]), images[i]["path"]))
    return [
        {
            **_image(images[i], classes[labels[i]]),
            "predicted": classes[predicted[i]],
            "confidence": float(confidence[i]),
            "given": float(probabilities[i, labels[i]]),
        }
        for i in wrong[:most]
    ]


def confused(predicted: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], most: int = MOST) -> list[dict[str, Any]]:
    """Return the pairs of classes that are taken for each other, the most frequent first, and how often either way."""
    pairs: dict[tuple[int, int], list[int]] = {}
    for label, said in zip(labels.tolist(), predicted.tolist(), strict=True):
        if label != said:
            pairs.setdefault((min(label, said), max(label, said)), [0, 0])[label > said] += 1
    ordered = sorted(pairs.items(), key=lambda item: (-sum(item[1]), item[0]))
    support = np.bincount(labels, minlength=len(classes))
    return [
        {
            "classes": [classes[one], classes[other]],
            "count": sum(counts),
            "first_as_second": counts[0],
            "second_as_first": counts[1],
            "share": sum(counts) / int(support[one] + support[other]),
        }
        for (one, other), counts in ordered[:most]
    ]


def always_wrong(
    answers: Mapping[str, np.ndarray],
    labels: np.ndarray,
    images: Sequence[Mapping[str, str]],
    classes: tuple[str, ...],
    most: int = MOST,
) -> tuple[int, list[dict[str, Any]]]:
    """Return how many images no model gets right, and what each model says of them, those first on whose class most agree."""
    said = {name: given.argmax(1) for name, given in answers.items()}
    wrong = np.flatnonzero(np.all([predicted != labels for predicted in said.values()], axis=0)).tolist()
    found = []
    for i in wrong:
        votes = [classes[predicted[i]] for predicted in said.values()]
        agreed = min(set(votes), key=lambda name: (-votes.count(name), name))
        confidence = {name: float(given[i].max()) for name, given in answers.items()}
        found.append({
            **_image(images[i], classes[labels[i]]), "predicted": agreed, "agree": votes.count(agreed),
            "confidence": float(np.mean(list(confidence.values()))),
            "models": {name: [vote, confidence[name]] for name, vote in zip(said, votes, strict=True)},
        })  # fmt: skip
    found.sort(key=lambda row: (-row["agree"], -row["confidence"], row["path"]))
    return len(found), found[:most]


def _image(row: Mapping[str, str], label: str) -> dict[str, Any]:
    return {"path": row["path"], "sha256": row["sha256"], "label": label}
