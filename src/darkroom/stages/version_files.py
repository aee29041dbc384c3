"""The files of a registered version: exported programs, the reference for drift, evaluation results, and a
check of the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.core import json_files
from darkroom.inference.classifier import Classifier
from darkroom.inference.export import export
from darkroom.inference.held_out import as_file
from darkroom.monitoring import reference
from darkroom.tracking import entities, registry

CHECKED = 8  # validation images on which the package is compared with the checkpoint


def write_package(checkpoint: Path, ingested: Path, folder: Path, refuse: float) -> Mapping[str, float]:
    """Write the exported programs, the reference, and image files with their predictions; return the
    programs' errors. `refuse` is the share of images like the data that may be unknown."""
    held_out = reference.load_held_out(ingested)
    images = np.ascontiguousarray(held_out.images[0][:CHECKED])
    classifier = Classifier.load(checkpoint)
    if classifier.threshold:
        classifier.refuse(refuse)
    reference.write(folder / registry.EVALUATION / entities.REFERENCE, reference.compute(classifier.examine, held_out))
    errors = export(classifier, np.concatenate([images, images])[:CHECKED], folder / entities.EXPORTED)
    check = folder / registry.CHECK
    check.mkdir()
    files = [as_file(pixels) for pixels in images]
    for number, content in enumerate(files):
        (check / f"{number}.png").write_bytes(content)
    probabilities = [prediction.probabilities for prediction in classifier.predict_files(files)]
    np.save(check / "expected.npy", np.array(probabilities))
    return errors


def read_int8(version: Path) -> Mapping[str, Any] | None:
    """Return the verdict on the program of 8-bit integers in the folder of a version; None where nothing has asked for it."""
    file = version / registry.EVALUATION / entities.INT8_VERDICT
    kind = dict[str, Any]
    return json_files.read(file, kind, "`darkroom tidy --older-than 0d`") if file.is_file() else None
