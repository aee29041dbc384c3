"""The registered model as MLflow loads it: bytes of image files in, labels and probabilities out."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel

from darkroom.data.quarantine_reasons import REASONS
from darkroom.inference.exported_classifier import ExportedClassifier


class ExportedModel(PythonModel):
    """An exported program behind MLflow's pyfunc interface, stored as code, without pickles."""

    def load_context(self, context: Any) -> None:
        self.model = ExportedClassifier(Path(context.artifacts["exported"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return label, confidence, error and probabilities by class for the column `image`.

        An image is bytes or base64 text; one that cannot be read has an error and no label.
        """
        contents = [base64.b64decode(item) if isinstance(item, str) else bytes(item) for item in model_input["image"]]
        rows: list[dict[str, Any]] = []
        for answer in self.model.predict_files(contents):
            if answer.probabilities is None:
                rows.append({"label": None, "confidence": None, "error": REASONS[answer.error].meaning, "probabilities": None})
            else:
                probabilities = dict(zip(self.model.classes, map(float, answer.probabilities), strict=True))
                label = max(probabilities, key=lambda name: probabilities[name])
                row = {"label": label, "confidence": probabilities[label], "error": None, "probabilities": probabilities}
                rows.append(row)
        # as objects: pandas would turn None into NaN, which JSON does not have
        return pd.DataFrame(rows, columns=["label", "confidence", "error", "probabilities"], dtype=object)


mlflow.models.set_model(ExportedModel())
