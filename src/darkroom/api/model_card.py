"""What a model card says: the data, the accuracy with its interval, the calibration, weights and date, as far as they are known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.core import json_files
from darkroom.core.errors import DarkroomError
from darkroom.core.lazy import lazy_imports
from darkroom.inference.classifier import Classifier, ModelInfo
from darkroom.models import checkpoint
from darkroom.tracking import entities

with lazy_imports():
    from darkroom.evaluation import metrics_io, predictions, significance
    from darkroom.tracking import registry

IMAGES, DIGEST = "data_images", "data_digest"  # tags of a version
REPORTS, WEIGHTS = Path("reports"), Path("models/weights")


def describe(classifier: Classifier, info: ModelInfo, metadata: Mapping[str, Any], precision: str) -> dict[str, str]:
    """Return the rows of a model card, text by term. `metadata` are those of the exported program, of this precision."""
    own, count = classifier.checkpoint, len(metadata["classes"])
    card = {"model": f"{metadata['about']}, checkpoint {info.checkpoint_sha256[:12]}"}
    card["classes"] = f"{count}: {', '.join(metadata['classes'])}"
    registered = _version(info)
    if registered and IMAGES in registered.tags:  # where they are is nobody else's business
        card["images"] = f"{registered.tags[IMAGES]}; manifest {registered.tags.get(DIGEST, '')[:8]}"
    card["test accuracy"] = _accuracy(info, own.temperature, registered, precision) or "not known here"
    card["probabilities"] = (
        f"calibrated on validation images by the temperature {metadata['temperature']:.4g}: of images that get 80%, about 80% are "
        "right, as long as new images come from where those came from"
    )
    if metadata["prediction_sets"]:
        card["prediction sets"] = (
            f"by split conformal prediction on {len(own.conformal.scores):,} validation images: the true class is in the set as "
            "often as is chosen, on average over images like those"
        )
    if metadata["abstention"]:
        share = metadata["abstention"]["refuse"]
        card["unknown images"] = (
            f"their distance from the training images is beyond that of all but {100 * share:.3g}% of images like them"
        )
    size = metadata["preprocessing"]["image_size"]
    card["arithmetic"] = f"{'8-bit integers' if precision == 'int8' else '32-bit floating point'}; images of {size} × {size} pixels"
    if weights := _weights(own.name):
        card["weights it began with"] = weights
    if registered and registered.created_at:
        card["registered"] = time.strftime("%Y-%m-%d", time.gmtime(registered.created_at))
    return card | {"made with": "Darkroom (Apache-2.0), ONNX Runtime Web (MIT). Images and weights have licences of their own"}


def _version(info: ModelInfo) -> entities.Version | None:
    return registry.pick(registry.versions(info.name), info.version, info.name) if info.version else None


def _accuracy(info: ModelInfo, temperature: float, registered: entities.Version | None, precision: str) -> str:
    """Return the test accuracy with its 95% interval; of a checkpoint's folder that of the last evaluation, where it is of it."""
    try:
        if registered is None:
            model = metrics_io.read(REPORTS / metrics_io.METRICS, metrics_io.Metrics).models.get(info.model)
            is_this = (
                model is not None and model.calibration.temperature == temperature
            )  # not one that was trained since, or elsewhere
            return _with_interval(model.accuracy, model.intervals.get("accuracy"), "") if model and is_this else ""
        folder = registry.fetch(info.name, info.version) / entities.EVALUATION
        rows = predictions.of_test(folder / "predictions.parquet", info.model)
        accuracy = float(np.mean([item.label == item.predicted for item in rows]))
        if precision == "int8":
            accuracy = float(json_files.read(folder / entities.INT8_VERDICT, dict[str, Any], "")["int8"]["accuracy"])
        return _with_interval(accuracy, significance.wilson(accuracy, len(rows)), f", on {len(rows):,} test images")
    except (DarkroomError, OSError, KeyError, TypeError):  # a version of before has no such files
        return ""


def _with_interval(accuracy: float, edges: tuple[float, float] | None, images: str) -> str:
    text = f"{100 * accuracy:.1f}%"
    return f"{text} (95% interval {100 * edges[0]:.1f} to {100 * edges[1]:.1f}%{images})" if edges else text


def _weights(model: str) -> str:
    """Return where the weights of a model's backbone come from, and their licence where it is known."""
    backbone = model.partition("/")[2]
    try:
        origin = checkpoint.Provenance.read(WEIGHTS / f"{backbone}.json")
    except (DarkroomError, OSError):
        return ""
    licence = origin.details.get("license")
    return f"{backbone}, {origin.source}; {f'licence {licence}' if licence else 'their source names the licence'}"
