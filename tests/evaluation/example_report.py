"""Findings made up for tests of the report: any number of classes, images and models, as right as is asked for."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from darkroom.evaluation import calibration, intervals, metrics, metrics_io, significance
from darkroom.evaluation.report.page import Findings, Heat

OVERLAY = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")  # a WebP of one pixel
MODELS = ("baseline", "transfer/x", "reference")


def answers(labels: np.ndarray, classes: int, right: float, rng: np.random.Generator) -> np.ndarray:
    """Return probabilities (N, classes) of which this share is right, of varied confidence."""
    said = np.where(rng.random(len(labels)) < right, labels, (labels + rng.integers(1, max(classes, 2), len(labels))) % classes)
    given = rng.random((len(labels), classes)) * 0.5
    given[np.arange(len(labels)), said] = 0.6 + 3 * rng.random(len(labels))
    return given / given.sum(1, keepdims=True)


def findings(
    classes: Sequence[str] = ("cat", "dog", "owl"),
    labels: np.ndarray | None = None,
    right: float = 0.8,
    size: int = 32,
    noise: bool = False,
    said: dict[str, np.ndarray] | None = None,
) -> Findings:
    """Return findings of three models; `labels` (N,), 20 of each class unless given, `said` instead of random answers."""
    rng = np.random.default_rng(0)
    count = len(classes)
    labels = np.arange(20 * count) % count if labels is None else labels
    said = said or {name: answers(labels, count, right, rng) for name in MODELS}
    groups = np.array([f"g{i}" for i in range(len(labels))])
    models, resampled = {}, {}
    for name, given in said.items():
        figures = metrics.Figures(given, labels, 3)
        found = figures.score(tuple(classes))
        resampled[name] = intervals.resample(figures, groups, resamples=50) if len(labels) < 2000 else {}
        found["intervals"] = intervals.around(found, resampled[name], groups)
        ece = found.pop("ece")
        found["intervals"].setdefault("accuracy", (found["accuracy"] - 0.01, found["accuracy"] + 0.01))
        found["calibration"] = {"temperature": 1.2, "ece": ece, "ece_uncalibrated": ece}
        found["bins"] = found["bins_uncalibrated"] = calibration.reliability(given, labels)
        models[name] = found | {
            "val_accuracy": 0.9, "val_macro_f1": 0.9, "val_log_loss": 0.2, "parameters": 10_000, "multiply_adds": 2_000_000,
            "checkpoint_bytes": None if name == "reference" else 40_000,
        }  # fmt: skip
    best = next(iter(said))
    headlines, details = metrics_io.split(models)
    pairs = intervals.pairs(said, labels, resampled, np.arange(len(labels))) if all(resampled.values()) else []
    if noise:
        pixels = rng.integers(0, 256, (len(labels), size, size, 3), np.uint8)
    else:
        shades = (40 + labels * 170 // max(count, 1)).astype(np.uint8)
        pixels = np.broadcast_to(shades[:, None, None, None], (len(labels), size, size, 3)).copy()
    images = [{"path": f"{classes[label]}/{i:05}.png", "sha256": f"{i:064x}"} for i, label in enumerate(labels)]
    wrong = np.flatnonzero(said[best].argmax(1) != labels)[:6].tolist()
    rows = [
        {
            "model": name, "kind": "reference" if name == "reference" else "model", "accuracy": models[name]["accuracy"],
            "macro_f1": models[name]["macro_f1"], "parameters": 10_000, "ms_per_image": 0.3, "ms_p50": 0.5, "ms_p95": 0.9,
            "images_per_second": 3000.0, "train_seconds": 12.5,
        }
        for name in said
    ]  # fmt: skip
    first = rows[0] | {"model": "ensemble/mean", "kind": "ensemble"}
    history = [
        {"epoch": str(i), "train_loss": str(1 / i), "val_loss": str(1.2 / i), "val_accuracy": str(1 - 0.5 / i)} for i in (1, 2, 3)
    ]
    return Findings(
        metrics={"schema": 2, "best": best, "confidence": significance.LEVEL, "resamples": 50, "images": len(labels),
                 "groups": len(labels), "models": headlines},
        details={"schema": 2, "classes": list(classes), "models": details, "pairs": pairs},
        rows=[first, *rows], histories={name: history for name in said if name != "reference"}, images=images, pixels=pixels,
        labels=labels, answers=said,
        data={"files": len(labels) * 5, "quarantined": 1, "train": len(labels) * 3, "val": 9, "test": len(labels),
              "classes": {name: {"train": 3, "val": 1, "test": 1} for name in classes}},
        params={"backbones": ["x"], "compute": {"threads": 2}, "ingest": {"source": "photos", "image_size": size}},
        beyond=beyond(tuple(classes), labels, said[best], images), issues=[{
            "path": images[0]["path"], "sha256": "0", "split": "test", "label": classes[labels[0]], "suggested": classes[-1],
            "confidence": 0.9, "quality": 0.1,
        }],
        pictures={images[0]["path"]: pixels[0]}, method="LayerCAM (Jiang et al. 2021)",
        heats=[Heat(i, OVERLAY) for i in [*wrong, *range(min(3, len(labels)))]],
        made={"commit": "0123456789ab", "data": "sha256 of the manifest"},
    )  # fmt: skip


def beyond(classes: tuple[str, ...], labels: np.ndarray, said: np.ndarray, images: list[dict[str, str]]) -> dict[str, Any]:
    """Return what beyond.json would hold."""
    from darkroom.evaluation import mistakes

    lost, always = mistakes.always_wrong({"baseline": said}, labels, images, classes)
    curve = {"kind": "noise", "accuracy": [0.8, 0.7, 0.6, 0.5, 0.4], "reference": [0.5, 0.4, 0.3, 0.2, 0.1]}
    return {
        "schema": 1, "model": "baseline", "counts": {"images": len(labels), "mistakes": lost, "always_wrong": lost},
        "robustness": {
            "of": len(labels), "images": min(200, len(labels)), "accuracy": 0.9, "corruption_error": 0.4,
            "reference_accuracy": 0.6, "reference_corruption_error": 0.7, "relative_corruption_error": 0.6,
            "corruptions": {"gaussian_noise": curve, "fog": curve},
        },
        "slices": [{"column": "size", "value": "8 to 9", "images": 30, "accuracy": 0.6, "low": 0.4, "high": 0.8, "rest": 0.9,
                    "p": 0.001, "p_holm": 0.01}],
        "ensembles": {"ensemble/mean": {"members": {"baseline": 1}, "views": 1, "accuracy": 0.9, "val_accuracy": 0.9,
                                        "log_loss": 0.3, "parameters": 10_000, "multiply_adds": 2_000_000}},
        "pairs": [{"a": "ensemble/mean", "b": "baseline", "difference": 0.0123, "low": -0.01, "high": 0.03, "mcnemar_p": 0.2,
                   "p_holm": 0.4321}],
        "mistakes": mistakes.surest(said, labels, images, classes), "confused": mistakes.confused(said.argmax(1), labels, classes),
        "always_wrong": always,
        "labels": {"inputs": "pixels", "folds": 5, "c": 0.01, "images": 100, "accuracy": 0.9, "candidates": 1},
    }  # fmt: skip
