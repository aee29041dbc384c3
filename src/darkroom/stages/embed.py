"""Run the frozen backbone once over every view and the validation images."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from darkroom.augmentation import storage
from darkroom.config import dvc_graph
from darkroom.core import array_files, atomic, kept_results, shortage
from darkroom.core.errors import WorkspaceError
from darkroom.core.kept_results import KeptResults
from darkroom.data import arrays
from darkroom.models import mahalanobis, tensor_files
from darkroom.models.base import Backbone, Levels, Normalize, Preprocessing
from darkroom.models.checkpoint import EmbeddedBackbone, Provenance
from darkroom.models.factory import build_features
from darkroom.stages.context import Stopwatch, session
from darkroom.training import embedding, freezing, processes
from darkroom.training.blocks import Blocks
from darkroom.training.freezing import FeatureMapCache

ROOMS = ("augmentation", "models", "training")  # whose code decides the embeddings


def run(name: str, augmented: Path, val: Path, classes: Path, weights: Path, provenance: Path, out: Path, cost: Path) -> None:
    with session("embed", ["ingest", "augment", "weights", "embed", "compute"], [augmented, val, weights]) as (settings, record):
        stopwatch = Stopwatch()
        processes.check_one_machine("embed: by the first process: processes of several machines cannot write to one file")
        ingest, compute = settings.ingest, settings.compute
        backbone, origin = _load_backbone(name, weights, provenance)
        preprocessing = Preprocessing(ingest.image_size, ingest.resize, ingest.background, origin.mean, origin.std)
        normalize = Normalize(preprocessing.mean, preprocessing.std)
        frozen: nn.Module = nn.Sequential(normalize, backbone)
        views, labels = storage.load_views(augmented, compute.threads)
        val_images, val_labels = arrays.load_split(val)
        calibrated = origin.source == "random" and embedding.calibrate(frozen, views[0], compute)
        # on the way to the embeddings the images pass the place where fine-tuning will cut the network
        cut = freezing.first_trained(backbone, settings.finetune.unfreeze)
        cache = FeatureMapCache(
            backbone, normalize, cut, storage.views_digest(views, val_images), embedding.engine_identity(compute), settings.embed
        )
        is_cached = processes.decided_by_first(cache.is_worth_saving(views.shape[0] * views.shape[1] + len(val_images)))
        identity = kept_results.identity(
            cache.identity(), compute.model_dump(), is_cached, files=[weights, provenance], rooms=ROOMS
        )
        kept = KeptResults(f"embed-{name}", identity).folder
        blocks = {part: Blocks(kept / part) for part in ("train", "val")}
        steps = mahalanobis.steps_of(backbone.step_count())
        levels = nn.Sequential(normalize, Levels(backbone, steps))
        network = embedding.FeaturesAndMaps(normalize, backbone, cut, steps) if is_cached else levels
        engine = embedding.engine_for(network, views, compute)
        description = f"embedding with {name}"
        dtypes = (np.float32, cache.dtype, np.float32) if is_cached else (np.float32, np.float32)
        compute_outputs = partial(embedding.run_network, engine, dtypes=dtypes)
        embeddings = compute_outputs(views, description, blocks=blocks["train"])[0]
        compute_outputs(val_images[None], f"{description}, validation images", blocks=blocks["val"])
        processes.go_on_alone()
        if is_cached:
            with cache.save() as files:
                for part, file in zip(blocks.values(), files, strict=True):
                    _link(part.file(1), file)
        with atomic.new_folder(out) as folder:
            shortage.copy_file(blocks["train"].file(0), folder / "train.npy")
            array_files.save(folder / "train_labels.npy", labels)
            array_files.save(folder / "val.npy", np.load(blocks["val"].file(0))[0])
            if steps:
                for key, rows in blocks.items():  # of the first view
                    array_files.save(folder / f"{key}_means.npy", np.load(rows.file(len(dtypes) - 1), mmap_mode="r")[0])
            array_files.save(folder / "val_labels.npy", val_labels)
            tensor_files.save(folder / "backbone.safetensors", backbone.weights())
            parameters = sum(parameter.numel() for parameter in backbone.parameters())
            EmbeddedBackbone(
                origin.architecture, preprocessing, arrays.load_classes(classes), origin.summary(), calibrated, parameters, steps
            ).write(folder / "backbone.json")
        stopwatch.write(cost)
        count, images, dim = embeddings.shape
        record.log_metrics({"embeddings": count * images, "dim": dim})
        print(f"embed: {count} × {images:,} views and {len(val_images):,} val images, {dim} numbers each")


def _link(file: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot."""
    try:
        os.link(file, target)
    except OSError:
        shortage.copy_file(file, target)


def _load_backbone(name: str, weights: Path, provenance: Path) -> tuple[Backbone, Provenance]:
    try:
        origin = Provenance.read(provenance)
        tensors = tensor_files.load(weights, partial(dvc_graph.how_to_restore, weights))
    except FileNotFoundError as error:
        raise WorkspaceError(f"{error.filename or weights} is missing", f"run `dvc repro weights@{name}`") from error
    backbone = build_features(origin.architecture)
    assert isinstance(backbone, Backbone)
    backbone.net.load_state_dict(tensors)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return backbone, origin
