"""Train the last blocks of a transferred network at a lower rate; the blocks below them run once per view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from darkroom.augmentation import storage
from darkroom.config.params import Compute
from darkroom.data import arrays
from darkroom.models import checkpoint as checkpoints
from darkroom.models.base import Backbone
from darkroom.stages.context import Stopwatch, session
from darkroom.stages.trained_model import write_model
from darkroom.training import embedding, freezing
from darkroom.training.batches import Examples, Views
from darkroom.training.freezing import FeatureMapCache
from darkroom.training.loop import fit

SECTIONS = ["ingest", "augment", "weights", "transfer", "finetune", "compute"]


def run(name: str, augmented: Path, val: Path, transfer: Path, out: Path, cost: Path) -> None:
    with session("finetune", SECTIONS, [augmented, val, transfer]) as (settings, record):
        stopwatch = Stopwatch()
        hyper, compute = settings.finetune, settings.compute
        network, start = checkpoints.load(transfer)
        backbone = network.features
        assert isinstance(backbone, Backbone)
        views, labels = storage.load_views(augmented, compute.threads)
        val_images, val_labels = arrays.load_split(val)
        cut, groups = freezing.unfreeze(network, hyper.unfreeze, hyper.lr_decay)
        digest = storage.views_digest(views, val_images)
        cache = FeatureMapCache(backbone, network.normalize, cut, digest, embedding.engine_identity(compute))
        refusal = cache.refusal(views.shape[0] * views.shape[1] + len(val_images))
        model: nn.Module = network
        if refusal:
            print(f"finetune/{name}: the whole network runs in every epoch: {refusal}")
            train, validation = Examples(views, labels), Examples(val_images[None], val_labels)
        else:
            model = embedding.UpperPart(backbone, network.head, cut)
            maps = cache.load() or _compute_maps(cache, views, val_images, compute)
            train, validation = Examples(maps[0], labels), Examples(maps[1], val_labels)
        result = fit(
            model, train, validation, hyper, compute, len(start.classes), groups=groups, freeze_statistics=True,
            description=f"fine-tuning {name} from block {cut + 1} of {backbone.block_count}", on_epoch=record.log_epoch,
        )  # fmt: skip
        checkpoint = replace(
            start, name=f"finetune/{name}", params=hyper.model_dump(), best=result.best, temperature=result.temperature
        )
        write_model(out, checkpoint, network.state_dict(), network.parameter_count(), result, record)
        stopwatch.write(cost)
        print(f"finetune/{name}: val accuracy {result.best['val_accuracy']:.4f} in epoch {result.best['epoch']}")


def _compute_maps(cache: FeatureMapCache, views: Views, val: np.ndarray, compute: Compute) -> tuple[np.ndarray, np.ndarray]:
    """Run the blocks below the cut; save and return the feature maps of views and validation images."""
    cache.check_room(views.shape[0] * views.shape[1] + len(val))
    description = f"{cache.backbone.spec.name} up to block {cache.cut} of {cache.backbone.block_count}"
    with cache.save() as (train_file, val_file):
        engine = embedding.engine_for(embedding.LowerPart(cache.normalize, cache.backbone, cache.cut), views, compute)
        embedding.run_network(engine, views, description, [train_file])
        embedding.run_network(engine, val[None], f"{description}, validation images", [val_file])
    maps = cache.load()
    assert maps is not None
    return maps
