"""Train a new linear head on the embeddings of a frozen backbone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from darkroom.config import dvc_graph
from darkroom.config.params import Params
from darkroom.core.errors import WorkspaceError
from darkroom.data import arrays
from darkroom.models import mahalanobis, tensor_files
from darkroom.models.abstention import CalibrationDistances
from darkroom.models.base import new_head
from darkroom.models.checkpoint import Checkpoint, EmbeddedBackbone
from darkroom.models.mahalanobis import Mahalanobis
from darkroom.stages.context import Stopwatch, session
from darkroom.stages.trained_model import write_model
from darkroom.training import abstention, processes
from darkroom.training.batches import Examples
from darkroom.training.embedding import StandardizedHead
from darkroom.training.loop import FitResult, OnEpoch, fit
from darkroom.training.resume import Resume


def run(name: str, embedded: Path, out: Path, cost: Path) -> None:
    with session("transfer", ["ingest", "augment", "weights", "transfer", "compute"], [embedded]) as (settings, record):
        stopwatch = Stopwatch()
        try:
            backbone = EmbeddedBackbone.read(embedded / "backbone.json")
            frozen = tensor_files.load(embedded / "backbone.safetensors", partial(dvc_graph.how_to_restore, embedded))
        except FileNotFoundError as error:
            raise WorkspaceError(f"{embedded} is missing", f"run `dvc repro embed@{name}`") from error
        train = Examples(np.asarray(arrays.load(embedded / "train.npy")), arrays.load(embedded / "train_labels.npy"))
        val = Examples(np.asarray(arrays.load(embedded / "val.npy"))[None], arrays.load(embedded / "val_labels.npy"))
        head, result = train_head(
            train, val, len(backbone.classes), settings, f"training a head on {name}", record.log_epoch, Resume(f"transfer-{name}")
        )
        processes.go_on_alone()
        distance, distances = _fit_distance(train, val, embedded, backbone)
        # the network itself is not built: that would import torchvision
        weights = {f"features.net.{key}": value for key, value in frozen.items()}
        weights |= {f"head.{key}": value for key, value in head.state_dict().items()}
        weights |= {f"{mahalanobis.PREFIX}{key}": value for key, value in distance.state_dict().items()}
        parameters = backbone.parameters + sum(parameter.numel() for parameter in head.parameters())
        checkpoint = Checkpoint(
            f"transfer/{name}", backbone.architecture, backbone.preprocessing, backbone.classes, settings.transfer.model_dump(),
            result.best, result.temperature, result.conformal, distances,
        )  # fmt: skip
        write_model(out, checkpoint, weights, parameters, result, record)
        stopwatch.write(cost, result.earlier_seconds)
        print(f"transfer/{name}: val accuracy {result.best['val_accuracy']:.4f} in epoch {result.best['epoch']}")


def _fit_distance(
    train: Examples, val: Examples, embedded: Path, backbone: EmbeddedBackbone
) -> tuple[Mahalanobis, CalibrationDistances]:
    """Return the distance from the training images, and those of the validation images, by what `embed` has written."""
    cuts = [train.inputs.shape[-1]] if backbone.steps else []

    def levels(examples: Examples, part: str) -> Examples:
        """Return examples whose embeddings have the means of the feature map beside them."""
        if not cuts:
            return examples
        means = np.asarray(arrays.load(embedded / f"{part}_means.npy"))
        return Examples(np.concatenate([examples.inputs[0], means], 1)[None], examples.labels)

    parts = levels(train, "train"), levels(val, "val")
    return abstention.fit(lambda rows: np.split(rows[:], cuts, axis=1), *parts, len(backbone.classes), backbone.steps)


def train_head(
    train: Examples,
    val: Examples,
    classes: int,
    settings: Params,
    description: str,
    on_epoch: OnEpoch | None = None,
    resume: Resume | None = None,
) -> tuple[nn.Linear, FitResult]:
    """Train a head for embeddings (K, N, D) float32 by `settings.transfer`; it takes them as they are."""
    embeddings = np.asarray(train.inputs)
    standardized = StandardizedHead(new_head(embeddings.shape[-1], classes, settings.compute.seed), embeddings)
    result = fit(
        standardized, train, val, settings.transfer, settings.compute, classes, description=description, on_epoch=on_epoch,
        resume=resume,
    )  # fmt: skip
    standardized.fold()
    return standardized.head, result
