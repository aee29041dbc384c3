"""A checkpoint folder as a classifier of arrays and of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from darkroom.inference import predict
from darkroom.inference.predict import Answer
from darkroom.models import checkpoint as checkpoints
from darkroom.models.base import Network, width
from darkroom.models.checkpoint import Checkpoint


class Classifier:
    """A trained network with the preprocessing and class names that it was trained with."""

    def __init__(self, network: Network, checkpoint: Checkpoint) -> None:
        self.network, self.checkpoint = network.eval(), checkpoint

    @classmethod
    def load(cls, folder: Path) -> Classifier:
        """Read a checkpoint folder; raises WorkspaceError or WeightsError where it is none."""
        return cls(*checkpoints.load(folder))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.checkpoint.classes

    def logits(self, images: np.ndarray, batch: int = 64) -> np.ndarray:
        """Return logits (N, classes) float32 for images (N, S, S, 3) uint8 as ingest makes them."""
        made = []
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                made.append(self.network(torch.from_numpy(np.ascontiguousarray(images[start : start + batch]))).numpy())
        return np.concatenate(made) if made else np.empty((0, len(self.classes)), np.float32)

    def probabilities(self, images: np.ndarray, batch: int = 64) -> np.ndarray:
        """Return probabilities (N, classes) float64, at the checkpoint's temperature, for images (N, S, S, 3) uint8."""
        return predict.softmax(self.logits(images, batch), self.checkpoint.temperature)

    def answers(self, images: np.ndarray, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings (N, D) and probabilities (N, classes) for images (N, S, S, 3) uint8."""
        made, said = [np.empty((0, width(self.network.features)), np.float32)], [np.empty((0, len(self.classes)), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                part = torch.from_numpy(np.ascontiguousarray(images[start : start + batch]))
                embeddings = self.network.features(self.network.normalize(part))
                made.append(embeddings.numpy())
                said.append(self.network.head(embeddings).numpy())
        return np.concatenate(made), predict.softmax(np.concatenate(said), self.checkpoint.temperature)

    def files(self, contents: list[bytes]) -> list[Answer]:
        """Answer for the bytes of image files of any format and size; a file that cannot be read gets a reason."""
        return predict.files(contents, self.checkpoint.preprocessing, self.probabilities)
