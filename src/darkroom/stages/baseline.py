"""Train a network from scratch, `compact` or any other by name: what every transferred network has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.stages.context import Stopwatch, session, write_model

if TYPE_CHECKING:
    from darkroom.training.batches import View


def run(augmented: Path, val: Path, classes: Path, out: Path, cost: Path) -> None:
    with session("baseline", ["ingest", "augment", "baseline", "compute"], [augmented, val]) as (settings, record):
        from darkroom.augmentation import storage
        from darkroom.data import arrays
        from darkroom.models import factory
        from darkroom.models.base import Network, Preprocessing, build_features
        from darkroom.models.checkpoint import Checkpoint
        from darkroom.training.batches import Examples
        from darkroom.training.loop import fit

        watch = Stopwatch()
        ingest, hyper = settings.ingest, settings.baseline
        names = arrays.load_classes(classes)
        train = Examples(*storage.load(augmented, settings.compute.threads))
        val_images, val_labels = arrays.load_split(val)
        mean, std = _statistics(train.inputs[0])
        preprocessing = Preprocessing(ingest.image_size, ingest.resize, ingest.background, mean, std)
        options = {"width": hyper.width} if hyper.architecture == factory.COMPACT else {}
        architecture = factory.description(hyper.architecture, ingest.image_size, hyper.channels, options)
        network = Network(build_features(architecture, settings.compute.seed), preprocessing, len(names), settings.compute.seed)
        trained = fit(
            network, train, Examples(val_images[None], val_labels), hyper, settings.compute, len(names),
            what="training the baseline", on_epoch=record.epoch,
        )  # fmt: skip
        checkpoint = Checkpoint(
            "baseline", architecture, preprocessing, names, hyper.model_dump(), trained.best, trained.temperature
        )
        write_model(out, checkpoint, network.state_dict(), network.parameter_count(), trained, record)
        watch.write(cost)
        print(f"baseline: {hyper.architecture}, val accuracy {trained.best['val_accuracy']:.4f} in epoch {trained.best['epoch']}")


def _statistics(images: View) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation per channel of (N, H, W, 3) uint8, on the scale 0 to 1, from 1,000 images at most."""
    import numpy as np

    sample = images[np.arange(0, len(images), max(1, len(images) // 1000))].reshape(-1, 3) / 255.0
    mean, std = sample.mean(0), sample.std(0).clip(0.01)
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())
