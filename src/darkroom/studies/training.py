"""Train members of a study: as `training.loop` does, for several networks at once, and with looks on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from darkroom.models import architectures, schemes
from darkroom.models.macs import layers
from darkroom.models.network import build_features, new_head, width
from darkroom.params import Compute
from darkroom.studies import vectorized
from darkroom.studies.members import Member, Outcome, Row, Sample
from darkroom.studies.probing import probe
from darkroom.training import products
from darkroom.training.devices import prepare
from darkroom.training.feeding import batches
from darkroom.training.loop import rate
from darkroom.training.optimizers import OPTIMIZERS

PROBED, SEEN, HELD = 256, 1000, 500  # images of a look at the layers; training images of a look; images of a batch then


class Feed:
    """The images of a sample on a device, kept as bytes, normalised batch by batch with the mean and deviation of each channel."""

    def __init__(self, sample: Sample, device: torch.device) -> None:
        arrays = (sample.train_images, sample.train_labels, sample.held_images, sample.held_labels)
        self.x, self.y, self.held_x, self.held_y = (torch.from_numpy(np.asarray(array)).to(device) for array in arrays)
        pixels = np.asarray(sample.train_images[:: max(1, len(sample.train_images) // 1000)]) / 255.0
        mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clip(0.01)
        self.mean, self.std = (
            torch.tensor(v.round(4) * 255, dtype=torch.float32).view(1, -1, 1, 1).to(device) for v in (mean, std)
        )

    def normalized(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() - self.mean) / self.std

    def epoch(self, seed: int, number: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of an epoch in the order that the seed gives them, which is `training.loop`'s."""
        order = np.random.default_rng([seed, number]).permutation(len(self.y))
        for batch in batches(len(self.y), size, order):
            index = torch.from_numpy(batch).to(self.x.device)
            yield self.normalized(self.x[index]), self.y[index]

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


def build(member: Member, sample: Sample, feed: Feed) -> nn.Sequential:
    """Return a member's network, (N, C, S, S) float32 to logits (N, classes), with its weights drawn."""
    channels, size = sample.train_images.shape[1:3]
    described = architectures.description(member.architecture, size, channels, member.options)
    features = build_features(described, member.seed)
    made = nn.Sequential()
    made.add_module("features", features)
    made.add_module("head", new_head(width(features), sample.classes, member.seed))
    if member.scheme:
        schemes.initialize(made, member.scheme, member.seed, feed.normalized(feed.x[:PROBED]).cpu())
    return made


def train(unit: Sequence[Member], sample: Sample, accelerator: str, on_look: Callable[[int], None] | None = None) -> list[Outcome]:
    """Train members that are alike (`Member.alike`) and return what they came to, in their order.

    They are computed with one thread, so that several processes work side by side and no figure depends on their number.
    `on_look` gets the steps that were made, of all members, since it was called before.
    """
    device = prepare(Compute(seed=0, threads=1, accelerator=accelerator, precision="32-true"))  # type: ignore[arg-type]
    started = time.monotonic()
    first, feed = unit[0], Feed(sample, device)
    networks = [build(member, sample, feed).to(device) for member in unit]
    account = layers(networks[0], tuple(sample.train_images.shape[1:]))  # type: ignore[arg-type]
    group = vectorized.ensemble(networks, feed.normalized(feed.x[:2]))
    optimizer = OPTIMIZERS[first.optimizer]([{"params": list(group.parameters()), "lr": first.lr}], first.weight_decay)
    at = {round(first.steps * i / first.looks) for i in range(1, first.looks + 1)}
    curves, flows = ([[] for _ in unit] for _ in range(2))  # type: ignore[var-annotated]

    def look(step: int) -> None:
        seen, held = _figures(group, feed, feed.x[:SEEN], feed.y[:SEEN]), _figures(group, feed, feed.held_x, feed.held_y)
        for i, (curve, flow) in enumerate(zip(curves, flows, strict=True)):
            curve.append({"step": step, **_named("train", seen[i]), **_named("val", held[i])})
            flow.extend(probe(group.member(i), feed.normalized(feed.x[:PROBED]), feed.y[:PROBED], step))

    look(0)
    looked = 0
    with ExitStack() as stack:
        if device.type == "cpu" and len(unit) == 1 and any(isinstance(m, nn.Conv2d) for m in group.modules()):
            stack.enter_context(products.as_products(group, feed.normalized(feed.x[:2])))
        for step, (x, y) in enumerate(feed.batches(first.seed, first.batch_size, first.steps)):
            group.train()
            optimizer.param_groups[0]["lr"] = first.lr * rate(step, first.steps, first.warmup)
            optimizer.zero_grad()
            losses(group(x), y).sum().backward()
            optimizer.step()
            if step + 1 in at:
                look(step + 1)
                if on_look:
                    on_look((step + 1 - looked) * len(unit))
                    looked = step + 1
    seconds = (time.monotonic() - started) / len(unit)
    costs = sum(layer.parameters for layer in account), sum(layer.multiply_adds for layer in account)
    return [Outcome(m, curves[i], flows[i], *costs, round(seconds, 3)) for i, m in enumerate(unit)]


def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each member, (K,), of logits (K, N, classes): their sum has the gradients of each."""
    count = logits.shape[0]
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat(count), reduction="none").view(count, -1).mean(1)


def _figures(group: nn.Module, feed: Feed, images: torch.Tensor, labels: torch.Tensor) -> list[tuple[float, float]]:
    """Return loss and accuracy of each member on images."""
    group.eval()
    loss: Any = 0.0
    right: Any = 0.0
    with torch.inference_mode():
        for x, y in zip(images.split(HELD), labels.split(HELD), strict=True):
            logits = group(feed.normalized(x))
            loss = loss + losses(logits, y) * len(y)
            right = right + (logits.argmax(2) == y).sum(1)
    return [(float(a) / len(labels), float(b) / len(labels)) for a, b in zip(loss, right, strict=True)]


def _named(kind: str, figures: tuple[float, float]) -> Row:
    loss, accuracy = figures
    return {f"{kind}_loss": loss if math.isfinite(loss) else None, f"{kind}_accuracy": accuracy}
