"""The registered model as MLflow loads it: bytes of image files in, labels and probabilities out."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from darkroom.data.quarantine_reasons import REASONS
from darkroom.inference.exported_classifier import ExportedClassifier
from darkroom.inference.predict import Prediction

MAX_IMAGES = 256  # of a request
MAX_BYTES = 64 * 2**20  # of an image file
MAX_PIXELS = 64_000_000  # of an image


class ExportedModel(PythonModel):
    """An exported program behind MLflow's pyfunc interface, stored as code, without pickles."""

    def load_context(self, context: Any) -> None:
        self.model = ExportedClassifier(Path(context.artifacts["exported"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return label, confidence, error and probabilities by class for the column `image`.

        An image is bytes or base64 text; one that cannot be read has an error and no label, and so has one
        above the limits. MlflowException, over HTTP the status 400, where there are more than MAX_IMAGES.
        """
        if len(model_input) > MAX_IMAGES:
            raise MlflowException(
                f"the request has {len(model_input):,} images; the limit is {MAX_IMAGES}: send them in several requests",
                error_code=INVALID_PARAMETER_VALUE,
            )
        rows: list[dict[str, Any]] = []
        images = list(model_input["image"])
        predictions = iter(self.model.predict_files((_decoded(image) for image in images if _size(image) <= MAX_BYTES), MAX_PIXELS))
        for image in images:
            answer = next(predictions) if _size(image) <= MAX_BYTES else Prediction(None, "too_large")
            if answer.probabilities is None:
                rows.append({"label": None, "confidence": None, "error": _meaning(answer.error), "probabilities": None})
            else:
                probabilities = dict(zip(self.model.classes, map(float, answer.probabilities), strict=True))
                label = max(probabilities, key=lambda name: probabilities[name])
                row = {"label": label, "confidence": probabilities[label], "error": None, "probabilities": probabilities}
                rows.append(row)
        # as objects: pandas would turn None into NaN, which JSON does not have
        return pd.DataFrame(rows, columns=["label", "confidence", "error", "probabilities"], dtype=object)


def _size(image: str | bytes) -> int:
    """Return the bytes of an image file that is given as bytes or as base64 text."""
    return len(image) // 4 * 3 if isinstance(image, str) else len(image)


def _decoded(image: str | bytes) -> bytes:
    return base64.b64decode(image) if isinstance(image, str) else bytes(image)


def _meaning(reason: str) -> str:
    if reason == "too_large":
        return f"the file has more than {MAX_BYTES >> 20} MiB, or the picture more than {MAX_PIXELS:,} pixels"
    return REASONS[reason].meaning


mlflow.models.set_model(ExportedModel())
