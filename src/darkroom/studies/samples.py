"""The images that runs are trained and evaluated on, and their batches on a device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

import cv2
import numpy as np
import torch
import xxhash
from torch import nn

from darkroom.augmentation.views import ViewGenerator
from darkroom.models import weights
from darkroom.studies.run_config import RunConfig, weight_source
from darkroom.training.batches import batches

ARRAYS = ("train_images", "train_labels", "val_images", "val_labels")
ROTATIONS, INNER = "rotations", "inner"  # names of samples that are made from a study's own
TURNS = 4
EMBED_BATCH = 32  # images: larger batches of maps do not fit into a processor's cache, and take up to four times as long

KEPT = 8  # sets of features that a process keeps

Batch = tuple[torch.Tensor, torch.Tensor]

_kept: dict[str, Batch] = {}  # the features of training and held-out images


@dataclass(frozen=True)
class Sample:
    """Training and held-out images (N, C, S, S) uint8, labels (N,) int64, a digest of all of them, and the names of the classes."""

    train_images: np.ndarray
    train_labels: np.ndarray
    val_images: np.ndarray
    val_labels: np.ndarray
    classes: int
    digest: str
    class_names: tuple[str, ...] = ()

    def subset(self, images: int, image_size: int) -> Sample:
        """Return the first `images` training images and all held-out ones at `image_size`; 0: unchanged."""
        count = images or len(self.train_labels)
        train, val = (resize(array, image_size) for array in (self.train_images[:count], self.val_images))
        return replace(self, train_images=train, train_labels=self.train_labels[:count], val_images=val)

    def with_held_out(self, count: int) -> Sample:
        """Return at most `count` of the held-out images, drawn at random, and all training images."""
        if count >= len(self.val_labels):
            return self
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.val_labels))[:count])
        digest = _digest(f"{count} held-out images of {self.digest}")
        return replace(self, val_images=self.val_images[chosen], val_labels=self.val_labels[chosen], digest=digest)

    def head(self, count: int) -> Sample:
        """Return the first images of each part."""
        return replace(self, **{name: getattr(self, name)[:count] for name in ARRAYS})


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Return images (N, C, S, S) uint8 at `size` pixels a side, by means of areas; 0 changes nothing."""
    if size in (0, images.shape[2]):
        return images
    interpolation = cv2.INTER_AREA if size < images.shape[2] else cv2.INTER_LINEAR
    planes = images.reshape(-1, *images.shape[2:])
    resized = np.stack([cv2.resize(np.ascontiguousarray(plane), (size, size), interpolation=interpolation) for plane in planes])
    return resized.reshape(*images.shape[:2], size, size)


def rotate(sample: Sample) -> Sample:
    """Return a sample whose classes are rotations by 0, 90, 180 and 270 degrees (Gidaris et al. 2018).

    Every image appears in all four positions; the training images are shuffled. The labels of `sample` are
    not used.
    """
    order = np.random.default_rng(0).permutation(TURNS * len(sample.train_images))
    (images, labels), val = (_rotations(images) for images in (sample.train_images, sample.val_images))
    return Sample(images[order], labels[order], *val, TURNS, _digest(f"rotations of {sample.digest}"))


def _rotations(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rotated = [np.rot90(images, turn, axes=(2, 3)) for turn in range(TURNS)]
    return np.ascontiguousarray(np.concatenate(rotated)), np.repeat(np.arange(TURNS, dtype=np.int64), len(images))


def split_inner(sample: Sample, share: float) -> Sample:
    """Return the training images alone, the last `share` of them as held-out images."""
    cut = len(sample.train_labels) - max(1, round(share * len(sample.train_labels)))
    images, labels = sample.train_images, sample.train_labels
    digest = _digest(f"inner {share} of {sample.digest}")
    return Sample(images[:cut], labels[:cut], images[cut:], labels[cut:], sample.classes, digest)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class SampleLoader:
    """The images of a run on a device, as bytes.

    Batches are normalised with the mean and deviation of each channel: those that the initial weights were
    trained with, or those of the images. With a policy, each epoch has its own views (`augmentation.views`),
    drawn from the run's seed.
    """

    def __init__(self, sample: Sample, device: torch.device, config: RunConfig) -> None:
        self.config, self.classes, self.digest = config, sample.classes, sample.digest
        sample = sample.subset(config.images, config.image_size)
        arrays = (sample.train_images, sample.train_labels, sample.val_images, sample.val_labels)
        self.train_x, self.train_y, self.val_x, self.val_y = (torch.from_numpy(np.asarray(a)).to(device) for a in arrays)
        self.mean, self.std = (
            torch.tensor(np.asarray(value) * 255, dtype=torch.float32).view(1, -1, 1, 1).to(device)
            for value in _normalization(sample.train_images, config)
        )
        self.originals = np.asarray(sample.train_images)
        self.views: dict[int, torch.Tensor] = {}

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() - self.mean) / self.std

    @torch.no_grad()
    def embed(self, features: nn.Module) -> None:
        """Replace the images by what `features` gives for them, maps or embeddings, float32.

        A process computes the same features of the same images once: runs with other seeds share them where the
        weights are read from a file.
        """
        features.eval()
        key = self._features_key(features)
        if key not in _kept:
            if len(_kept) == KEPT:
                del _kept[next(iter(_kept))]
            _kept[key] = self._run(features, self.train_x), self._run(features, self.val_x)
        self.train_x, self.val_x = _kept[key]
        self.mean, self.std = torch.zeros(1, device=self.train_x.device), torch.ones(1, device=self.train_x.device)

    def _run(self, features: nn.Module, images: torch.Tensor) -> torch.Tensor:
        parts = (self.normalize(part).contiguous(memory_format=torch.channels_last) for part in images.split(EMBED_BATCH))
        return torch.cat([features(part) for part in parts])

    def _features_key(self, features: nn.Module) -> str:
        """Return a digest of the images, of the network and of its weights."""
        config = self.config
        content = self.digest, config.images, config.image_size, config.architecture, config.options, str(self.train_x.device)
        digest = xxhash.xxh3_128(repr(content).encode())
        for name, value in features.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().data)
        return digest.hexdigest()

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
        if not config.policy:
            return self.train_x
        number = epoch % config.views if config.views else epoch
        if number not in self.views:
            if not config.views:
                self.views.clear()
            views = augment(self.originals, config.policy, number, config.seed)
            self.views[number] = torch.from_numpy(views).to(self.train_x.device)
        return self.views[number]


def _normalization(images: np.ndarray, config: RunConfig) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and deviation of each channel, for pixels from 0 to 1."""
    if config.weights:
        return weights.normalization(config.architecture, *weight_source(config.weights))
    pixels = np.asarray(images[:: max(1, len(images) // 1000)]) / 255.0
    return pixels.mean((0, 2, 3)).round(4), pixels.std((0, 2, 3)).clip(0.01).round(4)


def augment(images: np.ndarray, policy: str, number: int, seed: int) -> np.ndarray:
    """Return one view of each image, (N, C, S, S) uint8. A grey image is augmented as three equal channels."""
    channels, size = images.shape[1:3]
    viewer = ViewGenerator(policy, size, seed)
    views = np.empty_like(images)
    for i, image in enumerate(images.transpose(0, 2, 3, 1)):
        (view,) = viewer.views(np.repeat(image, 3, 2) if channels == 1 else image, range(number, number + 1))
        views[i] = view.mean(2).round()[None] if channels == 1 else view.transpose(2, 0, 1)
    return views
