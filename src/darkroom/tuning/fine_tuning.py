"""A trial of a search: networks that are fine-tuned on folds, each predicting the fold that it was not trained on.

A network is fine-tuned as `finetune` does it, from a head of the settings of params.yaml. What its frozen blocks make of all views
is computed once for the trials that share size, policy and blocks, and is not kept; what each fold predicts is, in
`.darkroom/tune`.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from darkroom.config.params import Params
from darkroom.core import kept_results
from darkroom.core.kept_results import Arrays
from darkroom.models.base import Network, Normalize, Preprocessing
from darkroom.stages import fold_models
from darkroom.stages.fold_models import Fold, FrozenNetwork
from darkroom.training import embedding
from darkroom.training.state import EpochMetrics
from darkroom.tuning import finetune_space
from darkroom.tuning.finetune_space import POLICY, UNFREEZE
from darkroom.tuning.heads import Pool, load_backbone
from darkroom.tuning.space import BACKBONE, SIZE, Values

MOST_FROZEN = 3  # frozen networks whose maps are on disk at a time
SURE = 4  # trials whose losses are compared with, before one may end within a fold
WORST = 0.75  # quantile of their losses, above which it does


class EndedEarlyError(Exception):
    """Half way through its first fold a trial is behind most others."""


@dataclass
class FineTuning:
    """Trials that fine-tune, on the images of a pool.

    `images_at` returns the images at another size; `sources` has what `weights.source` is for each backbone, and `folder` is as
    `weights.folder`. Maps are files in `scratch`. `halves` are the lowest validation losses of each trial half way through its
    first fold, `seconds` what each fold took when it was computed.
    """

    pool: Pool
    images_at: Callable[[int], np.ndarray] = field(repr=False)
    sources: Mapping[str, str]
    folder: Path
    scratch: Path
    halves: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    frozen: dict[str, FrozenNetwork] = field(default_factory=dict, repr=False)
    heads: dict[tuple[str, int], nn.Linear] = field(default_factory=dict, repr=False)

    def predict(self, values: Values, fold: Fold, may_end: bool) -> np.ndarray:
        """Return the calibrated probabilities (M, C) of the images that a fold holds out, by a network with the values of a trial.

        Raises ParamsError where training diverges, and where it `may_end` EndedEarlyError.
        """
        settings, pool, name = finetune_space.settings_of(values, self.pool.settings), self.pool, values[BACKBONE]
        shown = {"image_size", "resize", "background"}
        used = settings.model_dump(
            include={"augment": True, "compute": True, "embed": True, "finetune": True, "ingest": shown, "transfer": True}
        )
        text = json.dumps([used, pool.key(name, self.sources[name], self.folder), may_end], sort_keys=True, default=str)
        half, is_first = math.ceil(settings.finetune.epochs / 2), fold.number == pool.folds[0].number
        losses: list[float] = []

        def on_epoch(row: EpochMetrics) -> None:
            losses.append(row["val_loss"])
            if may_end and is_first and len(losses) == half and self._is_behind(min(losses)):
                raise EndedEarlyError

        def train() -> Arrays:
            started = time.monotonic()
            with contextlib.redirect_stderr(io.StringIO()):  # the search shows its own progress
                frozen, key = self._freeze(values, settings)
                head = self._head(frozen, key, fold, settings)
                try:
                    predicted = frozen.fine_tune(head, fold, settings, "fine-tuning", on_epoch)
                except EndedEarlyError:
                    predicted = np.empty((0, pool.classes))
            return predicted, np.array(losses), np.array(time.monotonic() - started)

        predicted, history, seconds = pool.get(f"finetune {fold.number} {kept_results.identity(text)}", train)
        self.seconds.append(float(seconds))
        if is_first:
            self.halves.append(float(history[:half].min()))
        if not len(predicted):
            raise EndedEarlyError
        return predicted

    def _is_behind(self, loss: float) -> bool:
        return len(self.halves) >= SURE and loss > float(np.quantile(self.halves, WORST))

    def _head(self, frozen: FrozenNetwork, key: str, fold: Fold, settings: Params) -> nn.Linear:
        """Return the head that a fold begins with."""
        if (key, fold.number) not in self.heads:
            self.heads[key, fold.number] = frozen.train_head(fold, settings, "head")[0]
        return self.heads[key, fold.number]

    def _freeze(self, values: Values, settings: Params) -> tuple[FrozenNetwork, str]:
        """Return the network of a trial and what its frozen part makes of all images, and a key of both."""
        key = json.dumps([values[name] for name in (BACKBONE, SIZE, POLICY, UNFREEZE)])
        if key not in self.frozen:
            while len(self.frozen) >= MOST_FROZEN:
                oldest = next(iter(self.frozen))
                del self.frozen[oldest]
                shutil.rmtree(self._place(oldest), ignore_errors=True)
            self.frozen[key] = self._run_frozen(values, settings, self._place(key))
        return self.frozen[key], key

    def _place(self, key: str) -> Path:
        return self.scratch / kept_results.identity(key)

    def _run_frozen(self, values: Values, settings: Params, folder: Path) -> FrozenNetwork:
        size, ingest = settings.ingest.image_size, settings.ingest
        is_own = size == self.pool.settings.ingest.image_size
        pool = self.pool.at(self.pool.images if is_own else self.images_at(size), values[POLICY])
        backbone, origin = load_backbone(values[BACKBONE], self.sources[values[BACKBONE]], self.folder, settings)
        shown = Preprocessing(size, ingest.resize, ingest.background, origin.mean, origin.std)
        network = Network(backbone, shown, pool.classes, settings.compute.seed)
        folder.mkdir(parents=True)
        count = finetune_space.views_used(settings)
        augment = settings.augment.model_copy(update={"views": count, "storage": "stored"})
        views = fold_models.make_views(settings.model_copy(update={"augment": augment}), pool.images, folder)
        if origin.source == "random":
            embedding.calibrate(nn.Sequential(Normalize(origin.mean, origin.std), backbone), views[0], settings.compute)
        images = fold_models.Pool(pool.images, views, pool.labels, pool.folds)
        frozen = fold_models.freeze("network", network, images, settings, folder)
        if frozen.on_maps:  # which take the place of the views
            with contextlib.suppress(OSError):
                (folder / "views.npy").unlink()
        return frozen
