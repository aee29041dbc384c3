"""Depthwise-separable convolutions: MobileNet against the same network with standard convolutions, as wide, or no dearer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from darkroom.config.study_params import Separable
from darkroom.studies.architecture import multiply_adds
from darkroom.studies.outputs import against
from darkroom.studies.run_config import Member, Outcome, labels, panels, steps
from darkroom.studies.summary import Line, differs

TITLE = "Depthwise-separable convolutions"
QUESTION = "Is a convolution per channel and a 1×1 across channels as good as a whole one, and what is it worth for its cost?"
PAPER = "Howard et al. 2017"
EQUAL = "the same images in the same order for the same number of steps; as many channels, or no more multiply-adds of an image"
VARIES = ("architecture", "options")
WIDTH, COST = "equal width", "no more multiply-adds"
NAMES = {"separable": "mobilenet_v1", "standard": "mobilenet_v1_standard"}
FINE = 0.005  # steps of width in which one of equal cost is looked for


def members(settings: Separable, images: int) -> list[Member]:
    """Return a member per panel, seed and kind."""
    count = steps(images, settings.batch_size, settings.epochs)
    widths = {WIDTH: settings.width, COST: narrow(settings)}
    return [
        Member(
            panel, label, seed, name, {"width": width if label == "standard" else settings.width}, "", count, settings.batch_size,
            settings.optimizer, settings.lr, settings.weight_decay, round(settings.warmup_epochs * count / settings.epochs),
            settings.looks,
        )
        for panel, width in widths.items() for seed in range(settings.seeds) for label, name in NAMES.items()
    ]  # fmt: skip


def narrow(settings: Separable) -> float:
    """Return the width at which standard convolutions cost as much as the separable ones, or a little less."""

    def cost(kind: str, width: float) -> int:
        return multiply_adds(NAMES[kind], settings.image_size, settings.channels, {"width": width})

    aim = cost("separable", settings.width)
    widths = [round(FINE * i, 6) for i in range(1, max(2, round(settings.width / FINE) + 1))]
    return widths[max(0, bisect_right(widths, aim, key=lambda width: cost("standard", width)) - 1)]


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return what a whole convolution costs, and what it is worth at equal width and at equal cost."""
    by = {(line.panel, line.label): line for line in lines}
    cheap, dear = (by[WIDTH, label] for label in NAMES)
    worth = "; ".join(differs(by[panel, "standard"]) for panel in (WIDTH, COST))
    return (
        f"Standard convolutions of the same width cost {dear.multiply_adds / cheap.multiply_adds:.1f} times the multiply-adds and "
        f"{dear.parameters / cheap.parameters:.1f} times the parameters; they are worth {worth}."
    )


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw accuracy against what an image costs, at equal width and at equal cost."""
    for axis, panel in zip(axes, panels(outcomes), strict=True):
        against(axis, labels(outcomes, panel), "multiply_adds", colours)
        axis.set_title(f"{panel}: accuracy, by what an image costs", fontsize=9)
