"""Train a new linear head on the embeddings of a frozen backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from darkroom.core.errors import WorkspaceError
from darkroom.data import arrays
from darkroom.models.base import new_head
from darkroom.models.checkpoint import Checkpoint, EmbeddedBackbone
from darkroom.stages.context import Stopwatch, session
from darkroom.stages.trained_model import write_model
from darkroom.training.batches import Examples
from darkroom.training.embedding import StandardizedHead
from darkroom.training.loop import fit


def run(name: str, embedded: Path, out: Path, cost: Path) -> None:
    with session("transfer", ["ingest", "augment", "weights", "transfer", "compute"], [embedded]) as (settings, record):
        stopwatch = Stopwatch()
        hyper = settings.transfer
        try:
            backbone = EmbeddedBackbone.read(embedded / "backbone.json")
        except FileNotFoundError as error:
            raise WorkspaceError(f"{embedded} is missing", f"run `dvc repro embed@{name}`") from error
        embeddings = np.asarray(arrays.load(embedded / "train.npy"))
        train = Examples(embeddings, arrays.load(embedded / "train_labels.npy"))
        val = Examples(np.asarray(arrays.load(embedded / "val.npy"))[None], arrays.load(embedded / "val_labels.npy"))
        head = new_head(embeddings.shape[-1], len(backbone.classes), settings.compute.seed)
        standardized = StandardizedHead(head, embeddings)
        result = fit(
            standardized, train, val, hyper, settings.compute, len(backbone.classes),
            description=f"training a head on {name}", on_epoch=record.log_epoch,
        )  # fmt: skip
        standardized.fold()
        # the network itself is not built: that would import torchvision
        weights = {f"features.net.{key}": value for key, value in load_file(embedded / "backbone.safetensors").items()}
        weights |= {f"head.{key}": value for key, value in head.state_dict().items()}
        parameters = backbone.parameters + sum(parameter.numel() for parameter in head.parameters())
        checkpoint = Checkpoint(
            f"transfer/{name}", backbone.architecture, backbone.preprocessing, backbone.classes, hyper.model_dump(),
            result.best, result.temperature,
        )  # fmt: skip
        write_model(out, checkpoint, weights, parameters, result, record)
        stopwatch.write(cost)
        print(f"transfer/{name}: val accuracy {result.best['val_accuracy']:.4f} in epoch {result.best['epoch']}")
