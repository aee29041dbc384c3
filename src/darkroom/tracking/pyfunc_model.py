"""The registered model as MLflow loads it: bytes of image files in, labels and probabilities out."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.pyfunc import PythonModel

from darkroom.core.errors import ParamsError
from darkroom.data.quarantine_reasons import REASONS
from darkroom.inference.exported_classifier import INT8_DESCRIPTION, ExportedClassifier
from darkroom.inference.predict import Prediction

FLOAT32, INT8 = "float32", "int8"  # programs of a version
MAX_IMAGES = 256  # of a request
MAX_BYTES = 64 * 2**20  # of an image file
MAX_PIXELS = 64_000_000  # of an image
COLUMNS = ["label", "confidence", "error", "probabilities", "prediction_set", "distance", "unknown"]
NO_IMAGE = "neither the bytes of an image file nor base64 text"


class ExportedModel(PythonModel):
    """An exported program behind MLflow's pyfunc interface, stored as code, without pickles."""

    def load_context(self, context: Any) -> None:
        self.folder = Path(context.artifacts["exported"])
        self.models = {FLOAT32: ExportedClassifier(self.folder)}

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return label, confidence, error, probabilities by class and a prediction set for each image of the column `image`.

        The distance from the training images, and whether it makes an image unknown, are there where the model has abstention.
        The set is there where `params` has a `coverage` above 0, the share of images whose set is to hold the true class. With the
        `engine` int8 the program of 8-bit integers predicts, where the version has one.

        An image is the bytes of a file, or base64 text of them, also as a data URL. One that cannot be read has an
        error and no label, and so has one above the limits. MlflowException, over HTTP the status 400, where there are
        more than MAX_IMAGES.
        """
        images = _images(model_input["image"])
        if len(images) > MAX_IMAGES:
            raise MlflowException(
                f"the request has {len(images):,} images; the limit is {MAX_IMAGES}: send them in several requests",
                error_code=INVALID_PARAMETER_VALUE,
            )
        model = self._model(params or {})
        coverage = _coverage(model, params or {})
        errors = [_check(image) for image in images]
        contents = (_decoded(image) for image, error in zip(images, errors, strict=True) if not error)
        try:
            predictions = iter(model.predict_files(contents, MAX_PIXELS))
        except MemoryError as error:
            message = "the server has too little memory for these images: send fewer or smaller ones, or try again later"
            raise MlflowException(message, error_code=TEMPORARILY_UNAVAILABLE) from error
        rows = [{"error": error} if error else _row(model, next(predictions), coverage) for error in errors]
        # as objects: pandas would turn None into NaN, which JSON does not have
        table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
        return table.where(table.notna(), None)

    def _model(self, params: dict[str, Any]) -> ExportedClassifier:
        """Return the program that a request names; MlflowException, over HTTP the status 400, where there is no such one."""
        engine = str(params.get("engine") or FLOAT32)
        if engine not in self.models:
            if engine != INT8 or not (self.folder / INT8_DESCRIPTION).is_file():
                message = f'this version has no engine "{engine}"; {FLOAT32} it has, and `register.quantize: int8` makes int8'
                raise MlflowException(message, error_code=INVALID_PARAMETER_VALUE)
            self.models[engine] = ExportedClassifier(self.folder, "int8")
        return self.models[engine]


def _coverage(model: ExportedClassifier, params: dict[str, Any]) -> float:
    """Return the coverage that a request names; MlflowException, over HTTP the status 400, where it cannot be had."""
    coverage = float(params.get("coverage") or 0)
    try:
        if coverage:
            model.conformal.check(coverage)
    except ParamsError as error:
        raise MlflowException(f"{error.problem}: {error.remedy}", error_code=INVALID_PARAMETER_VALUE) from error
    return coverage


def _row(model: ExportedClassifier, prediction: Prediction, coverage: float) -> dict[str, Any]:
    if prediction.probabilities is None:
        return {"error": _too_large() if prediction.error == "too_large" else REASONS[prediction.error].meaning}
    probabilities = dict(zip(model.classes, map(float, prediction.probabilities), strict=True))
    label = max(probabilities, key=lambda name: probabilities[name])
    row: dict[str, Any] = {"label": label, "confidence": probabilities[label], "error": None, "probabilities": probabilities}
    if model.threshold and prediction.distance is not None:
        row |= {"distance": prediction.distance, "unknown": model.threshold.is_unknown(prediction.distance)}
    if coverage:
        (row["prediction_set"],) = model.conformal.named_sets(prediction.probabilities[None], coverage, model.classes)
    return row


def _images(column: Iterable[Any]) -> list[Any]:
    """Return the images of a column; MLflow makes one row of all images of `{"inputs": {"image": […]}}`."""
    return [image for value in column for image in (value if isinstance(value, list | tuple | np.ndarray) else [value])]


def _check(image: Any) -> str:
    """Return why an image is not decoded; empty where it is."""
    if not isinstance(image, str | bytes):
        return NO_IMAGE
    if (len(image) // 4 * 3 if isinstance(image, str) else len(image)) > MAX_BYTES:
        return _too_large()
    try:
        _decoded(image)
    except ValueError:
        return NO_IMAGE
    return ""


def _too_large() -> str:
    return (
        f"the file has more than {MAX_BYTES >> 20} MiB, or the picture more than {MAX_PIXELS:,} pixels, of WebP and 16-bit colours "
        "more than about half of that"
    )


def _decoded(image: str | bytes) -> bytes:
    """Return the bytes of an image file. Raises ValueError where a text is not base64."""
    if isinstance(image, bytes):
        return image
    return base64.b64decode(image.rpartition(";base64,")[2])


mlflow.models.set_model(ExportedModel())
