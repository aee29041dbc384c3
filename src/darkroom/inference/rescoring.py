"""What a model says of the images that are held out now, whatever it was once trained and evaluated on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from darkroom.config.params import Ingest
from darkroom.core.errors import SourceError
from darkroom.core.progress import Progress
from darkroom.data import arrays
from darkroom.data.sources import opened
from darkroom.inference.classifier import Classifier

AT_ONCE = 32


def score(classifier: Classifier, ingested: Path, ingest: Ingest, paths: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Return probabilities (N, C) for the images of each split, C in the order of the classifier's own classes.

    `paths` has for each split the files of its images in the source, in the order of the arrays in `ingested`, which `ingest`
    made. Where the classifier wants another size, resizing or background, the images are read from the source again.
    """
    wanted = classifier.checkpoint.preprocessing
    if (wanted.image_size, wanted.resize, wanted.background) == (ingest.image_size, ingest.resize, ingest.background):
        return {split: classifier.probabilities(arrays.load_split(ingested / split)[0]) for split in paths}
    with opened(Path(ingest.source).expanduser()) as found:
        files = {item.path: item for item in found.found}
        made = {}
        for split, names in paths.items():
            rows: list[np.ndarray] = []
            with Progress(f"the champion on {split}", len(names), "images") as progress:
                for start in range(0, len(names), AT_ONCE):
                    contents = [png(found.read(files[name])) for name in names[start : start + AT_ONCE]]
                    for name, answer in zip(names[start:], classifier.files(contents), strict=False):
                        if answer.probabilities is None:
                            raise SourceError(f"{name} can no longer be read: {answer.error}", "run `dvc repro -f ingest`")
                        rows.append(answer.probabilities)
                    progress.advance(len(contents))
            made[split] = np.stack(rows) if rows else np.empty((0, len(classifier.classes)))
    return made


def png(content: bytes | np.ndarray) -> bytes:
    """Return an image file's bytes; an image that is an array becomes a PNG, which loses nothing."""
    if isinstance(content, bytes):
        return content
    import cv2

    if content.ndim == 3 and content.shape[2] > 1:
        content = content[..., [2, 1, 0, 3][: content.shape[2]]]  # as OpenCV has them
    return bytes(cv2.imencode(".png", np.ascontiguousarray(content))[1].tobytes())
