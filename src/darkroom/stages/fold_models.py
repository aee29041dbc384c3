"""Models of each fold: trained like those of the pipeline, but on the other folds, to predict the images held out.

Embeddings and the feature maps below the fine-tuned blocks are computed once for all folds.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from darkroom.augmentation import storage
from darkroom.augmentation import views as view_generators
from darkroom.config.params import Params
from darkroom.core import array_files, kept_results
from darkroom.core.errors import ParamsError
from darkroom.core.kept_results import Arrays, KeptResults
from darkroom.core.progress import Progress
from darkroom.data import arrays, manifest, splits
from darkroom.evaluation import folds
from darkroom.evaluation.cross_validation import OutOfFold
from darkroom.inference.classifier import Classifier
from darkroom.models import checkpoint as checkpoints
from darkroom.models.base import Backbone, Network
from darkroom.models.probabilities import softmax
from darkroom.stages import augment, baseline, finetune, transfer
from darkroom.training import embedding, freezing
from darkroom.training.batches import Examples, SomeViews, Views
from darkroom.training.freezing import FeatureMapCache
from darkroom.training.loop import FitResult, OnEpoch
from darkroom.training.resume import Resume

FOLDED = ("train", "val")  # whose images are divided into folds; test images have no part in it
BATCH = 256
ROOMS = ("augmentation", "data", "evaluation", "inference", "models", "stages", "training")  # whose code decides the predictions


@dataclass(frozen=True)
class Fold:
    """Indices of the images of a fold, and of those that its models are trained and validated on."""

    number: int
    train: np.ndarray
    val: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class Pool:
    """The training and validation images (N, S, S, 3) uint8, their views (K, N, …), labels (N,), and folds."""

    images: np.ndarray
    views: np.ndarray | storage.OnlineViews
    labels: np.ndarray
    folds: list[Fold]

    def examples(self, views: Views, originals: np.ndarray, fold: Fold) -> tuple[Examples, Examples]:
        """Return the training views and validation images of a fold, or what a network made of them."""
        train, val = self.labels[fold.train], self.labels[fold.val]
        return Examples(SomeViews(views, fold.train), train), Examples(SomeViews(originals[None], fold.val), val)


def predict(settings: Params, ingested: Path, models: Path, scratch: Path) -> OutOfFold:
    """Return the out-of-fold probabilities of every model, calibrated by its temperature in each fold."""
    rows = manifest.read_images(ingested / "manifest.parquet")
    images, labels = (np.concatenate(parts) for parts in zip(*(arrays.load_split(ingested / name) for name in FOLDED), strict=True))
    pooled = [row for name in FOLDED for row in rows[name]]
    share = len(rows["val"]) / len(pooled)
    dealt = deal(labels, [row.group for row in pooled], settings.cross_validation, share, settings.compute.seed)
    pool = Pool(images, make_views(settings, images, scratch), labels, dealt)
    classes = arrays.load_classes(ingested / "classes.json")
    names = settings.model_names()
    probabilities = {name: np.zeros((len(labels), len(classes))) for name in names}
    kept = KeptResults("cross_validate", _identity(settings, pool, models))
    with Progress("cross-validation", len(names) * len(dealt), "models") as progress:

        def keep(name: str, fold: Fold, predicted: np.ndarray) -> None:
            probabilities[name][fold.held_out] = predicted
            accuracy = float((predicted.argmax(1) == labels[fold.held_out]).mean())
            progress.advance(note=f"fold {fold.number + 1} of {len(dealt)}, {name}: {accuracy:.4f}")

        for fold in dealt:
            (predicted,) = kept.get(f"baseline {fold.number}", partial(_baseline, pool, fold, classes, settings))
            keep("baseline", fold, predicted)
        for backbone in settings.backbones:
            for name, fold, predicted in _transferred(backbone, models, pool, settings, scratch, kept):
                keep(name, fold, predicted)
    fold_of = np.zeros(len(labels), int)
    for fold in dealt:
        fold_of[fold.held_out] = fold.number
    return OutOfFold(pooled, labels, fold_of, probabilities, classes)


def _identity(settings: Params, pool: Pool, models: Path) -> str:
    """Return a digest of everything that decides the probabilities."""
    files = [models / "transfer" / name / file for name in settings.backbones for file in ("model.json", "model.safetensors")]
    arrays = [pool.images, pool.labels, *(part for fold in pool.folds for part in (fold.train, fold.val, fold.held_out))]
    content = settings.model_dump(include={"augment", "baseline", "compute", "embed", "finetune", "ingest", "transfer"})
    return kept_results.identity(content, kept_results.digest(*arrays), files=files, rooms=ROOMS)


def deal(labels: np.ndarray, groups: Sequence[str], count: int, val_share: float, seed: int) -> list[Fold]:
    """Divide images into folds by their groups; of the other folds, a share is for validation.

    The source's own folds are taken as they are, whatever `count` is.
    """
    fold_of = folds.of_source(groups)
    if fold_of is None:
        if len(set(groups)) < count:
            raise ParamsError(
                f"cross_validation: {len(set(groups))} groups of images do not make {count} folds",
                "set fewer folds, or 0: off; or `ingest.near_duplicates: exact` where pictures that differ are one group",
            )
        fold_of = folds.deal(labels, groups, count, seed)
    return [_make_fold(int(number), fold_of, labels, groups, val_share, seed) for number in np.unique(fold_of)]


def _make_fold(number: int, fold_of: np.ndarray, labels: np.ndarray, groups: Sequence[str], share: float, seed: int) -> Fold:
    """Return a fold; a share of the images of the other folds is for validation."""
    counts: dict[str, Counter[str]] = {}
    for i in np.flatnonzero(fold_of != number).tolist():
        counts.setdefault(groups[i], Counter())[str(labels[i])] += 1
    drawn = splits.stratified([splits.SplitGroup(key, own) for key, own in counts.items()], 0.0, share, seed)
    parts = np.array([drawn.get(group, "held out") for group in groups])
    if not (parts == "val").any():
        raise ParamsError(
            f"cross_validation: without fold {number + 1} no class has three groups of images, so that none are for validation",
            "set `cross_validation: 0`, or add images",
        )
    return Fold(number, *(np.flatnonzero(parts == name) for name in ("train", "val", "held out")))


def make_views(settings: Params, images: np.ndarray, scratch: Path) -> np.ndarray | storage.OnlineViews:
    """Return the views of all images as `augment` makes them."""
    params, threads = settings.augment, settings.compute.threads
    generator = view_generators.ViewGenerator(params.policy, images.shape[1], params.seed)
    array_files.save(scratch / "images.npy", images)
    if params.storage == "online":
        return storage.OnlineViews(generator, augment.view_count(params), scratch / "images.npy", threads)
    storage.write_views(scratch / "images.npy", generator, augment.view_count(params), scratch / "views.npy", threads)
    stored: np.ndarray = np.load(scratch / "views.npy", mmap_mode="c")
    return stored


def _baseline(pool: Pool, fold: Fold, classes: tuple[str, ...], settings: Params) -> Arrays:
    train, val = pool.examples(pool.views, pool.images, fold)
    description = f"fold {fold.number + 1}: training the baseline"
    resume = Resume("cross_validate/training", f"{storage.views_digest(pool.views, pool.images)} {fold.number}")
    network, checkpoint, _ = baseline.train_baseline(train, val, classes, settings, description, resume=resume)
    return (Classifier(network, checkpoint).probabilities(pool.images[fold.held_out], BATCH),)


def _transferred(
    name: str, models: Path, pool: Pool, settings: Params, scratch: Path, kept: KeptResults
) -> Iterator[tuple[str, Fold, np.ndarray]]:
    """Yield the probabilities of new heads, and of the networks fine-tuned from them, for each fold."""
    train: Callable[[Fold], Arrays] | None = None
    for fold in pool.folds:
        key = f"{name} {fold.number}"
        arrays = kept.load(key)
        if arrays is None:
            # what is computed once for all folds is computed when the first one needs it
            train = train or _trainer(name, checkpoints.load(models / "transfer" / name)[0], pool, settings, scratch)
            arrays = kept.get(key, partial(train, fold))
        head, tuned = arrays
        yield f"transfer/{name}", fold, head
        yield f"finetune/{name}", fold, tuned


def _trainer(name: str, network: Network, pool: Pool, settings: Params, scratch: Path) -> Callable[[Fold], Arrays]:
    """Return a function that trains a head for a fold, fine-tunes the network from it, and returns the probabilities of both."""
    frozen = freeze(name, network, pool, settings, scratch)

    def train(fold: Fold) -> Arrays:
        head, result = frozen.train_head(fold, settings, f"fold {fold.number + 1}: training a head on {name}")
        of_head = _predict(head, frozen.own_embeddings[0], fold, result)
        resume = Resume("cross_validate/training", f"{frozen.digest} {name} {fold.number}")
        return of_head, frozen.fine_tune(head, fold, settings, f"fold {fold.number + 1}: fine-tuning {name}", resume=resume)

    return train


@dataclass(frozen=True)
class FrozenNetwork:
    """A network, and what its frozen part makes of the images of a pool, once for all folds and trainings.

    `embeddings` (K, N, D) are those of the views, `own_embeddings` (1, N, D) of the images themselves. `inputs` and `own_inputs`
    are their feature maps before the blocks that are trained, or where `on_maps` is false the views and images.
    """

    network: Network
    pool: Pool
    embeddings: np.ndarray
    own_embeddings: np.ndarray
    inputs: Views
    own_inputs: np.ndarray
    on_maps: bool

    @cached_property
    def digest(self) -> str:
        """The digest of the embeddings, by which a training that was stopped knows its data."""
        return kept_results.digest(self.embeddings, self.own_embeddings)

    def train_head(self, fold: Fold, settings: Params, description: str) -> tuple[torch.nn.Linear, FitResult]:
        """Return a head that is trained for a fold, as by `transfer`."""
        # heads standardise what they are trained on, so that they take arrays
        heads = Examples(np.ascontiguousarray(self.embeddings[:, fold.train]), self.pool.labels[fold.train])
        val = Examples(self.own_embeddings[:, fold.val], self.pool.labels[fold.val])
        return transfer.train_head(heads, val, self.network.head.out_features, settings, description)

    def fine_tune(
        self, head: torch.nn.Linear, fold: Fold, settings: Params, description: str, on_epoch: OnEpoch | None = None,
        resume: Resume | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Return the calibrated probabilities of the images that a fold holds out, of a copy of the network with this head that is
        fine-tuned as by `finetune`.
        """
        tuned = copy.deepcopy(self.network)
        tuned.head.load_state_dict(head.state_dict())
        parts = self.pool.examples(self.inputs, self.own_inputs, fold)
        result, model = finetune.train_blocks(tuned, self.on_maps, *parts, settings, description, on_epoch, resume)
        return _predict(model, self.own_inputs, fold, result)


def freeze(name: str, network: Network, pool: Pool, settings: Params, scratch: Path) -> FrozenNetwork:
    """Run the frozen part of a network once over the views and images of a pool; maps are files of the scratch folder."""
    backbone, compute = network.features, settings.compute
    assert isinstance(backbone, Backbone)
    cut = freezing.first_trained(backbone, settings.finetune.unfreeze)
    count = pool.views.shape[0] * pool.views.shape[1] + len(pool.images)
    cache = FeatureMapCache(backbone, network.normalize, cut, "", "", settings.embed)
    on_maps = not cache.refusal(count)
    frozen: torch.nn.Module = torch.nn.Sequential(network.normalize, backbone)
    if on_maps:
        frozen = embedding.FeaturesAndMaps(network.normalize, backbone, cut)
    engine = embedding.engine_for(frozen, pool.views, compute)
    computed = []
    for views, part in ((pool.views, "views"), (pool.images[None], "images")):
        files = (None, scratch / f"{name}-{part}.npy")[: 1 + on_maps]
        computed.append(embedding.run_network(engine, views, f"embedding with {name}", files, dtypes=(np.float32, cache.dtype)))
    (embeddings, *maps), (own_embeddings, *own_maps) = computed
    inputs, own_inputs = (maps[0], own_maps[0][0]) if on_maps else (pool.views, pool.images)
    return FrozenNetwork(network, pool, embeddings, own_embeddings, inputs, own_inputs, on_maps)


def _predict(model: torch.nn.Module, inputs: np.ndarray, fold: Fold, result: FitResult) -> np.ndarray:
    """Return the calibrated probabilities of the images that a fold holds out."""
    chosen = [fold.held_out[i : i + BATCH] for i in range(0, len(fold.held_out), BATCH)]
    with torch.inference_mode():
        logits = [model(torch.from_numpy(np.ascontiguousarray(inputs[part]))).float().numpy() for part in chosen]
    return softmax(np.concatenate(logits), result.temperature)
