"""Train a network from scratch, `compact` or any other by name: the reference for the transferred networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from darkroom.augmentation import storage
from darkroom.config.params import Params
from darkroom.data import arrays
from darkroom.models import factory
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.stages.context import Stopwatch, session
from darkroom.stages.trained_model import write_model
from darkroom.training import abstention, normalization, processes
from darkroom.training.batches import Examples, View
from darkroom.training.loop import FitResult, OnEpoch, fit
from darkroom.training.resume import Resume

SAMPLE = 1000  # images from which the mean and standard deviation are computed


def run(augmented: Path, val: Path, classes: Path, out: Path, cost: Path) -> None:
    with session("baseline", ["ingest", "augment", "baseline", "compute"], [augmented, val]) as (settings, record):
        stopwatch = Stopwatch()
        names = arrays.load_classes(classes)
        views, labels = storage.load_views(augmented, settings.compute.threads)
        val_images, val_labels = arrays.load_split(val)
        train, validation = Examples(views, labels), Examples(val_images[None], val_labels)
        network, checkpoint, result = train_baseline(
            train, validation, names, settings, "training the baseline",
            record.log_epoch, Resume("baseline", storage.views_digest(views, val_images)),
        )  # fmt: skip
        processes.go_on_alone()
        checkpoint = replace(checkpoint, abstention=abstention.fit_network(network, train, validation, settings.compute))
        write_model(out, checkpoint, network.state_dict(), network.parameter_count(), result, record)
        stopwatch.write(cost, result.earlier_seconds)
        best = result.best
        print(f"baseline: {settings.baseline.architecture}, val accuracy {best['val_accuracy']:.4f} in epoch {best['epoch']}")


def train_baseline(
    train: Examples,
    val: Examples,
    classes: tuple[str, ...],
    settings: Params,
    description: str,
    on_epoch: OnEpoch | None = None,
    resume: Resume | None = None,
) -> tuple[Network, Checkpoint, FitResult]:
    """Train the network of `settings.baseline` from scratch on images (K, N, H, W, 3) uint8."""
    ingest, hyper, seed = settings.ingest, settings.baseline, settings.compute.seed
    preprocessing = Preprocessing(ingest.image_size, ingest.resize, ingest.background, *_statistics(train.inputs[0]))
    options = {"width": hyper.width} if hyper.architecture == factory.COMPACT else {}
    spec = factory.make_spec(hyper.architecture, ingest.image_size, hyper.channels, options)
    network = Network(factory.build_features(spec, seed), preprocessing, len(classes), seed)
    normalization.set_momentum(network)
    result = fit(
        network, train, val, hyper, settings.compute, len(classes), description=description, on_epoch=on_epoch, resume=resume
    )
    checkpoint = Checkpoint(
        "baseline", spec, preprocessing, classes, hyper.model_dump(), result.best, result.temperature, result.conformal
    )
    return network, checkpoint, result


def _statistics(images: View) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and deviation per channel of `SAMPLE` images (N, H, W, 3) uint8, divided by 255."""
    sample = images[np.arange(0, len(images), max(1, len(images) // SAMPLE))].reshape(-1, 3) / 255.0
    mean, std = sample.mean(0), sample.std(0).clip(0.01)
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())
