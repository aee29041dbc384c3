"""Run the frozen backbone once over every view and the validation images."""

from __future__ import annotations

import json
from pathlib import Path

from darkroom import atomic
from darkroom.errors import WorkspaceError
from darkroom.stages.session import Stopwatch, session


def run(name: str, augmented: Path, val: Path, classes: Path, weights: Path, provenance: Path, out: Path, cost: Path) -> None:
    with session("embed", ["weights.source", "compute"], [augmented, val, weights]) as (settings, record):
        import numpy as np
        import torch
        from safetensors.torch import load_file
        from torch import nn

        from darkroom.data import arrays
        from darkroom.models.checkpoint import save_tensors
        from darkroom.models.network import Normalize, Preprocessing, build_features
        from darkroom.training import embedding

        watch = Stopwatch()
        try:
            story = json.loads(provenance.read_text())
            tensors = load_file(weights)
        except FileNotFoundError as error:
            raise WorkspaceError(f"{error.filename or weights} is not there", f"run `dvc repro weights@{name}`") from error
        ingest = settings.ingest
        preprocessing = Preprocessing(
            ingest.image_size, ingest.resize, ingest.background, tuple(story["mean"]), tuple(story["std"])
        )
        backbone = build_features(story["architecture"])
        backbone.get_submodule("net").load_state_dict(tensors)
        backbone.to(memory_format=torch.channels_last)
        frozen = nn.Sequential(Normalize(preprocessing.mean, preprocessing.std), backbone)
        views, labels = arrays.load(augmented / "views.npy"), arrays.load(augmented / "labels.npy")
        val_images, val_labels = arrays.load_split(val)
        calibrated = story["source"] == "random" and embedding.calibrate(frozen, views[0], settings.compute)
        with atomic.new_folder(out) as folder:
            made = embedding.embed(frozen, views, settings.compute, f"embedding with {name}")
            np.save(folder / "train.npy", made)
            np.save(folder / "train_labels.npy", labels)
            np.save(folder / "val.npy", embedding.embed(frozen, val_images[None], settings.compute, "embedding val")[0])
            np.save(folder / "val_labels.npy", val_labels)
            save_tensors(folder / "backbone.safetensors", backbone.get_submodule("net").state_dict())
            atomic.write_json(
                folder / "backbone.json",
                {
                    "architecture": story["architecture"],
                    "preprocessing": preprocessing.as_dict(),
                    "classes": arrays.load_classes(classes),
                    "weights": {key: story[key] for key in ("source", "sha256", "pretrain_on") if key in story},
                    "calibrated": calibrated,
                },
            )
        watch.write(cost)
        record.metrics({"embeddings": made.shape[0] * made.shape[1], "dim": made.shape[2]})
        print(f"embed: {made.shape[0]} × {made.shape[1]:,} views and {len(val_images):,} val images, {made.shape[2]} numbers each")
