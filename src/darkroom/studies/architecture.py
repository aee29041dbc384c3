"""Architectures: families from perceptron to residual network, trained with the same number of multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from darkroom.config.study_params import Architecture
from darkroom.models import factory
from darkroom.models.base import build_features
from darkroom.models.macs import layers
from darkroom.studies.outputs import against
from darkroom.studies.run_config import Member, Outcome, labels
from darkroom.studies.summary import Line, apart, said

TITLE = "Architectures at equal cost"
QUESTION = "What does each family make of the same number of multiplications?"
PAPER = "LeCun et al. 1998, Simonyan and Zisserman 2015, He et al. 2016, Sandler et al. 2018"
EQUAL = "the same images in the same order, and as many steps as the same budget of multiply-adds pays for"
VARIES = ("architecture", "options", "steps", "warmup", "looks")
PANEL = "equal multiply-adds"
STEP = 3  # a step costs three forward passes: the gradients of weights and of inputs are as many products each


def members(settings: Architecture, images: int) -> list[Member]:
    """Return a member per architecture and seed: of two networks the cheaper one gets more steps."""
    made = []
    for seed in range(settings.seeds):
        for name, options in settings.architectures.items():
            cost = multiply_adds(name, settings.image_size, settings.channels, options) * settings.batch_size * STEP
            count = max(1, round(settings.budget * 1e9 / cost))
            made.append(Member(
                PANEL, name, seed, name, dict(options), "", count, settings.batch_size, settings.optimizer, settings.lr,
                settings.weight_decay, round(count * settings.warmup), min(settings.looks, count),
            ))  # fmt: skip
    return made


def multiply_adds(name: str, size: int, channels: int, options: Mapping[str, Any]) -> int:
    """Return the multiply-adds of an architecture for one image, forward, without its last layer."""
    features = build_features(factory.description(name, size, channels, options))
    return sum(layer.multiply_adds for layer in layers(features, (channels, size, size)))


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return which architecture comes furthest, which are significantly below the first, and the Pareto front."""
    best = max(lines, key=lambda line: line.accuracy.value)
    front = pareto(lines)
    return (
        f"For the same multiply-adds {best.label} comes furthest, {said(best.accuracy)}; "
        f"{apart(lines)}; of {', '.join(front)} none has a better one that costs no more for an image (the Pareto front)."
    )


def pareto(lines: Sequence[Line]) -> list[str]:
    """Return the labels of which no other has a higher accuracy at no more multiply-adds for an image, cheapest first."""
    front: list[str] = []
    best = -1.0
    for line in sorted(lines, key=lambda line: (line.multiply_adds, -line.accuracy.value)):
        if line.accuracy.value > best:
            front.append(line.label)
            best = line.accuracy.value
    return front


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw accuracy against what an image costs, and against parameters."""
    for axis, key, title in zip(axes, ("multiply_adds", "parameters"), ("multiply-adds of an image", "parameters"), strict=True):
        against(axis, labels(outcomes, PANEL), key, colours)
        axis.set_title(f"accuracy against {title}", fontsize=9)
