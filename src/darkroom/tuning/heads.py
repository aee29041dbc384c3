"""A trial of a search: heads on frozen embeddings, each predicting the fold that it was not trained on.

A head is trained as `transfer` trains it, on the views of the images of the other folds, with a share of them for validation.
What is computed is kept in `.darkroom/tune`, so that a search that was stopped goes on, and a second one repeats nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from darkroom.config import dvc_graph
from darkroom.config.params import Params
from darkroom.core import checksums, kept_results
from darkroom.core.errors import ParamsError, WorkspaceError
from darkroom.core.kept_results import Arrays, Get, KeptResults
from darkroom.lab import backbone_embeddings
from darkroom.models import pretrained, tensor_files
from darkroom.models.base import Backbone, Normalize
from darkroom.models.checkpoint import Provenance
from darkroom.models.factory import build_features
from darkroom.models.probabilities import softmax
from darkroom.stages import fold_models, transfer
from darkroom.stages.fold_models import Fold
from darkroom.training import embedding
from darkroom.training.batches import Examples, Views
from darkroom.tuning.space import BACKBONE, VIEWS, Values, hyper_of, views_used

FOLDS = 5
CACHE, WEIGHTS = Path(".darkroom/tune"), Path("models/weights")
ROOMS = ("augmentation", "models", "stages", "training", "tuning")  # whose code decides a prediction


class TooSlowError(Exception):
    """A backbone takes more milliseconds for an image than it may."""

    def __init__(self, milliseconds: float) -> None:
        super().__init__(milliseconds)
        self.milliseconds = milliseconds


class TrialCache(KeptResults):
    """What searches of one data set have computed; that of another data set or code is removed."""

    def __init__(self, identity: str) -> None:
        self.folder = CACHE / identity
        for other in CACHE.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)


@dataclass(frozen=True)
class Embedded:
    """Embeddings by a backbone: of images (N, D) and of their views (K, N, D) float32; milliseconds for one image alone."""

    images: np.ndarray
    views: np.ndarray
    milliseconds: float
    key: str


@dataclass(frozen=True)
class Pool:
    """The training and validation images (N, S, S, 3) uint8, labels (N,), groups (N,) and number of classes of a project."""

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    classes: int
    settings: Params
    val_share: float = 0.125
    is_kept: bool = True  # whether what is computed is kept

    @cached_property
    def folds(self) -> list[Fold]:
        """The folds, in which groups stay together. Raises ParamsError where there are too few images."""
        remedy = "add images: a search needs several of each class"
        if len(set(self.groups.tolist())) < FOLDS:
            raise ParamsError(f"{len(set(self.groups.tolist()))} groups of images do not make {FOLDS} folds", remedy)
        try:
            return fold_models.deal(self.labels, self.groups.tolist(), FOLDS, self.val_share, self.settings.compute.seed)
        except ParamsError as error:
            raise ParamsError(error.problem.removeprefix("cross_validation: "), remedy) from error

    @cached_property
    def get(self) -> Get:
        """Returns the arrays of a key, computed where they are not kept."""
        if not self.is_kept:
            return kept_results.compute_anew
        parts = [part for fold in self.folds for part in (fold.train, fold.val, fold.held_out)]
        settings = self.settings.model_dump(include={"augment": {"policy", "seed"}, "transfer": {"head"}, "compute": True})
        digest = kept_results.digest(self.images, self.labels, *parts)
        return TrialCache(kept_results.identity(settings, digest, rooms=ROOMS)).get

    def at(self, images: np.ndarray, policy: str) -> Pool:
        """Return the same pool with its images at another size, (N, S, S, 3) uint8, and another policy of augmentation; folds and
        what is kept are the same.
        """
        ingest = self.settings.ingest.model_copy(update={"image_size": images.shape[1]})
        augment = self.settings.augment.model_copy(update={"policy": policy})
        other = replace(self, images=images, settings=self.settings.model_copy(update={"ingest": ingest, "augment": augment}))
        other.__dict__.update(folds=self.folds, get=self.get)  # before they are computed from its own images
        return other

    def embed(self, name: str, source: str, folder: Path, most: float = math.inf) -> Embedded:
        """Return the embeddings of all images and their views by a backbone, computed once.

        `source` and `folder` are as `weights.source` and `weights.folder`. Raises WeightsError where there are no weights, and
        TooSlowError, before it embeds, where an image takes more than `most` milliseconds.
        """
        key = self.key(name, source, folder)
        images, views, cost = self.get(f"embeddings {key}", partial(self._embed, name, source, folder, most))
        if cost[0] > most:
            raise TooSlowError(float(cost[0]))
        return Embedded(images, views, float(cost[0]), key)

    def key(self, name: str, source: str, folder: Path) -> str:
        """Return what tells the embeddings of a backbone from others: its weights, and how many views there are."""
        compute, head = self.settings.compute, self.settings.transfer.head
        place = backbone_embeddings.place(name, self.images[:1], source, folder, head, compute)
        file = WEIGHTS / f"{name}.safetensors"
        weights = checksums.of_file(file) if source == "pretrain" and file.is_file() else ""
        return kept_results.identity(place.as_posix(), weights, views_used(self.settings), self.settings.augment.policy)

    def _embed(self, name: str, source: str, folder: Path, most: float) -> Arrays:
        compute = self.settings.compute
        backbone, origin = load_backbone(name, source, folder, self.settings)
        network: nn.Module = nn.Sequential(Normalize(origin.mean, origin.std), backbone)
        if origin.source == "random":
            embedding.calibrate(network, self.images, compute)
        engine = embedding.engine_for(network, self.images[None], compute)
        cost = backbone_embeddings.milliseconds(engine, self.images)
        if cost > most:
            raise TooSlowError(cost)
        own = embedding.run_network(engine, self.images[None], f"embedding with {name}")[0][0]
        with tempfile.TemporaryDirectory(dir=make_folder(CACHE)) as scratch:
            augment = self.settings.augment.model_copy(update={"views": views_used(self.settings), "storage": "stored"})
            settings = self.settings.model_copy(update={"augment": augment})
            views: Views = fold_models.make_views(settings, self.images, Path(scratch))
            of_views = embedding.run_network(engine, views, f"embedding views with {name}")[0]
        return own, of_views, np.array([cost])

    def predict(self, values: Values, embedded: Embedded, fold: Fold) -> np.ndarray:
        """Return the calibrated probabilities (M, C) of the images that a fold holds out, by a head with the values of a trial.

        Raises ParamsError where training diverges.
        """
        content = {key: value for key, value in values.items() if key != BACKBONE}
        hyper = hyper_of(values, self.settings)
        text = json.dumps([content, hyper.model_dump(), embedded.key], sort_keys=True)
        key = f"fold {fold.number} {kept_results.identity(text)}"

        def train() -> Arrays:
            settings = self.settings.model_copy(update={"transfer": hyper})
            views = np.ascontiguousarray(embedded.views[: values[VIEWS], fold.train])
            val = Examples(embedded.images[None, fold.val], self.labels[fold.val])
            with contextlib.redirect_stderr(io.StringIO()):  # the search shows its own progress
                head, result = transfer.train_head(Examples(views, self.labels[fold.train]), val, self.classes, settings, "head")
            with torch.inference_mode():
                logits = head(torch.from_numpy(np.ascontiguousarray(embedded.images[fold.held_out]))).float().numpy()
            return (softmax(logits, result.temperature),)

        return self.get(key, train)[0]


def make_folder(folder: Path) -> Path:
    """Return a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_backbone(name: str, source: str, folder: Path, settings: Params) -> tuple[Backbone, Provenance]:
    """Return a backbone for images of `ingest.image_size`; `source` and `folder` are as `weights.source` and `weights.folder`."""
    if source == "pretrain":
        backbone, origin = _pretrained_here(name)
    else:
        size, head = settings.ingest.image_size, settings.transfer.head
        backbone, origin = pretrained.load(name, size, head, source, folder, settings.compute.seed)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return backbone, origin


def _pretrained_here(name: str) -> tuple[Backbone, Provenance]:
    """Return a backbone as the stage `weights` has trained it."""
    file = WEIGHTS / f"{name}.safetensors"
    try:
        origin = Provenance.read(file.with_suffix(".json"))
        tensors = tensor_files.load(file, partial(dvc_graph.how_to_restore, file))
    except FileNotFoundError as error:
        raise WorkspaceError(f"{error.filename or file} is missing", f"run `dvc repro weights@{name}`") from error
    backbone = build_features(origin.architecture)
    assert isinstance(backbone, Backbone)
    backbone.net.load_state_dict(tensors)
    return backbone, origin
