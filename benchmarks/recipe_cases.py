"""A split of a folder for `recipe_trials.py`, and what recipe `photos` trains on it: a head, and the last blocks of the network.

Images and views pass the frozen network once for all splits, as in the stage `embed`.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import unpack
from measuring import ROOT
from torch import nn

from darkroom.augmentation.views import ViewGenerator
from darkroom.config import params, recipes
from darkroom.config.params import Params
from darkroom.core import atomic
from darkroom.data.file_sample import draw_files
from darkroom.data.ingest import ingest
from darkroom.inference import tta
from darkroom.models import pretrained
from darkroom.models.base import Backbone, Network, Normalize, Preprocessing
from darkroom.models.probabilities import softmax
from darkroom.stages import transfer
from darkroom.training import embedding, freezing
from darkroom.training.batches import Examples, SomeViews, Views
from darkroom.training.embedding import UpperPart
from darkroom.training.loop import FitResult, fit

NETWORK = "mobilenet_v2"
PLAIN, MIRROR, CROPS, ALL = [0], [0, 1], [0, 2, 4, 6, 8, 10], list(range(12))  # of `tta.views` with crops and mirror
BATCH = 256
EMBEDDING: list[float] = []  # seconds of processor time so far for embeddings and maps

Predict = Callable[[np.ndarray], np.ndarray]  # inputs (M, …) to probabilities (M, C)


@dataclass(frozen=True)
class Folder:
    """The images (N, S, S, 3) uint8 of a folder, labels and groups (N,), and the rows of train, val and test by seed.

    What the frozen network makes of its views is kept under `place`.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    groups: list[str]
    classes: int
    splits: dict[int, dict[str, np.ndarray]]
    settings: Params
    weights: Path
    place: Path

    @cached_property
    def backbone(self) -> Backbone:
        return pretrained.load(NETWORK, self.images.shape[1], "pooled", "folder", self.weights)[0]

    @cached_property
    def normalize(self) -> Normalize:
        origin = pretrained.load(NETWORK, self.images.shape[1], "pooled", "folder", self.weights)[1]
        return Normalize(origin.mean, origin.std)

    @cached_property
    def cut(self) -> int:
        """The first block that is trained."""
        return freezing.first_trained(self.backbone, self.settings.finetune.unfreeze)

    def views(self, name: str, images: np.ndarray | None = None, count: int | None = None) -> np.ndarray:
        """Return views (K, N, S, S, 3) of images by a policy, as `augment` makes them."""
        images = self.images if images is None else images
        generator = ViewGenerator(name, images.shape[1], self.settings.augment.seed)
        numbers = range(count or self.settings.augment.views)
        return np.stack([np.stack(generator.views(image, numbers)) for image in images], 1)

    def outputs(self, key: str, make_views: Callable[[], np.ndarray], cut: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the embeddings (K, N, D) of views and their feature maps before a block, computed once as `embed` does."""
        place, began = self.place / key, time.process_time()
        if not place.exists():
            backbone = copy.deepcopy(self.backbone).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            network = embedding.FeaturesAndMaps(self.normalize, backbone, self.cut if cut is None else cut)
            views = make_views()
            engine = embedding.engine_for(network, views, self.settings.compute)
            with atomic.new_folder(place) as working:
                embedding.run_network(engine, views, f"{self.name}: {key}", [working / "embeddings.npy", working / "maps.npy"])
        EMBEDDING.append(time.process_time() - began)
        embeddings, maps = (np.load(place / f"{part}.npy", mmap_mode="r") for part in ("embeddings", "maps"))
        return embeddings, maps

    def of_policy(self, name: str = "standard") -> tuple[np.ndarray, np.ndarray]:
        return self.outputs(name, partial(self.views, name))

    @cached_property
    def unchanged(self) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings and maps of the images as they are, and of the views that `predict` averages."""
        return self.outputs("test-time views", lambda: np.stack(list(tta.views(self.images, crops=True, mirror=True))))


@dataclass(frozen=True)
class Case:
    """One split of a folder, and what the recipe trains on it."""

    folder: Folder
    seed: int
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def settings(self) -> Params:
        own = self.folder.settings
        return own.model_copy(update={"compute": own.compute.model_copy(update={"seed": self.seed})})

    def labels(self, rows: np.ndarray) -> np.ndarray:
        return self.folder.labels[rows]

    def average(self, predict: Predict, views: Sequence[int], rows: np.ndarray, part: int = 0) -> np.ndarray:
        """Return the mean of the probabilities over views of images; `part` is 0 for embeddings, 1 for maps."""
        outputs = self.folder.unchanged[part]
        return np.mean([predict(outputs[view][rows]) for view in views], 0)

    @cached_property
    def views(self) -> np.ndarray:
        """Embeddings (K, n, D) of the views of the training images."""
        return np.ascontiguousarray(self.folder.of_policy()[0][:, self.train])

    @cached_property
    def head(self) -> tuple[nn.Linear, FitResult]:
        return train_head(self)

    @cached_property
    def tuned_network(self) -> tuple[Network, Predict]:
        network = network_of(self)
        return network, tune(self, network=network)

    @property
    def tuned(self) -> Predict:
        return self.tuned_network[1]


def val_embeddings(case: Case, views: Sequence[int] = PLAIN) -> Examples:
    """Return validation images; with several views each counts as an image of its own."""
    inputs = np.concatenate([case.folder.unchanged[0][view][case.val] for view in views])
    return Examples(inputs[None], np.tile(case.labels(case.val), len(views)))


def train_head(
    case: Case, views: np.ndarray | None = None, val: Examples | None = None, seed: int | None = None, **changes: Any
) -> tuple[nn.Linear, FitResult]:
    """Train a head as `transfer` does, with some of its settings changed."""
    settings = case.settings
    update: dict[str, Any] = {"transfer": settings.transfer.model_copy(update=changes)}
    if seed is not None:
        update["compute"] = settings.compute.model_copy(update={"seed": seed})
    train = Examples(case.views if views is None else views, case.labels(case.train))
    return transfer.train_head(train, val or val_embeddings(case), case.folder.classes, settings.model_copy(update=update), "head")


def predictor(model: nn.Module, degree: float) -> Predict:
    """Return what a model with a temperature predicts."""

    def predict(inputs: np.ndarray) -> np.ndarray:
        batches = [torch.from_numpy(np.array(inputs[start : start + BATCH])) for start in range(0, len(inputs), BATCH)]
        with torch.inference_mode():
            return softmax(np.concatenate([model(batch).float().numpy() for batch in batches]), degree)

    return predict


def network_of(case: Case) -> Network:
    """Return the transferred network of a split, in memory of its own."""
    folder = case.folder
    mean, std = (tuple((buffer / 255).flatten().tolist()) for buffer in (folder.normalize.mean, folder.normalize.std))
    ingested = folder.settings.ingest
    preprocessing = Preprocessing(ingested.image_size, ingested.resize, ingested.background, mean, std)  # type: ignore[arg-type]
    network = Network(copy.deepcopy(folder.backbone), preprocessing, folder.classes)
    network.head.load_state_dict(case.head[0].state_dict())
    return network


def tune(
    case: Case,
    train: Views | None = None,
    val: np.ndarray | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    network: Network | None = None,
    **changes: Any,
) -> Predict:
    """Train the last blocks as `finetune` does, on maps (K, n, …) of the training images and (m, …) of the validation images, by
    default those of the recipe; return what takes such maps. Without blocks below the trained ones, both are images.
    """
    hyper = case.settings.finetune.model_copy(update=changes)
    network = network or network_of(case)
    train = SomeViews(case.folder.of_policy()[1], case.train) if train is None else train
    val = case.folder.unchanged[1][0][case.val] if val is None else val
    cut, groups = freezing.unfreeze(network, hyper.unfreeze, hyper.lr_decay)
    assert isinstance(network.features, Backbone)
    model = wrap(UpperPart(network.features, network.head, cut) if cut else network)
    result = fit(
        model, Examples(train, case.labels(case.train)), Examples(np.asarray(val)[None], case.labels(case.val)), hyper,
        case.settings.compute, case.folder.classes, groups=groups, freeze_statistics=True,
    )  # fmt: skip
    return predictor(model, result.temperature)


def recipe_settings(source: Path, threads: int) -> Params:
    """Return the settings of recipe `photos` for a folder."""
    content = params.read_yaml(ROOT / "params.yaml")
    for key, value in recipes.requested_values("photos", str(source), None, [f"compute.threads={threads}"]).items():
        section, _, name = key.partition(".")
        content = {**content, section: {**content[section], name: value} if name else value}
    return params.parse(content)


def read_images(
    source: Path, settings: Params, seeds: Sequence[int], size: int, most: int, place: Path
) -> tuple[np.ndarray, np.ndarray, list[str], dict[int, dict[str, np.ndarray]]]:
    """Return images, labels and groups of a folder as `ingest` reads it, and the rows of its splits by seed."""
    splits: dict[int, dict[str, np.ndarray]] = {}
    for seed in seeds or [0]:
        own = settings.ingest.model_copy(update={"image_size": size, "seed": seed})
        with ingest(
            source, own, cache_folder=place / f"decoded {size}", choose=lambda files: draw_files(files, most, 0)
        ) as dataset:
            rows = [row for row in dataset.rows if row.status == "accepted"]
            of_split = np.array([row.split for row in rows])
            splits[seed] = {name: np.flatnonzero(of_split == name) for name in params.SPLITS}
            if len(splits) == 1:
                images = np.stack([dataset.cache.pixels(row.slot) for row in rows])
                labels = np.array([dataset.classes.index(row.label) for row in rows], np.int64)
                groups = [row.group for row in rows]
    return images, labels, groups, splits


def read(source: Path, options: argparse.Namespace) -> Folder:
    place = options.results / source.absolute().stem
    folder = unpack(source, place / "source", options.images) if source.suffix == ".npz" else source.absolute()
    settings = recipe_settings(folder, options.threads)
    size = settings.ingest.image_size
    images, labels, groups, splits = read_images(folder, settings, options.seeds, size, options.images, place)
    return Folder(
        source.absolute().stem, images, labels, groups, int(labels.max()) + 1, splits, settings, options.weights, place
    )  # fmt: skip
