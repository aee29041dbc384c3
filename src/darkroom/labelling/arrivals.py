"""The images of an inbox, as a model sees them: which of them to label first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from darkroom.core.errors import SourceError
from darkroom.core.progress import Progress
from darkroom.data.decoding import decode
from darkroom.inference import image_files
from darkroom.inference.classifier import Classifier
from darkroom.labelling import active_learning, queues


@dataclass(frozen=True)
class Arrivals:
    """The readable images of an inbox by their paths in it, with probabilities (N, C) and embeddings (N, D) of a model, and the
    reason why others cannot be read."""

    folder: Path
    classes: tuple[str, ...]
    paths: list[str]
    probabilities: np.ndarray = field(repr=False)
    embeddings: np.ndarray = field(repr=False)
    unreadable: dict[str, str]


def measure(classifier: Classifier, folder: Path) -> Arrivals:
    """Return the images of a folder and its subfolders as a model sees them. Raises SourceError where it has none."""
    files = list(image_files.expand([str(folder)]))
    if not files:
        raise SourceError(f"there are no images in {folder}", "name the folder in which new images are: *.jpg, *.png, …")
    settings = classifier.checkpoint.preprocessing
    paths: list[str] = []
    unreadable: dict[str, str] = {}
    embeddings, probabilities = [], []
    with Progress("look at the inbox", len(files), "images") as progress:
        for start in range(0, len(files), image_files.BATCH):
            batch = files[start : start + image_files.BATCH]
            pixels = []
            for file in batch:
                name = file.relative_to(folder).as_posix()
                content, problem = image_files.read(file)
                if content is None:
                    unreadable[name] = problem[0]
                    continue
                decoded = decode(content, settings.image_size, settings.resize, settings.background)
                if decoded.pixels is None:
                    unreadable[name] = image_files.problem_of(decoded.reason)[0]
                    continue
                pixels.append(decoded.pixels)
                paths.append(name)
            if pixels:
                values, predicted = classifier.embed(np.stack(pixels))
                embeddings.append(values)
                probabilities.append(predicted)
            progress.advance(len(batch))
    if not paths:
        raise SourceError(
            f"no image of {folder} can be read: {next(iter(unreadable.values()))}", "copy them again from where they came"
        )
    return Arrivals(folder, classifier.classes, paths, np.concatenate(probabilities), np.concatenate(embeddings), unreadable)


def queue(incoming: Arrivals, labels: Mapping[str, str], count: int, with_labelled: bool = False) -> queues.Queue:
    """Return the images to label first, at most `count`; those that have labels are left out, or follow them."""
    free = np.array([i for i, path in enumerate(incoming.paths) if path not in labels], int)
    labelled = np.setdiff1d(np.arange(len(incoming.paths)), free)
    order = active_learning.order(incoming.probabilities[free], incoming.embeddings[free], count, incoming.embeddings[labelled])
    chosen = free[order].tolist() + (labelled.tolist() if with_labelled else [])
    margins = active_learning.margins(incoming.probabilities)
    best = incoming.probabilities.argmax(1)
    suggested = {incoming.paths[i]: incoming.classes[best[i]] for i in chosen}
    why = {incoming.paths[i]: f"probability {incoming.probabilities[i, best[i]]:.2f}, margin {margins[i]:.2f}" for i in chosen}
    return queues.arrivals([incoming.paths[i] for i in chosen], incoming.folder, suggested, why, labels)
