"""A registered version whose program of 8-bit integers predicts, in place of its network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from darkroom.core.errors import WorkspaceError
from darkroom.inference.classifier import Classifier
from darkroom.inference.exported_classifier import ExportedClassifier
from darkroom.inference.predict import Measured


class QuantizedClassifier(Classifier):
    """A classifier whose probabilities and distances are those of the program of 8-bit integers in `folder`.

    Temperature, prediction sets and abstention are the program's own. Embeddings and heat maps are of the float32 network of
    `parent`. It computes on the CPU. Raises WeightsError where it is damaged.
    """

    def __init__(self, parent: Classifier, folder: Path) -> None:
        self.folder, self.parent = folder, parent
        self.program = ExportedClassifier(folder, "int8")
        own = self.program.description
        super().__init__(parent.network, replace(
            parent.checkpoint, temperature=own.temperature, conformal=own.conformal, abstention=own.distances,
        ))  # fmt: skip
        self.device, self.threshold = parent.device, self.program.threshold

    def to(self, device: torch.device) -> Classifier:
        """Return this classifier, which stays on the CPU."""
        return self

    def logits(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        return self.program.logits(images) * np.float32(self.checkpoint.temperature)

    def measure(self, images: np.ndarray, batch_size: int = 64) -> Measured:
        probabilities, distances = self.program.measure(images)
        return Measured(probabilities, distances if self.checkpoint.abstention.distances else None)

    def examine(self, images: np.ndarray, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return embeddings (N, D) and distances (N,) of the float32 network, and the program's probabilities (N, classes)."""
        embeddings, _, distances = super().examine(images, batch_size)
        return embeddings, self.probabilities(images), distances


class NoProgramError(WorkspaceError):
    """A model has no program of 8-bit integers."""


def missing(model: str) -> NoProgramError:
    """Return the error about a model that has no program of 8-bit integers."""
    return NoProgramError(
        f"{model} has no int8 program: only a registered version has one, which `register` has made and not refused",
        "set `register.quantize: int8` in params.yaml, and `dvc repro register`; reports/promotion.json says why one is refused",
    )
