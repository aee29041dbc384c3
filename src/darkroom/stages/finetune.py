"""Train the last blocks of a transferred network on, at a lower rate; what lies below them is computed once per view."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.stages.context import Stopwatch, session
from darkroom.stages.trained_model import write_model

if TYPE_CHECKING:
    import numpy as np

    from darkroom.config.params import Compute
    from darkroom.models.base import Backbone
    from darkroom.training.batches import Views
    from darkroom.training.freezing import Maps


def run(name: str, augmented: Path, val: Path, transfer: Path, out: Path, cost: Path) -> None:
    with session("finetune", ["ingest", "augment", "weights", "transfer", "finetune", "compute"], [augmented, val, transfer]) as (
        settings,
        record,
    ):
        from dataclasses import replace

        from torch import nn

        from darkroom.augmentation import storage
        from darkroom.data import arrays
        from darkroom.models import checkpoint as checkpoints
        from darkroom.training import embedding, freezing
        from darkroom.training.batches import Examples
        from darkroom.training.loop import fit

        watch = Stopwatch()
        hyper, compute = settings.finetune, settings.compute
        network, start = checkpoints.load(transfer)
        backbone: Backbone = network.features  # type: ignore[assignment]
        views, labels = storage.load(augmented, settings.compute.threads)
        val_images, val_labels = arrays.load_split(val)
        cut, groups = freezing.unfreeze(network, hyper.unfreeze, hyper.lr_decay)
        maps = freezing.Maps(backbone, network.normalize, cut, storage.identity(views, val_images))
        refused = maps.refused(views.shape[0] * views.shape[1] + len(val_images))
        if refused:
            print(f"finetune/{name}: the whole network runs in every epoch: {refused}")
            model: nn.Module = network
            train, held = Examples(views, labels), Examples(val_images[None], val_labels)
        else:
            model = embedding.Above(backbone, network.head, cut)
            kept = maps.recall() or _passed(maps, views, val_images, compute)
            train, held = Examples(kept[0], labels), Examples(kept[1], val_labels)
        trained = fit(
            model, train, held, hyper, compute, len(start.classes),
            description=f"fine-tuning {name} from block {cut + 1} of {backbone.block_count}", groups=groups, freeze_statistics=True,
            on_epoch=record.log_epoch,
        )  # fmt: skip
        checkpoint = replace(
            start, name=f"finetune/{name}", params=hyper.model_dump(), best=trained.best, temperature=trained.temperature
        )
        write_model(out, checkpoint, network.state_dict(), network.parameter_count(), trained, record)
        watch.write(cost)
        print(f"finetune/{name}: val accuracy {trained.best['val_accuracy']:.4f} in epoch {trained.best['epoch']}")


def _passed(maps: Maps, views: Views, val: np.ndarray, compute: Compute) -> tuple[np.ndarray, np.ndarray]:
    """Return the feature maps of the views and of val, by running the blocks below the cut, and keep them."""
    from darkroom.training import embedding

    name, count = maps.backbone.spec.name, maps.backbone.block_count
    maps.check_room(views.shape[0] * views.shape[1] + len(val))
    with maps.remember() as (train, held):
        engine = embedding.engine_for(embedding.Below(maps.normalize, maps.backbone, maps.cut), views, compute)
        embedding.outputs(engine, views, f"{name} up to block {maps.cut} of {count}", [train])
        embedding.outputs(engine, val[None], "the same of val", [held])
    kept = maps.recall()
    assert kept is not None
    return kept
