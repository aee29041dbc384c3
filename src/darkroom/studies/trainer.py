"""Train members of a study: as `training.loop` does, for several networks at once, and with looks on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.config.params import Compute
from darkroom.inference import tta
from darkroom.models.macs import layers
from darkroom.studies import vectorized
from darkroom.studies.batches import Feed, part
from darkroom.studies.initial_weights import PROBED, build, keep
from darkroom.studies.lr_finder import find
from darkroom.studies.probes import probe
from darkroom.studies.run_config import Member, Outcome, Row, Sample
from darkroom.studies.schedules import schedule
from darkroom.training import matmul_conv
from darkroom.training.devices import prepare
from darkroom.training.optimizers import OPTIMIZERS

TTA_BATCH = 250  # images of which views are in memory
SEEN, HELD = 1000, 500  # training images of a look; images of a batch then
TIMED = 30  # answers for one image, of which the fastest counts


def train(
    unit: Sequence[Member],
    sample: Sample,
    accelerator: str,
    on_look: Callable[[int], None] | None = None,
    started: Path | None = None,
    kept: Path | None = None,
    stop: Callable[[Row], bool] | None = None,
) -> list[Outcome]:
    """Train members that are alike (`Member.alike`) and return what they came to, in their order.

    They are computed with one thread, so that several processes work side by side and no figure depends on their number.
    `on_look` gets the steps that were made, of all members, since it was called before. `started` holds the weights of the
    network that a member begins with (`Member.start`); `kept` is where the last weights of a single member are to be kept.
    `stop` is asked after each look of a single member, given its row of the curve, and ends the training where it says so.
    """
    device = prepare(Compute(seed=0, threads=1, accelerator=accelerator, precision="32-true"))  # type: ignore[arg-type]
    began = time.monotonic()
    first, sample = unit[0], part(sample, unit[0])
    feed = Feed(sample, device, first)
    example = feed.normalized(feed.x[:2])
    networks = [build(member, sample, feed, started).to(device) for member in unit]
    account = layers(networks[0], tuple(sample.train_images.shape[1:]))  # type: ignore[arg-type]
    whole, image = networks, example[:1]
    if first.embedded:
        feed.embed(whole[0].features)  # type: ignore[arg-type]
        example, networks = feed.x[:2], [whole[0].head]  # type: ignore[list-item]
    lr, tested = (first.lr, []) if first.lr else find(networks[0], feed, first)
    group = vectorized.ensemble(networks, example)
    curves, flows = ([[] for _ in unit] for _ in range(2))  # type: ignore[var-annotated]

    def look(step: int) -> None:
        seen, held = _figures(group, feed, feed.x[:SEEN], feed.y[:SEEN]), _figures(group, feed, feed.held_x, feed.held_y)
        for i, (curve, flow) in enumerate(zip(curves, flows, strict=True)):
            curve.append({"step": step, **_named("train", seen[i]), **_named("val", held[i])})
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # a look changes no training
                flow.extend(probe(group.member(i), feed.normalized(feed.x[:PROBED]), feed.y[:PROBED], step))

    look(0)
    looked = 0
    with ExitStack() as stack:
        if device.type == "cpu" and len(unit) == 1 and any(isinstance(m, nn.Conv2d) for m in group.modules()):
            stack.enter_context(matmul_conv.as_products(group, example))
        for step in _trained(group, feed, first, lr):
            look(step)
            if on_look:
                on_look((step - looked) * len(unit))
                looked = step
            if stop and stop(curves[0][-1]):
                break
    seconds = (time.monotonic() - began) / len(unit)
    asked = whole if first.embedded else [group.member(i) for i in range(len(unit))]
    costs = sum(layer.parameters for layer in account), sum(layer.multiply_adds for layer in account)
    if kept:
        keep(group.member(0), kept)
    return [
        Outcome(
            member, curves[i], flows[i], *costs, round(seconds, 3), milliseconds(asked[i], image), lr, tested,
            tta.predict_modes(asked[i], map(feed.normalized, feed.held_x.split(TTA_BATCH)), member.ways),
        )
        for i, member in enumerate(unit)
    ]  # fmt: skip


def _trained(group: nn.Module, feed: Feed, member: Member, lr: float) -> Iterator[int]:
    """Train a group by a member's settings, in place; yield the number of steps made whenever it is to be looked at."""
    trained = [parameter for parameter in group.parameters() if parameter.requires_grad]
    optimizer = OPTIMIZERS[member.optimizer]([{"params": trained, "lr": lr}], weight_decay=member.weight_decay)
    factor = schedule(member.schedule)
    at = {round(member.steps * i / member.looks) for i in range(1, member.looks + 1)}
    torch.manual_seed(member.seed)  # of what is dropped at random
    for step, (x, y) in enumerate(feed.batches(member.seed, member.batch_size, member.steps)):
        group.train()
        optimizer.param_groups[0]["lr"] = lr * factor(step, member.steps, member.warmup)
        optimizer.zero_grad()
        losses(group(x), y).sum().backward()
        optimizer.step()
        if step + 1 in at:
            yield step + 1


def milliseconds(network: nn.Module, image: torch.Tensor) -> float:
    """Return how long the answer for one image, (1, C, S, S), takes: the fastest of some, which other work disturbs least."""
    network.eval()
    times = []
    with torch.inference_mode():
        for _ in range(TIMED):
            started = time.perf_counter()
            network(image).argmax().item()
            times.append((time.perf_counter() - started) * 1000)
    return round(min(times), 4)


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
