"""The registered model as MLflow loads it: bytes of image files in, labels and probabilities out."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel


class Served(PythonModel):
    """A program behind MLflow's pyfunc interface; it is stored as this code and the program, never pickled."""

    def load_context(self, context: Any) -> None:
        from darkroom.inference.exported import Exported

        self.model = Exported(Path(context.artifacts["exported"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return label, confidence, error and `probabilities` (by class) for the column `image`: bytes, or base64 text.

        Of an image that cannot be read there is only the error, in words.
        """
        from darkroom.inference.exported import words

        contents = [base64.b64decode(item) if isinstance(item, str) else bytes(item) for item in model_input["image"]]
        rows: list[dict[str, Any]] = []
        for answer in self.model.files(contents):
            given = answer.probabilities
            if given is None:
                rows.append({"label": None, "confidence": None, "error": words(answer.error), "probabilities": None})
            else:
                shares = dict(zip(self.model.classes, map(float, given), strict=True))
                label = max(shares, key=lambda name: shares[name])
                rows.append({"label": label, "confidence": shares[label], "error": None, "probabilities": shares})
        # as objects: pandas would turn None into NaN, which JSON does not have
        return pd.DataFrame(rows, columns=["label", "confidence", "error", "probabilities"], dtype=object)


mlflow.models.set_model(Served())
