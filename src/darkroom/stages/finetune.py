"""Train the last blocks of a transferred network at a lower rate; the blocks below them run once per view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from darkroom.augmentation import storage
from darkroom.config.params import Compute, Params
from darkroom.data import arrays
from darkroom.models import checkpoint as checkpoints
from darkroom.models.base import Backbone, Network
from darkroom.stages.context import Stopwatch, session
from darkroom.stages.trained_model import write_model
from darkroom.training import abstention, embedding, freezing, processes
from darkroom.training.batches import Examples, Views
from darkroom.training.embedding import UpperPart
from darkroom.training.freezing import FeatureMapCache
from darkroom.training.loop import FitResult, OnEpoch, fit
from darkroom.training.resume import Resume

SECTIONS = ["ingest", "augment", "weights", "embed", "transfer", "finetune", "compute"]


def run(name: str, augmented: Path, val: Path, transfer: Path, out: Path, cost: Path) -> None:
    with session("finetune", SECTIONS, [augmented, val, transfer]) as (settings, record):
        stopwatch = Stopwatch()
        hyper, compute = settings.finetune, settings.compute
        network, start = checkpoints.load(transfer)
        backbone = network.features
        assert isinstance(backbone, Backbone)
        views, labels = storage.load_views(augmented, compute.threads)
        val_images, val_labels = arrays.load_split(val)
        cut = freezing.first_trained(backbone, hyper.unfreeze)
        digest = storage.views_digest(views, val_images)
        cache = FeatureMapCache(backbone, network.normalize, cut, digest, embedding.engine_identity(compute), settings.embed)
        images = Examples(views, labels), Examples(val_images[None], val_labels)
        refusal, resume = cache.refusal(views.shape[0] * views.shape[1] + len(val_images)), Resume(f"finetune-{name}", digest)
        if refusal:
            print(f"finetune/{name}: the whole network runs in every epoch: {refusal}")
            train, validation = images
        else:
            maps = cache.load()
            if not processes.all_of(maps is not None):
                maps = _compute_maps(cache, views, val_images, compute)
            assert maps is not None
            train, validation = Examples(maps[0], labels), Examples(maps[1], val_labels)
            resume.data = cache.identity()
        description = f"fine-tuning {name} from block {cut + 1} of {backbone.block_count}"
        network.distance = None  # that of the blocks as they were
        result, _ = train_blocks(network, not refusal, train, validation, settings, description, record.log_epoch, resume)
        processes.go_on_alone()
        distances = abstention.fit_network(network, *images, compute)
        checkpoint = replace(
            start,
            name=f"finetune/{name}",
            params=hyper.model_dump(),
            best=result.best,
            temperature=result.temperature,
            conformal=result.conformal,
            abstention=distances,
        )
        write_model(out, checkpoint, network.state_dict(), network.parameter_count(), result, record)
        stopwatch.write(cost, result.earlier_seconds)
        print(f"finetune/{name}: val accuracy {result.best['val_accuracy']:.4f} in epoch {result.best['epoch']}")


def train_blocks(
    network: Network,
    on_maps: bool,
    train: Examples,
    val: Examples,
    settings: Params,
    description: str,
    on_epoch: OnEpoch | None = None,
    resume: Resume | None = None,
) -> tuple[FitResult, Network | UpperPart]:
    """Train the head and the last blocks of a network in place, on images or on the maps before these blocks.

    Also returns the module that takes such inputs.
    """
    hyper = settings.finetune
    cut, groups = freezing.unfreeze(network, hyper.unfreeze, hyper.lr_decay)
    assert isinstance(network.features, Backbone)
    model = UpperPart(network.features, network.head, cut) if on_maps else network
    classes = network.head.out_features
    result = fit(
        model, train, val, hyper, settings.compute, classes, groups=groups, freeze_statistics=True, description=description,
        on_epoch=on_epoch, resume=resume,
    )  # fmt: skip
    return result, model


def _compute_maps(cache: FeatureMapCache, views: Views, val: np.ndarray, compute: Compute) -> tuple[np.ndarray, np.ndarray]:
    """Run the blocks below the cut; save and return the feature maps of views and validation images.

    Of several processes, rank 0 does it, and the others read what it has saved.
    """
    with processes.first_alone("maps") as is_first:
        if is_first:
            cache.check_room(views.shape[0] * views.shape[1] + len(val))
            description = f"{cache.backbone.spec.name} up to block {cache.cut} of {cache.backbone.block_count}"
            with cache.save() as (train_file, val_file):
                engine = embedding.engine_for(embedding.LowerPart(cache.normalize, cache.backbone, cache.cut), views, compute)
                for images, text, file in ((views, "", train_file), (val[None], ", validation images", val_file)):
                    embedding.run_network(engine, images, description + text, [file], dtypes=[cache.dtype])
    maps = cache.load()
    assert maps is not None
    return maps
