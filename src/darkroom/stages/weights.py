"""Provide a backbone's weights, and record where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.config.params import Params, Training
from darkroom.core import atomic
from darkroom.core.errors import WeightsError
from darkroom.data import glyphs, source_state
from darkroom.data.datasets import DATASETS, DatasetOptions, named_or_path
from darkroom.data.decode_cache import DECODED
from darkroom.data.file_sample import draw_files
from darkroom.data.ingest import ingest
from darkroom.data.sources import SourceFile, named_by
from darkroom.models import factory, pretrained, tensor_files, weight_files, weights
from darkroom.models.backbones import hub_folders, registry
from darkroom.models.base import Backbone, Network, Preprocessing
from darkroom.models.checkpoint import Provenance
from darkroom.models.macs import multiply_adds
from darkroom.stages.context import session
from darkroom.tracking.records import Run
from darkroom.training.batches import Examples
from darkroom.training.loop import fit
from darkroom.training.normalization import set_momentum
from darkroom.training.resume import Resume

VAL_SHARE = 0.1  # of the pretraining images, for validation
MIN_IMAGES = 20
Images = tuple[np.ndarray, np.ndarray, tuple[str, ...]]


def run(name: str, out: Path, provenance: Path) -> None:
    with session("weights", ["weights", "compute"], []) as (settings, record):
        source, seed = settings.weights.source, settings.compute.seed
        size, head, folder = settings.ingest.image_size, settings.transfer.head, Path(settings.weights.folder)
        before = {path: source_state.observe(path) for path in _inputs(name, settings) if path.exists()}
        if source == "pretrain":
            backbone = factory.build_backbone(factory.backbone_spec(name, size, head, folder), seed)
            backbone.check()
            details = _pretrain(backbone, settings, record)
            origin = Provenance(backbone.spec, *weights.normalization(name, source), source, details)
        else:
            backbone, origin = pretrained.load(name, size, head, source, folder, seed)
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(out) as working:
            tensor_files.save(working, backbone.weights())
            _check_unchanged(before)
        origin.write(provenance)
        record.set_tags({"darkroom.weights": source})
        print(f"weights: {name} from {source} in {out}")


def _inputs(name: str, settings: Params) -> list[Path]:
    """Return the file, the folder of the Hub or the source of images that decides the weights, where it is a person's."""
    source, folder, images = settings.weights.source, Path(settings.weights.folder), settings.weights.pretrain_on
    if source == "pretrain":
        return [] if images in DATASETS else [Path(images).expanduser()]
    if hub_folders.is_named(name):
        local = hub_folders.local(name, folder)
        return [local] if local else []
    with suppress(WeightsError):  # it is reported when it is read
        return [weight_files.find(folder, name)] if registry.weights_source(name, source) == "folder" else []
    return []


def _check_unchanged(before: Mapping[Path, source_state.State]) -> None:
    """Raise WeightsError, to be retried, where inputs are not what they were when they were read: DVC hashes them afterwards."""
    for path, state in before.items():
        after = source_state.observe(path) if path.exists() else {}
        if words := source_state.changes(state, after):
            raise WeightsError(
                f"{path} changed while the stage weights ran, so that the weights are of what was there before: {words}",
                "`dvc repro` reads it again, when nothing writes there any more",
                retryable=True,
            )


def _pretrain(backbone: Backbone, settings: Params, record: Run) -> dict[str, Any]:
    """Train the backbone on another labelled source, in place; return the figures for its provenance."""
    params, ingested = settings.weights, settings.ingest
    images, labels, classes = _pretraining_images(settings)
    count = max(1, round(len(images) * VAL_SHARE))
    train, val = Examples(images[None, count:], labels[count:]), Examples(images[None, :count], labels[:count])
    set_momentum(backbone)
    normalization = weights.normalization(backbone.spec.name, "pretrain")
    preprocessing = Preprocessing(ingested.image_size, ingested.resize, ingested.background, *normalization)
    network = Network(backbone, preprocessing, len(classes), settings.compute.seed)
    affordable = params.pretrain_budget * 1e12 / (multiply_adds(backbone, ingested.image_size) * len(train))
    epochs = max(1, min(params.pretrain_epochs, int(affordable)))
    hyper = Training(
        epochs=epochs, batch_size=params.pretrain_batch_size, optimizer="adamw", lr=params.pretrain_lr,
        weight_decay=0.01, warmup_epochs=0.5, label_smoothing=0.1, class_weights="none", patience=epochs,
    )  # fmt: skip
    description = f"pretraining {backbone.spec.name} on {len(train):,} images of {params.pretrain_on}"
    result = fit(
        network, train, val, hyper, settings.compute, len(classes), description=description, on_epoch=record.log_epoch,
        resume=Resume(f"weights-{backbone.spec.name}"),
    )  # fmt: skip
    return {
        "pretrain_on": params.pretrain_on, "images": len(train), "classes": len(classes), "epochs": len(result.history),
        "best": result.best,
    }  # fmt: skip


def _pretraining_images(settings: Params) -> Images:
    """Return images (N, S, S, 3) uint8, shuffled, labels (N,) and class names of `weights.pretrain_on`."""
    params, seed = settings.weights, settings.compute.seed
    if params.pretrain_on == "glyphs":
        images, labels, classes = glyphs.render_cached(params.pretrain_images, settings.ingest.image_size, seed)
        order = np.random.default_rng(seed).permutation(len(images))
        return images[order], labels[order], classes
    images, labels, classes = _read_source(settings)
    if len(classes) < 2 or len(images) < MIN_IMAGES:
        raise WeightsError(
            f"`weights.pretrain_on`, {params.pretrain_on}, has {len(images)} readable images of {len(classes)} classes; "
            f"at least {MIN_IMAGES} of 2 are needed",
            "name a folder with more, or glyphs",
        )
    return images, labels, classes


def _read_source(settings: Params) -> Images:
    """Read `pretrain_images` of a folder or a named data set, the same share of each class, shuffled.

    A ready layout keeps its test images out of pretraining.
    """
    params, seed = settings.weights, settings.compute.seed
    unsplit = settings.ingest.model_copy(update={"val_share": 0.0, "test_share": 0.0, "split_by": "hash"})
    options = DatasetOptions(settings.ingest.image_size, params.pretrain_images, seed, settings.fetch.source)
    cache = DECODED.with_name("decoded-for-pretraining")

    def choose(files: list[SourceFile]) -> list[SourceFile]:
        return draw_files([file for file in files if file.split != "test"], params.pretrain_images, seed)

    def shuffle(count: int) -> np.ndarray:
        return np.random.default_rng(seed).permutation(count)[: params.pretrain_images]

    with (
        named_by("weights.pretrain_on"),
        named_or_path(params.pretrain_on, options) as source,
        ingest(source, unsplit, description=f"reading {params.pretrain_on}", cache_folder=cache, choose=choose) as data,
    ):
        images, labels = data.arrays("train", "val", order=shuffle)
        return images, labels, data.classes
