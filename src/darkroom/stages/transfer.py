"""Train a new linear head on the embeddings of a frozen backbone."""

from __future__ import annotations

import json
from pathlib import Path

from darkroom.errors import WorkspaceError
from darkroom.stages.session import Stopwatch, session, write_model


def run(name: str, embedded: Path, out: Path, cost: Path) -> None:
    with session("transfer", ["transfer", "compute"], [embedded]) as (settings, record):
        import numpy as np
        from safetensors.torch import load_file

        from darkroom.data import arrays
        from darkroom.models.checkpoint import Checkpoint
        from darkroom.models.network import Network, Preprocessing, build_features
        from darkroom.training.embedding import Standardized
        from darkroom.training.loop import Examples, fit

        watch = Stopwatch()
        hyper = settings.transfer
        try:
            story = json.loads((embedded / "backbone.json").read_text())
        except FileNotFoundError as error:
            raise WorkspaceError(f"{embedded} is not there", f"run `dvc repro embed@{name}`") from error
        preprocessing = Preprocessing.from_dict(story["preprocessing"])
        classes = tuple(story["classes"])
        features = build_features(story["architecture"])
        features.get_submodule("net").load_state_dict(load_file(embedded / "backbone.safetensors"))
        network = Network(features, preprocessing, len(classes), settings.compute.seed)
        train = Examples(np.asarray(arrays.load(embedded / "train.npy")), arrays.load(embedded / "train_labels.npy"))
        val = Examples(np.asarray(arrays.load(embedded / "val.npy"))[None], arrays.load(embedded / "val_labels.npy"))
        head = Standardized(network.head, train.inputs)
        trained = fit(
            head, train, val, hyper, settings.compute, len(classes),
            what=f"training a head on {name}", on_epoch=record.epoch,
        )  # fmt: skip
        head.fold()
        model = f"transfer/{name}"
        checkpoint = Checkpoint(model, story["architecture"], preprocessing, classes, hyper.model_dump(), trained.best)
        write_model(out, checkpoint, network, trained, record)
        watch.write(cost)
        print(f"{model}: val accuracy {trained.best['val_accuracy']:.4f} in epoch {trained.best['epoch']}")
