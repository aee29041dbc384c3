"""Depth: the same networks with and without skip connections, shallow and deep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darkroom.config.study_params import Depth
from darkroom.studies.run_config import Member, Outcome, labels, layer_values, panels, steps
from darkroom.studies.summary import Line, said, sure

TITLE = "Depth and skip connections"
QUESTION = "Why does a deeper network learn less, and what do skip connections change?"
PAPER = "He et al. 2016"
EQUAL = "the same images in the same order for the same number of steps; at each depth the same multiply-adds and parameters"
VARIES = ("architecture",)
KINDS = {"plain": "plain", "residual": "resnet"}


def members(settings: Depth, images: int) -> list[Member]:
    """Return a member per depth, seed and kind."""
    count = steps(images, settings.batch_size, settings.epochs)
    return [
        Member(
            f"{depth} layers", label, seed, f"{name}{depth}", {"width": settings.width}, "", count, settings.batch_size,
            settings.optimizer, settings.lr, settings.weight_decay, round(settings.warmup_epochs * count / settings.epochs),
            settings.looks,
        )
        for depth in sorted(settings.depths) for seed in range(settings.seeds) for label, name in KINDS.items()
    ]  # fmt: skip


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return what depth does to the plain networks and to the residual ones, and the difference at the greatest depth."""
    by = {(line.panel, line.label): line for line in lines}
    shallow, *_, deep = list(dict.fromkeys(line.panel for line in lines))
    parts = []
    for label in KINDS:
        one, other = by[shallow, label], by[deep, label]
        parts.append(
            f"{label} networks go from {one.accuracy.value:.4f} at {shallow} to {other.accuracy.value:.4f} at {deep} "
            f"(on training images {one.train_accuracy:.4f} to {other.train_accuracy:.4f})"
        )
    last = by[deep, "residual"]
    assert last.difference
    return f"{', '.join(parts)}; skips are worth {said(last.difference, '+')} at {deep}, {sure(last.p)}."


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw the gradients that reach each layer of the deepest networks, before the first step and after the last."""
    deepest = panels(outcomes)[-1]
    for axis, last in zip(axes, (False, True), strict=True):
        for label, group in labels(outcomes, deepest).items():
            values = layer_values(group, "gradient", last)
            shown = [(i, value) for i, value in enumerate(values.values()) if value]
            axis.plot(*zip(*shown, strict=True), color=colours[label], lw=1.5)
        axis.set_yscale("log")
        axis.set_xlabel("layer, from the image on", fontsize=8)
        axis.set_title(f"{deepest}: gradient of a layer, {'last step' if last else 'step 0'}", fontsize=9)
