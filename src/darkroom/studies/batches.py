"""The images of a member on a device: the part, the size and the views of a sample that it asks for, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from darkroom.studies.run_config import Member, Sample
from darkroom.training.batches import batches

AT_ONCE = 250  # images that are embedded


def part(sample: Sample, member: Member) -> Sample:
    """Return the images that a member is trained on and those that it is asked about, at the size that it sees."""
    images = member.images or len(sample.train_labels)
    train, held = (sized(array, member.image_size) for array in (sample.train_images[:images], sample.held_images))
    return replace(sample, train_images=train, train_labels=sample.train_labels[:images], held_images=held)


def sized(images: np.ndarray, size: int) -> np.ndarray:
    """Return images (N, C, S, S) uint8 at `size` pixels a side, each pixel the mean of the area that it covers; 0: as they are."""
    if size in (0, images.shape[2]):
        return images
    import cv2

    how = cv2.INTER_AREA if size < images.shape[2] else cv2.INTER_LINEAR
    flat = images.reshape(-1, *images.shape[2:])
    made = np.stack([cv2.resize(np.ascontiguousarray(plane), (size, size), interpolation=how) for plane in flat])
    return made.reshape(*images.shape[:2], size, size)


class Feed:
    """The images of a sample on a device, kept as bytes, normalised batch by batch with the mean and deviation of each channel.

    With a policy an epoch has views of its own (`augmentation.views`), drawn from the member's seed.
    """

    def __init__(self, sample: Sample, device: torch.device, member: Member | None = None) -> None:
        arrays = (sample.train_images, sample.train_labels, sample.held_images, sample.held_labels)
        self.x, self.y, self.held_x, self.held_y = (torch.from_numpy(np.asarray(array)).to(device) for array in arrays)
        pixels = np.asarray(sample.train_images[:: max(1, len(sample.train_images) // 1000)]) / 255.0
        mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clip(0.01)
        self.mean, self.std = (
            torch.tensor(v.round(4) * 255, dtype=torch.float32).view(1, -1, 1, 1).to(device) for v in (mean, std)
        )
        self.member, self.originals = member, np.asarray(sample.train_images)
        self.made: dict[int, torch.Tensor] = {}

    def normalized(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() - self.mean) / self.std

    @torch.no_grad()
    def embed(self, features: nn.Module) -> None:
        """Put what a network answers, (N, D) float32, in the place of images that no policy alters."""
        features.eval()
        self.x, self.held_x = (
            torch.cat([features(self.normalized(some)) for some in images.split(AT_ONCE)]) for images in (self.x, self.held_x)
        )
        self.mean, self.std = torch.zeros(1, device=self.x.device), torch.ones(1, device=self.x.device)

    def epoch(self, seed: int, number: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of an epoch in the order that the seed gives them, which is `training.loop`'s."""
        order = np.random.default_rng([seed, number]).permutation(len(self.y))
        images = self._seen(number)
        for batch in batches(len(self.y), size, order):
            index = torch.from_numpy(batch).to(self.x.device)
            yield self.normalized(images[index]), self.y[index]

    def batches(self, seed: int, size: int, steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield that many batches, epoch after epoch."""
        made, number = 0, 0
        while made < steps:
            for batch in self.epoch(seed, number, size):
                if made == steps:
                    return
                yield batch
                made += 1
            number += 1

    def _seen(self, epoch: int) -> torch.Tensor:
        """Return the images that an epoch sees, (N, C, S, S) uint8."""
        member = self.member
        if member is None or not member.policy:
            return self.x
        number = epoch % member.views if member.views else epoch
        if number not in self.made:
            if not member.views:
                self.made.clear()
            self.made[number] = torch.from_numpy(_views(self.originals, member.policy, number, member.seed)).to(self.x.device)
        return self.made[number]


def _views(images: np.ndarray, policy: str, number: int, seed: int) -> np.ndarray:
    """Return one view of each image, (N, C, S, S) uint8; a grey image is one of three equal channels on the way."""
    from darkroom.augmentation.views import Viewer

    channels, size = images.shape[1:3]
    viewer = Viewer(policy, size, seed)
    made = np.empty_like(images)
    for i, image in enumerate(images.transpose(0, 2, 3, 1)):
        (view,) = viewer.views(np.repeat(image, 3, 2) if channels == 1 else image, range(number, number + 1))
        made[i] = view.mean(2).round()[None] if channels == 1 else view.transpose(2, 0, 1)
    return made
