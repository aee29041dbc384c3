"""Train a new linear head on the embeddings of a frozen backbone."""

from __future__ import annotations

import json
from pathlib import Path

from darkroom.core.errors import WorkspaceError
from darkroom.stages.context import Stopwatch, session, write_model


def run(name: str, embedded: Path, out: Path, cost: Path) -> None:
    with session("transfer", ["ingest", "augment", "weights", "transfer", "compute"], [embedded]) as (settings, record):
        import numpy as np
        from safetensors.torch import load_file

        from darkroom.data import arrays
        from darkroom.models.base import Preprocessing, new_head
        from darkroom.models.checkpoint import Checkpoint
        from darkroom.training.batches import Examples
        from darkroom.training.embedding import Standardized
        from darkroom.training.loop import fit

        watch = Stopwatch()
        hyper = settings.transfer
        try:
            story = json.loads((embedded / "backbone.json").read_text())
        except FileNotFoundError as error:
            raise WorkspaceError(f"{embedded} is not there", f"run `dvc repro embed@{name}`") from error
        preprocessing = Preprocessing.from_dict(story["preprocessing"])
        classes = tuple(story["classes"])
        embeddings = np.asarray(arrays.load(embedded / "train.npy"))
        train = Examples(embeddings, arrays.load(embedded / "train_labels.npy"))
        val = Examples(np.asarray(arrays.load(embedded / "val.npy"))[None], arrays.load(embedded / "val_labels.npy"))
        head = new_head(embeddings.shape[-1], len(classes), settings.compute.seed)
        standardized = Standardized(head, embeddings)
        trained = fit(
            standardized, train, val, hyper, settings.compute, len(classes),
            what=f"training a head on {name}", on_epoch=record.epoch,
        )  # fmt: skip
        standardized.fold()
        # the network itself is not built: that would import torchvision
        weights = {f"features.net.{key}": value for key, value in load_file(embedded / "backbone.safetensors").items()}
        weights |= {f"head.{key}": value for key, value in head.state_dict().items()}
        parameters = story["parameters"] + sum(parameter.numel() for parameter in head.parameters())
        model = f"transfer/{name}"
        checkpoint = Checkpoint(
            model, story["architecture"], preprocessing, classes, hyper.model_dump(), trained.best, trained.temperature
        )
        write_model(out, checkpoint, weights, parameters, trained, record)
        watch.write(cost)
        print(f"{model}: val accuracy {trained.best['val_accuracy']:.4f} in epoch {trained.best['epoch']}")
