"""A checkpoint folder as a classifier of arrays and image files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from darkroom.core import user_paths
from darkroom.inference.predict import Measured, Prediction, predict_files
from darkroom.models import checkpoint as checkpoints
from darkroom.models import give_way
from darkroom.models.abstention import REFUSE, Threshold
from darkroom.models.base import Network
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.probabilities import softmax


@dataclass(frozen=True)
class ModelInfo:
    """The identity of a classifier: `name` of its folder or registered model, `version`, which is empty for a
    folder, `model`, the name in its checkpoint, the checkpoint's sha256, and a description for people."""

    name: str
    version: str
    model: str
    checkpoint_sha256: str
    description: str


class Outputs(NamedTuple):
    """Embeddings (N, D), logits (N, classes) and distances (N,) from the training images, float32; None of an earlier model."""

    embeddings: np.ndarray
    logits: np.ndarray
    distances: np.ndarray | None


class Classifier:
    """A trained network with the preprocessing and class names that it was trained with.

    `threshold` tells unknown images by their distances; None where it refuses none, or the model has no distance.
    """

    threshold: Threshold | None

    def __init__(self, network: Network, checkpoint: Checkpoint) -> None:
        self.network, self.checkpoint = network.eval(), checkpoint
        self.device = torch.device("cpu")
        self.threshold = checkpoint.abstention.default(REFUSE)

    @classmethod
    def load(cls, folder: Path) -> Classifier:
        """Read a checkpoint folder; raises WorkspaceError or WeightsError if it is not one."""
        for name in (checkpoints.DESCRIPTION, checkpoints.WEIGHTS):
            user_paths.check_file(folder / name)
        give_way.start()
        return cls(*checkpoints.load(folder))

    def to(self, device: torch.device) -> Classifier:
        """Move the network to a device, on which it then computes; return this classifier."""
        self.network, self.device = self.network.to(device), device
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        return self.checkpoint.classes

    @torch.inference_mode()
    def batch_outputs(self, images: np.ndarray, batch_size: int = 64) -> Iterator[Outputs]:
        """Yield the outputs of each batch of images (N, S, S, 3) uint8, prepared as `ingest` does."""
        for batch in batches(images, batch_size):
            outputs = self.network.outputs(batch.to(self.device))
            distances = outputs.distances if self.checkpoint.abstention.distances else None
            arrays = outputs.embeddings.cpu().numpy(), outputs.logits.cpu().numpy()
            yield Outputs(*arrays, None if distances is None else distances.cpu().numpy())

    def outputs(self, images: np.ndarray, batch_size: int = 64) -> Outputs:
        """Return the outputs of images (N, S, S, 3) uint8, prepared as `ingest` does."""
        parts = list(self.batch_outputs(images, batch_size))
        has_distance = self.network.distance is not None and self.checkpoint.abstention.distances
        empty = np.empty((0, self.network.features.dim), np.float32), np.empty((0, len(self.classes)), np.float32)
        embeddings, logits = (np.concatenate([empty[i], *(part[i] for part in parts)]) for i in range(2))
        distances = [part.distances for part in parts if part.distances is not None]
        return Outputs(embeddings, logits, np.concatenate([np.empty(0, np.float32), *distances]) if has_distance else None)

    def logits(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Return logits (N, classes) float32 for images (N, S, S, 3) uint8, prepared as `ingest` does."""
        parts = (part.logits for part in self.batch_outputs(images, batch_size))  # without all embeddings in memory
        return np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])

    def refuse(self, share: float) -> Classifier:
        """Let this share of the images like the data be unknown; return this classifier. Raises ParamsError where it cannot."""
        self.threshold = self.checkpoint.abstention.threshold(share)
        return self

    def measure(self, images: np.ndarray, batch_size: int = 64) -> Measured:
        """Return calibrated probabilities and distances of images (N, S, S, 3) uint8, prepared as `ingest` does."""
        return Measured(*self.examine(images, batch_size)[1:])

    def probabilities(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Return calibrated probabilities (N, classes) float64 for images (N, S, S, 3) uint8."""
        return softmax(self.logits(images, batch_size), self.checkpoint.temperature)

    def prediction_sets(self, probabilities: np.ndarray, coverage: float) -> list[list[str]]:
        """Return the classes of each image's prediction set, most probable first, from probabilities (N, classes).

        Raises ParamsError where the coverage needs more validation images than the model was trained with.
        """
        return self.checkpoint.conformal.named_sets(probabilities, coverage, self.classes)

    def examine(self, images: np.ndarray, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return embeddings (N, D) float32, probabilities (N, classes) and distances (N,), None of an earlier model, for images
        (N, S, S, 3) uint8."""
        embeddings, logits, distances = self.outputs(images, batch_size)
        return embeddings, softmax(logits, self.checkpoint.temperature), distances

    def embed(self, images: np.ndarray, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings (N, D) float32 and probabilities (N, classes) for images (N, S, S, 3) uint8."""
        return self.examine(images, batch_size)[:2]

    def distances(self, embeddings: np.ndarray) -> np.ndarray | None:
        """Return the distances (N,) float32 of embeddings (N, D); None where the model has none, or they take more than these."""
        distance = self.network.distance
        has_distance = distance is not None and self.checkpoint.abstention.distances and not distance.steps
        return distance.measure(embeddings) if distance is not None and has_distance else None

    def predict_files(self, contents: Iterable[bytes]) -> list[Prediction]:
        """Return a prediction for the bytes of each image file; an unreadable one has an error instead."""
        return predict_files(contents, self.checkpoint.preprocessing, self.measure)


def batches(images: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield images (N, S, S, 3) uint8 as tensors of at most `batch_size` images."""
    for start in range(0, len(images), batch_size):
        yield torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size]))
