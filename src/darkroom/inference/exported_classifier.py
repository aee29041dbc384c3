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
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic

from darkroom.core import checksums
from darkroom.core.errors import WeightsError, printable
from darkroom.core.lazy import lazy_imports
from darkroom.inference.predict import Prediction, predict_files
from darkroom.models.prediction_sets import NO_SCORES, ConformalScores
from darkroom.models.probabilities import softmax

with lazy_imports():  # a served model is installed with one of them
    import onnxruntime
    import openvino
    import torch

ONNX, TORCH, OPENVINO, DESCRIPTION = "model.onnx", "model.pt2", "model.xml", "model.json"
FILES = "files"  # of the description: the sha256 of each program
BATCH = 32
Level = Annotated[int, pydantic.Field(ge=0, le=255)]


class ExportedClassifier:
    """A classifier of image files, computed by ONNX Runtime, or by torch if the folder has no ONNX program.

    Raises WeightsError where a file of the folder is damaged.
    """

    def __init__(self, folder: Path) -> None:
        description = _described(folder)
        self.classes, self.preprocessing, self.conformal = description.classes, description.preprocessing, description.conformal
        file, kind = (ONNX, OnnxProgram) if (folder / ONNX).exists() else (TORCH, TorchProgram)
        if description.files is not None and description.files.get(file) != checksums.of_file(folder / file):
            raise _damaged(folder / file, "its checksum differs")
        try:
            self.program: OnnxProgram | TorchProgram = kind(folder / file)
        except Exception as error:  # engines raise errors of every kind
            raise _damaged(folder / file, str(error)) from error

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return logits (N, classes) float32 for images (N, S, S, 3) uint8."""
        logits = [np.empty((0, len(self.classes)), np.float32)]
        logits += [self.program(np.ascontiguousarray(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
        return np.concatenate(logits)

    def predict_files(self, contents: Iterable[bytes], max_pixels: int | None = None) -> list[Prediction]:
        """Return a prediction for the bytes of each image file; a file that cannot be read, or that has more
        than `max_pixels`, has an error instead."""
        return predict_files(contents, self.preprocessing, lambda images: softmax(self.logits(images)), max_pixels)


@dataclass(frozen=True)
class ProgramPreprocessing:
    """How an image file becomes the input of a program, which normalises by itself."""

    image_size: Annotated[int, pydantic.Field(ge=1, le=4096)]
    resize: Literal["crop", "pad", "stretch"]
    background: tuple[Level, Level, Level]


@dataclass(frozen=True)
class Description:
    """The part of `model.json` that predicting needs; earlier versions wrote no sha256 of the files."""

    classes: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    preprocessing: ProgramPreprocessing
    files: dict[str, str] | None = None
    conformal: ConformalScores = NO_SCORES


def _described(folder: Path) -> Description:
    """Return the description of a folder of programs, as it was written."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        expected = content.pop(checksums.KEY, None)
        description = pydantic.TypeAdapter(Description).validate_python(content)
        is_sealed = expected is not None or description.files is not None
        if is_sealed and expected != checksums.of_content(content):
            raise ValueError("its content and its checksum differ")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # pydantic's are ValueErrors
        raise _damaged(folder / DESCRIPTION, str(error)) from error
    return description


def _damaged(file: Path, problem: str) -> WeightsError:
    return WeightsError(
        f"{file} is damaged: {printable(' '.join(problem.split()))[:200]}",
        "copy the folder again, or export the model again: `darkroom export`",
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
