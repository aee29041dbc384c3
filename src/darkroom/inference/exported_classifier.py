"""An exported classifier: an ONNX, OpenVINO or `torch.export` program that predicts without the code that trained it.

A folder holds `model.onnx` and `model.pt2`, of which one may be missing, and `model.json`. Programs take `images`
(N, S, S, 3) uint8, prepared as `ingest` does, and return `logits` and `probabilities` (N, classes), and `distance` (N,)
where the model has abstention. The logits are divided by the checkpoint's temperature: their softmax is the
probabilities. None is a pickle. `model.json` has the
checksums of the programs and of itself, so that a damaged folder is refused. A version may have a program of 8-bit integers
beside them, `model.int8.onnx`, with a description and a calibration of its own, `model.int8.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pydantic

from darkroom.core import checksums
from darkroom.core.errors import WeightsError, printable
from darkroom.core.lazy import lazy_imports
from darkroom.inference.predict import Measured, Prediction, predict_files
from darkroom.models.abstention import NO_DISTANCES, CalibrationDistances, Threshold
from darkroom.models.prediction_sets import NO_SCORES, ConformalScores
from darkroom.models.probabilities import softmax

with lazy_imports():  # a served model is installed with one of them
    import onnxruntime
    import openvino
    import torch

ONNX, TORCH, OPENVINO, DESCRIPTION = "model.onnx", "model.pt2", "model.xml", "model.json"
INT8_ONNX, INT8_DESCRIPTION = "model.int8.onnx", "model.int8.json"
PAGE = "model.html"  # which runs one of them in a browser
DISTANCE = "distance"  # the output of programs with abstention
FILES = "files"  # of the description: the sha256 of each program
BATCH = 32
Level = Annotated[int, pydantic.Field(ge=0, le=255)]


class ExportedClassifier:
    """A classifier of image files, computed by ONNX Runtime, or by torch if the folder has no ONNX program.

    `precision` is that of the program: `float32` or `int8`. Raises WeightsError where a file of the folder is damaged.
    """

    def __init__(self, folder: Path, precision: Literal["float32", "int8"] = "float32") -> None:
        is_int8 = precision == "int8"
        self.description = description = read_description(folder, INT8_DESCRIPTION if is_int8 else DESCRIPTION)
        self.classes, self.preprocessing, self.conformal = description.classes, description.preprocessing, description.conformal
        self.threshold = description.abstention
        file, kind = (ONNX, OnnxProgram) if is_int8 or (folder / ONNX).exists() else (TORCH, TorchProgram)
        file = INT8_ONNX if is_int8 else file
        if description.files is not None and description.files.get(file) != checksums.of_file(folder / file):
            raise _damaged(folder / file, "its checksum differs")
        try:
            self.program: OnnxProgram | TorchProgram = kind(folder / file)
        except MemoryError:
            raise
        except Exception as error:  # engines raise errors of every kind
            raise _damaged(folder / file, str(error)) from error

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return logits (N, classes) float32 for images (N, S, S, 3) uint8."""
        return self._run(images).logits

    def measure(self, images: np.ndarray) -> Measured:
        """Return calibrated probabilities and distances of images (N, S, S, 3) uint8."""
        logits, distances = self._run(images)
        return Measured(softmax(logits), distances if self.threshold else None)

    def _run(self, images: np.ndarray) -> ProgramOutputs:
        if not len(images):
            return ProgramOutputs(np.empty((0, len(self.classes)), np.float32), np.empty(0, np.float32))
        starts = range(0, len(images), BATCH)
        parts = [self.program(np.ascontiguousarray(images[start : start + BATCH])) for start in starts]
        distances = [part.distances for part in parts if part.distances is not None]
        return ProgramOutputs(np.concatenate([part.logits for part in parts]), np.concatenate(distances) if distances else None)

    def predict_files(self, contents: Iterable[bytes], max_pixels: int | None = None) -> list[Prediction]:
        """Return a prediction for the bytes of each image file; a file that cannot be read, or that has more
        than `max_pixels`, has an error instead."""
        return predict_files(contents, self.preprocessing, self.measure, max_pixels)


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
    abstention: Threshold | None = None
    temperature: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 1.0
    distances: CalibrationDistances = NO_DISTANCES  # of a program of 8-bit integers


def read_description(folder: Path, file: str = DESCRIPTION) -> Description:
    """Return the description of a folder of programs. Raises WeightsError where it is damaged."""
    try:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        expected = content.pop(checksums.KEY, None)
        description = pydantic.TypeAdapter(Description).validate_python(content)
        is_sealed = expected is not None or description.files is not None
        if is_sealed and expected != checksums.of_content(content):
            raise ValueError("its content and its checksum differ")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # pydantic's are ValueErrors
        raise _damaged(folder / file, str(error)) from error
    return description


def _damaged(file: Path, problem: str) -> WeightsError:
    return WeightsError(
        f"{file} is damaged: {printable(' '.join(problem.split()))[:200]}",
        "copy the folder again, or export the model again: `darkroom export`",
    )


class ProgramOutputs(NamedTuple):
    """Logits (N, classes) float32 of images, and their distances (N,) where the model has abstention."""

    logits: np.ndarray
    distances: np.ndarray | None


class OnnxProgram:
    """An ONNX program: (N, S, S, 3) uint8 to its outputs, on so many threads, 0 for as many as there are cores."""

    def __init__(self, file: Path, threads: int = 0) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it at import
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        names = {output.name for output in self.session.get_outputs()}
        self.names = [name for name in ("logits", DISTANCE) if name in names]

    def __call__(self, images: np.ndarray) -> ProgramOutputs:
        return _outputs(self.session.run(self.names, {"images": images}))


class TorchProgram:
    """A `torch.export` program: (N, S, S, 3) uint8 to its outputs."""

    def __init__(self, file: Path) -> None:
        self.network = torch.export.load(file).module()

    def __call__(self, images: np.ndarray) -> ProgramOutputs:
        with torch.inference_mode():
            logits, _, *rest = self.network(torch.from_numpy(images))
        return _outputs([output.numpy() for output in (logits, *rest)])


class OpenVinoProgram:
    """A program of OpenVINO, computed in float32: (N, S, S, 3) uint8 to its outputs."""

    def __init__(self, file: Path) -> None:
        self.model = openvino.compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def __call__(self, images: np.ndarray) -> ProgramOutputs:
        logits, _, *rest = self.model(images).to_tuple()
        return _outputs([logits, *rest])


def _outputs(values: list[Any]) -> ProgramOutputs:
    return ProgramOutputs(values[0], values[1] if len(values) > 1 else None)
