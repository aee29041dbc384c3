"""Provide a backbone's weights, and write down where they come from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.config.params import DATASETS, Params
from darkroom.core import atomic
from darkroom.core.errors import WeightsError
from darkroom.stages.context import session

if TYPE_CHECKING:
    import numpy as np

    from darkroom.models.backbones.torchvision import TorchvisionBackbone
    from darkroom.tracking.records import Run

HELD_OUT = 0.1  # share of the pretraining images that tell when to stop


def run(name: str, out: Path, provenance: Path) -> None:
    with session("weights", ["weights", "compute"], []) as (settings, record):
        from darkroom.models import weight_files, weights
        from darkroom.models.backbones.torchvision import TorchvisionBackbone
        from darkroom.models.checkpoint import save_tensors
        from darkroom.models.specs import BackboneSpec

        source = settings.weights.source
        spec = BackboneSpec(name, settings.ingest.image_size, settings.transfer.head)
        backbone = TorchvisionBackbone(spec, settings.compute.seed)
        mean, std = weights.normalization(name, source)
        story: dict[str, Any] = {"architecture": spec.as_dict(), "mean": mean, "std": std}
        if source == "random":
            story |= {"source": "random", "seed": settings.compute.seed}
        elif source == "pretrain":
            story |= pretrain(backbone, settings, record)
        else:
            if source == "imagenet":
                file, known = weights.download(name)
                story |= {"source": "imagenet", **known}
            else:
                file = weight_files.find(Path(source).expanduser(), name)
                story |= {"source": "folder"}
            left = weights.fill(backbone, weights.read(file), str(file))
            story |= {"file": file.name, "sha256": weight_files.sha256(file), "left_aside": left}
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_file(out) as working:
            save_tensors(working, backbone.weights())
        atomic.write_json(provenance, story)
        record.set_tags({"darkroom.weights": story["source"]})
        print(f"weights: {name} from {story['source']} in {out}")


def pretrain(backbone: TorchvisionBackbone, settings: Params, record: Run) -> dict[str, Any]:
    """Train the backbone on another labelled source, in place; return what is to be remembered of it."""
    from torch import nn

    from darkroom.config.params import Training
    from darkroom.models import weights
    from darkroom.models.base import Network, Preprocessing
    from darkroom.models.macs import multiply_adds
    from darkroom.training.batches import Examples
    from darkroom.training.loop import fit

    params, ingest = settings.weights, settings.ingest
    images, labels, classes = _pretraining_images(settings)
    held = max(1, round(len(images) * HELD_OUT))
    train = Examples(images[None, held:], labels[held:])
    val = Examples(images[None, :held], labels[:held])
    for module in backbone.modules():  # the usual momentum: MobileNetV3's own takes thousands of steps to settle
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.1
    preprocessing = Preprocessing(
        ingest.image_size, ingest.resize, ingest.background, *weights.normalization(backbone.spec.name, "pretrain")
    )
    network = Network(backbone, preprocessing, len(classes), settings.compute.seed)
    affordable = params.pretrain_budget * 1e12 / (multiply_adds(backbone, ingest.image_size) * len(train))
    epochs = max(1, min(params.pretrain_epochs, int(affordable)))
    hyper = Training(
        epochs=epochs, batch_size=params.pretrain_batch_size, optimizer="adamw", lr=params.pretrain_lr,
        weight_decay=0.01, warmup_epochs=0.5, label_smoothing=0.1, class_weights="none", patience=epochs,
    )  # fmt: skip
    what = f"pretraining {backbone.spec.name} on {len(train):,} images of {params.pretrain_on}"
    trained = fit(
        network, train, val, hyper, settings.compute, len(classes),
        description=what, on_epoch=record.log_epoch,
    )  # fmt: skip
    return {
        "source": "pretrain", "pretrain_on": params.pretrain_on, "images": len(train), "classes": len(classes),
        "epochs": len(trained.history), "best": trained.best,
    }  # fmt: skip


def _pretraining_images(settings: Params) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return images (N, S, S, 3) uint8 in a fixed random order, labels (N,) and class names of `weights.pretrain_on`."""
    import numpy as np

    from darkroom.data import datasets, glyphs
    from darkroom.data.decode_cache import DECODED
    from darkroom.data.ingest import ingest

    params, size = settings.weights, settings.ingest.image_size
    if params.pretrain_on == "glyphs":
        images, labels, classes = glyphs.render_cached(params.pretrain_images, size, settings.compute.seed)
    else:
        whole = settings.ingest.model_copy(update={"val_share": 0.0, "test_share": 0.0, "split_by": "hash"})
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(params.pretrain_on).expanduser()
            if params.pretrain_on in DATASETS:
                source = Path(scratch) / params.pretrain_on
                source.mkdir()
                wanted = datasets.DatasetOptions(size, params.pretrain_images, settings.compute.seed, settings.fetch.source)
                datasets.DATASETS[params.pretrain_on](source, wanted)
            remembered = DECODED.with_name("decoded-for-pretraining")
            with ingest(source, whole, description=f"reading {params.pretrain_on}", cache_folder=remembered) as data:
                # a ready layout keeps its own test images out of pretraining as well
                parts = [data.arrays(name) for name in ("train", "val")]
                classes = data.classes
        images, labels = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        if len(classes) < 2 or len(images) < 20:
            raise WeightsError(
                f"`weights.pretrain_on`, {params.pretrain_on}, has {len(images)} readable images of {len(classes)} classes",
                "name a folder with more, or glyphs",
            )
    order = np.random.default_rng(settings.compute.seed).permutation(len(images))[: params.pretrain_images]
    return images[order], labels[order], classes
