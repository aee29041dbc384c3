"""Synthetic evaluations for tests of the report: any number of classes, images and models, of any
accuracy."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from darkroom.evaluation import calibration, intervals, mistakes
from darkroom.evaluation.diagnostics_file import Diagnostics
from darkroom.evaluation.embedding_map import EmbeddingMap
from darkroom.evaluation.label_issues import LabelIssue
from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, Details, Metrics
from darkroom.evaluation.report.heatmaps import HeatMap
from darkroom.evaluation.report.page import Evaluation

OVERLAY = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")  # a WebP of one pixel
MODELS = ("baseline", "transfer/x", PIXEL_BASELINE)
COSTS = {"ms_per_image": 0.3, "ms_p50": 0.5, "ms_p95": 0.9, "images_per_second": 3000.0, "train_seconds": 12.5}


def random_probabilities(labels: np.ndarray, classes: int, accuracy: float, rng: np.random.Generator) -> np.ndarray:
    """Return probabilities (N, classes) with about this accuracy, of varied confidence."""
    wrong = (labels + rng.integers(1, max(classes, 2), len(labels))) % classes
    predicted = np.where(rng.random(len(labels)) < accuracy, labels, wrong)
    probabilities = rng.random((len(labels), classes)) * 0.5
    probabilities[np.arange(len(labels)), predicted] = 0.6 + 3 * rng.random(len(labels))
    return probabilities / probabilities.sum(1, keepdims=True)


def evaluation(
    classes: Sequence[str] = ("cat", "dog", "owl"),
    labels: np.ndarray | None = None,
    accuracy: float = 0.8,
    size: int = 32,
    noise: bool = False,
    probabilities: dict[str, np.ndarray] | None = None,
) -> Evaluation:
    """Return an evaluation of three models; `labels` (N,), by default 20 of each class; `probabilities`, by
    default random."""
    rng = np.random.default_rng(0)
    count = len(classes)
    labels = np.arange(20 * count) % count if labels is None else labels
    probabilities = probabilities or {name: random_probabilities(labels, count, accuracy, rng) for name in MODELS}
    metrics, details = results(tuple(classes), labels, probabilities)
    best = metrics.best
    if noise:
        pixels = rng.integers(0, 256, (len(labels), size, size, 3), np.uint8)
    else:
        shades = (40 + labels * 170 // max(count, 1)).astype(np.uint8)
        pixels = np.broadcast_to(shades[:, None, None, None], (len(labels), size, size, 3)).copy()
    images = [{"path": f"{classes[label]}/{i:05}.png", "sha256": f"{i:064x}"} for i, label in enumerate(labels)]
    wrong = np.flatnonzero(probabilities[best].argmax(1) != labels)[:6].tolist()
    rows = [
        Row(
            model=name, kind=name if name == PIXEL_BASELINE else "model", accuracy=figures.accuracy, macro_f1=figures.macro_f1,
            parameters=10_000, **COSTS,
        )
        for name, figures in metrics.models.items()
    ]  # fmt: skip
    views = rows[0].model_copy(update={"model": "best/views", "kind": "views"})
    history = [
        {"epoch": str(i), "train_loss": str(1 / i), "val_loss": str(1.2 / i), "val_accuracy": str(1 - 0.5 / i)} for i in (1, 2, 3)
    ]
    return Evaluation(
        metrics=metrics, details=details, diagnostics=diagnostics(tuple(classes), labels, probabilities[best], images),
        rows=[views, *rows], histories={name: history for name in probabilities if name != PIXEL_BASELINE},
        images=images, pixels=pixels, labels=labels, probabilities=probabilities,
        data={"files": len(labels) * 5, "quarantined": 1, "train": len(labels) * 3, "val": 9, "test": len(labels),
              "classes": {name: {"train": 3, "val": 1, "test": 1} for name in classes}},
        params={"backbones": ["x"], "compute": {"threads": 2}, "ingest": {"source": "photos", "image_size": size}},
        issues=[LabelIssue(images[0]["path"], "0", "test", classes[labels[0]], classes[-1], 0.9, 0.1, 0.8)],
        pictures={images[0]["path"]: pixels[0]}, method="LayerCAM (Jiang et al. 2021)",
        heatmaps=[HeatMap(i, OVERLAY) for i in [*wrong, *range(min(3, len(labels)))]],
        origin={"commit": "0123456789ab", "data": "sha256 of the manifest"}, embedded=mapped(labels), folder="../photos",
        corrupted={name: np.stack([pixels[0]] * 6) for name in ("gaussian_noise", "fog")},
    )  # fmt: skip


def mapped(labels: np.ndarray) -> EmbeddingMap:
    """Return a map of the first 2,000 images at most: those of a class are in one column."""
    images = np.arange(len(labels))[:2000]
    return EmbeddingMap(images, np.stack([labels[images] % 25 * 40, images % 250 * 4], axis=1), "PCA")


def results(classes: tuple[str, ...], labels: np.ndarray, probabilities: dict[str, np.ndarray]) -> tuple[Metrics, Details]:
    """Return the contents of metrics.json and details.json; the first model is the best."""
    groups = np.array([f"g{i}" for i in range(len(labels))])
    models, details, resampled = {}, {}, {}
    for name, values in probabilities.items():
        figures = Figures(values, labels, 3)
        headlines = figures.headlines()
        resampled[name] = intervals.resample(figures, groups, resamples=50) if len(labels) < 2000 else {}
        edges = intervals.around(headlines, resampled[name], groups)
        edges.setdefault("accuracy", (headlines["accuracy"] - 0.01, headlines["accuracy"] + 0.01))
        ece = headlines.pop("ece")
        models[name] = headlines | {
            "intervals": edges, "calibration": {"temperature": 1.2, "ece": ece, "ece_uncalibrated": ece},
            "val_accuracy": 0.9, "val_macro_f1": 0.9, "val_log_loss": 0.2, "parameters": 10_000, "multiply_adds": 2_000_000,
            "checkpoint_bytes": None if name == PIXEL_BASELINE else 40_000,
        }  # fmt: skip
        bins = calibration.reliability(values, labels)
        details[name] = {
            "per_class": figures.per_class(classes), "confusion_matrix": figures.confusion_matrix(), "bins": bins,
            "bins_uncalibrated": bins,
        }  # fmt: skip
    pairs = intervals.pairs(probabilities, labels, resampled, groups) if all(resampled.values()) else []
    metrics = {"best": next(iter(probabilities)), "confidence": 0.95, "resamples": 50, "images": len(labels), "groups": len(labels)}
    return Metrics.model_validate(metrics | {"models": models}), Details(classes=list(classes), models=details, pairs=pairs)


def diagnostics(
    classes: tuple[str, ...], labels: np.ndarray, probabilities: np.ndarray, images: list[dict[str, str]]
) -> Diagnostics:
    """Return the content of diagnostics.json for these probabilities (N, C) of the baseline."""
    lost, always = mistakes.always_wrong({"baseline": probabilities}, labels, images, classes)
    curve = {"kind": "noise", "accuracy": [0.8, 0.7, 0.6, 0.5, 0.4], "pixel_baseline": [0.5, 0.4, 0.3, 0.2, 0.1]}
    return Diagnostics.model_validate({
        "model": "baseline", "counts": {"images": len(labels), "mistakes": lost, "always_wrong": lost},
        "robustness": {
            "of": len(labels), "images": min(200, len(labels)), "accuracy": 0.9, "corruption_error": 0.4,
            "pixel_baseline_accuracy": 0.6, "pixel_baseline_corruption_error": 0.7, "mean_corruption_error": 0.6,
            "corruptions": {"gaussian_noise": curve, "fog": curve},
        },
        "slices": [{"column": "size", "value": "8 to 9", "images": 30, "accuracy": 0.6, "low": 0.4, "high": 0.8, "rest": 0.9,
                    "p": 0.001, "p_holm": 0.01}],
        "views": {
            "models": {"best/views": {
                "members": {"baseline": 1}, "views": 2, "accuracy": 0.9, "val_accuracy": 0.9, "ece": 0.1, "log_loss": 0.3,
                "val_log_loss": 0.3, "parameters": 10_000, "multiply_adds": 2_000_000, "intervals": {"accuracy": (0.8, 0.95)},
            }},
            "pairs": [{"a": "best/views", "b": "baseline", "difference": 0.0123, "low": -0.01, "high": 0.03, "mcnemar_p": 0.2,
                       "p_holm": 0.4321}],
        },
        "mistakes": mistakes.surest(probabilities, labels, images, classes), "always_wrong": always,
        "confused": mistakes.confused(probabilities.argmax(1), labels, classes),
        "labels": {"inputs": "pixels", "folds": 5, "c": 0.01, "images": 100, "accuracy": 0.9, "candidates": 1,
                   "expected_precision": 0.8, "expected_precision_at_10": 0.8},
        "learning_curve": {
            "embedder": "transfer/x", "of": 3 * len(labels), "test_images": len(labels), "images": [10, 20, 40],
            "gain": 0.05, "gain_interval": (-0.01, 0.11), "curves": {
                name: [{"mean": value, "low": value, "high": value} for value in values]
                for name, values in (("frozen features", (0.6, 0.8, 0.85)), ("pixels", (0.4, 0.5, 0.7)))
            },
        },
    })  # fmt: skip
