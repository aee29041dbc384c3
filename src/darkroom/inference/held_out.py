"""Predictions of any checkpoint, of whatever data set, for the images that `ingest` holds out now."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from darkroom.config.params import Ingest
from darkroom.core.errors import SourceError
from darkroom.core.progress import Progress
from darkroom.data import arrays
from darkroom.data.sources import open_source
from darkroom.inference.classifier import Classifier

BATCH = 32


def predict_splits(classifier: Classifier, ingested: Path, ingest: Ingest, paths: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Return probabilities (N, C) for the images of each split, C in the classifier's own order.

    `paths` has the source paths of each split's images, in the order of the arrays in `ingested`. If the
    classifier needs another size, resizing or background than `ingest` used, the images are read from the
    source again. Raises SourceError if one of them can no longer be read.
    """
    preprocessing = classifier.checkpoint.preprocessing
    if all(getattr(preprocessing, key) == getattr(ingest, key) for key in ("image_size", "resize", "background")):
        return {split: classifier.probabilities(arrays.load_split(ingested / split)[0]) for split in paths}
    probabilities = {}
    with open_source(Path(ingest.source).expanduser(), class_folder=ingest.class_folder) as source:
        items = {item.path: item for item in source.files}
        for split, names in paths.items():
            rows: list[np.ndarray] = []
            with Progress(f"the champion on {split}", len(names), "images") as progress:
                for start in range(0, len(names), BATCH):
                    batch = names[start : start + BATCH]
                    contents = [as_file(source.read(items[name])) for name in batch]
                    for name, prediction in zip(batch, classifier.predict_files(contents), strict=True):
                        if prediction.probabilities is None:
                            raise SourceError(f"{name} can no longer be read: {prediction.error}", "run `dvc repro -f ingest`")
                        rows.append(prediction.probabilities)
                    progress.advance(len(batch))
            probabilities[split] = np.stack(rows) if rows else np.empty((0, len(classifier.classes)))
    return probabilities


def as_file(content: bytes | np.ndarray) -> bytes:
    """Return an image file's bytes; an array of pixels is encoded as PNG, which is lossless."""
    if isinstance(content, bytes):
        return content
    if content.ndim == 3 and content.shape[2] > 1:
        content = content[..., [2, 1, 0, 3][: content.shape[2]]]  # OpenCV's order of channels
    return bytes(cv2.imencode(".png", np.ascontiguousarray(content))[1].tobytes())
