"""An exported classifier: an ONNX, OpenVINO or `torch.export` program that predicts without the code that trained it.

A folder holds `model.onnx` and `model.pt2`, of which one may be missing, and `model.json`. Programs take `images`
(N, S, S, 3) uint8, prepared as `ingest` does, and return `logits` and `probabilities` (N, classes). The logits are
divided by the checkpoint's temperature: their softmax is the probabilities. None is a pickle. `model.json` has the
checksums of the programs and of itself, so that a damaged folder is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from darkroom.core import checksums
from darkroom.core.errors import WeightsError
from darkroom.core.lazy import lazy_imports
from darkroom.inference.predict import Prediction, predict_files, softmax

with lazy_imports():  # a served model is installed with one of them
    import onnxruntime
    import openvino
    import torch

ONNX, TORCH, OPENVINO, DESCRIPTION = "model.onnx", "model.pt2", "model.xml", "model.json"
FILES = "files"  # of the description: the sha256 of each program
BATCH = 32


class ExportedClassifier:
    """A classifier of image files, computed by ONNX Runtime, or by torch if the folder has no ONNX program.

    Raises WeightsError where a file of the folder is damaged.
    """

    def __init__(self, folder: Path) -> None:
        content = _described(folder)
        self.classes: tuple[str, ...] = tuple(content["classes"])
        self.preprocessing = SimpleNamespace(**content["preprocessing"])
        file, kind = (ONNX, OnnxProgram) if (folder / ONNX).exists() else (TORCH, TorchProgram)
        if FILES in content and content[FILES].get(file) != checksums.of_file(folder / file):
            raise _damaged(folder / file)
        self.program: OnnxProgram | TorchProgram = kind(folder / file)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return logits (N, classes) float32 for images (N, S, S, 3) uint8."""
        logits = [np.empty((0, len(self.classes)), np.float32)]
        logits += [self.program(np.ascontiguousarray(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
        return np.concatenate(logits)

    def predict_files(self, contents: Iterable[bytes], max_pixels: int | None = None) -> list[Prediction]:
        """Return a prediction for the bytes of each image file; a file that cannot be read, or that has more
        than `max_pixels`, has an error instead."""
        return predict_files(contents, self.preprocessing, lambda images: softmax(self.logits(images)), max_pixels)


def _described(folder: Path) -> dict[str, Any]:
    """Return the description of a folder of programs, as it was written; earlier versions wrote no checksums."""
    try:
        content: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        expected = content.pop(checksums.KEY, None)
        is_whole = expected == checksums.of_content(content) if expected or FILES in content else bool(content["classes"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder / DESCRIPTION) from error
    if not is_whole:
        raise _damaged(folder / DESCRIPTION)
    return content


def _damaged(file: Path) -> WeightsError:
    return WeightsError(
        f"{file} is damaged: its checksum differs", "copy the folder again, or export the model again: `darkroom export`"
    )


class OnnxProgram:
    """An ONNX program: (N, S, S, 3) uint8 to logits (N, classes)."""

    def __init__(self, file: Path) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it at import
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(["logits"], {"images": images})[0]


class TorchProgram:
    """A `torch.export` program: (N, S, S, 3) uint8 to logits (N, classes)."""

    def __init__(self, file: Path) -> None:
        self.network = torch.export.load(file).module()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.network(torch.from_numpy(images))[0].numpy()


class OpenVinoProgram:
    """A program of OpenVINO, computed in float32: (N, S, S, 3) uint8 to logits (N, classes)."""

    def __init__(self, file: Path) -> None:
        self.model = openvino.compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.model(images)["logits"]
