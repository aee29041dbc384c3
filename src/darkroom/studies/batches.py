"""Batches of a sample on a device."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import numpy as np
import torch
from torch import nn

from darkroom.augmentation.views import ViewGenerator
from darkroom.studies.run_config import RunConfig
from darkroom.studies.samples import Sample
from darkroom.training.batches import batches

EMBED_BATCH = 250  # images

Batch = tuple[torch.Tensor, torch.Tensor]


class SampleLoader:
    """The images of a run on a device, as bytes.

    Batches are normalised with the mean and deviation of each channel. With a policy, each epoch has its own
    views (`augmentation.views`), drawn from the run's seed.
    """

    def __init__(self, sample: Sample, device: torch.device, config: RunConfig | None = None) -> None:
        self.config, self.classes = config, sample.classes
        sample = sample.subset(config.images, config.image_size) if config else sample
        arrays = (sample.train_images, sample.train_labels, sample.val_images, sample.val_labels)
        self.train_x, self.train_y, self.val_x, self.val_y = (torch.from_numpy(np.asarray(a)).to(device) for a in arrays)
        pixels = np.asarray(sample.train_images[:: max(1, len(sample.train_images) // 1000)]) / 255.0
        self.mean, self.std = (
            torch.tensor(value.round(4) * 255, dtype=torch.float32).view(1, -1, 1, 1).to(device)
            for value in (pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clip(0.01))
        )
        self.originals = np.asarray(sample.train_images)
        self.views: dict[int, torch.Tensor] = {}

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() - self.mean) / self.std

    @torch.no_grad()
    def embed(self, features: nn.Module) -> None:
        """Replace the images by their embeddings, (N, D) float32."""
        features.eval()
        self.train_x, self.val_x = (
            torch.cat([features(self.normalize(part)) for part in images.split(EMBED_BATCH)])
            for images in (self.train_x, self.val_x)
        )
        self.mean, self.std = torch.zeros(1, device=self.train_x.device), torch.ones(1, device=self.train_x.device)

    def batches(self, seed: int, size: int, steps: int) -> Iterator[Batch]:
        """Yield `steps` batches, epoch after epoch, in the order that `training.loop` has for this seed."""
        yield from islice((batch for epoch in count() for batch in self._epoch(seed, epoch, size)), steps)

    def _epoch(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.train_y))
        images = self.epoch_images(epoch)
        for batch in batches(len(self.train_y), size, order):
            index = torch.from_numpy(batch).to(self.train_x.device)
            yield self.normalize(images[index]), self.train_y[index]

    def epoch_images(self, epoch: int) -> torch.Tensor:
        """Return the training images as an epoch has them, (N, C, S, S) uint8."""
        config = self.config
        if config is None or not config.policy:
            return self.train_x
        number = epoch % config.views if config.views else epoch
        if number not in self.views:
            if not config.views:
                self.views.clear()
            views = augment(self.originals, config.policy, number, config.seed)
            self.views[number] = torch.from_numpy(views).to(self.train_x.device)
        return self.views[number]


def augment(images: np.ndarray, policy: str, number: int, seed: int) -> np.ndarray:
    """Return one view of each image, (N, C, S, S) uint8. A grey image is augmented as three equal channels."""
    channels, size = images.shape[1:3]
    viewer = ViewGenerator(policy, size, seed)
    views = np.empty_like(images)
    for i, image in enumerate(images.transpose(0, 2, 3, 1)):
        (view,) = viewer.views(np.repeat(image, 3, 2) if channels == 1 else image, range(number, number + 1))
        views[i] = view.mean(2).round()[None] if channels == 1 else view.transpose(2, 0, 1)
    return views
