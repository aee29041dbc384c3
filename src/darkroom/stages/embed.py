"""Run the frozen backbone once over every view and the validation images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.core import atomic
from darkroom.core.errors import WorkspaceError
from darkroom.stages.context import Stopwatch, session

if TYPE_CHECKING:
    from darkroom.models.base import Backbone


def run(name: str, augmented: Path, val: Path, classes: Path, weights: Path, provenance: Path, out: Path, cost: Path) -> None:
    with session("embed", ["ingest", "augment", "weights", "compute"], [augmented, val, weights]) as (settings, record):
        from contextlib import nullcontext

        import numpy as np
        import torch
        from safetensors.torch import load_file
        from torch import nn

        from darkroom.augmentation import storage
        from darkroom.data import arrays
        from darkroom.models.base import Normalize, Preprocessing, build_features
        from darkroom.models.checkpoint import save_tensors
        from darkroom.training import embedding, freezing

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
        backbone: Backbone = build_features(story["architecture"])  # type: ignore[assignment]
        backbone.get_submodule("net").load_state_dict(tensors)
        backbone.to(memory_format=torch.channels_last)
        normalize = Normalize(preprocessing.mean, preprocessing.std)
        frozen: nn.Module = nn.Sequential(normalize, backbone)
        views, labels = storage.load(augmented, settings.compute.threads)
        val_images, val_labels = arrays.load_split(val)
        calibrated = story["source"] == "random" and embedding.calibrate(frozen, views[0], settings.compute)
        # on the way to the embeddings the images pass the place where fine-tuning will cut the network
        cut = freezing.first_trained(backbone, settings.finetune.unfreeze)
        maps = freezing.Maps(backbone, normalize, cut, storage.identity(views, val_images))
        keep = maps.wanted(views.shape[0] * views.shape[1] + len(val_images))
        with atomic.new_folder(out) as folder, maps.remember() if keep else nullcontext((None, None)) as files:
            engine = embedding.engine_for(embedding.Whole(normalize, backbone, cut) if keep else frozen, views, settings.compute)
            what, parts = f"embedding with {name}", 2 if keep else 1
            made = embedding.outputs(engine, views, what, (folder / "train.npy", files[0])[:parts])[0]
            np.save(folder / "train_labels.npy", labels)
            val_made = embedding.outputs(engine, val_images[None], "the same of val", (None, files[1])[:parts])[0]
            np.save(folder / "val.npy", val_made[0])
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
                    "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
                },
            )
        watch.write(cost)
        record.log_metrics({"embeddings": made.shape[0] * made.shape[1], "dim": made.shape[2]})
        print(f"embed: {made.shape[0]} × {made.shape[1]:,} views and {len(val_images):,} val images, {made.shape[2]} numbers each")
