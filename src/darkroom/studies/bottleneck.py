"""Bottlenecks: Inception's modules with and without the 1×1 convolutions that go before the wide ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darkroom.config.study_params import Bottleneck
from darkroom.studies.architecture import multiply_adds
from darkroom.studies.outputs import against
from darkroom.studies.run_config import Member, Outcome, labels, panels, steps
from darkroom.studies.summary import Line, differs

TITLE = "1×1 convolutions as bottlenecks"
QUESTION = "What do the 1×1 convolutions before the 3×3 and 5×5 ones save, and what do they cost?"
PAPER = "Szegedy et al. 2015, Lin et al. 2014"
EQUAL = "the same images in the same order; for as many steps, or for as many multiply-adds"
VARIES = ("architecture", "steps", "warmup", "looks")
STEPS, COST = "equal steps", "equal multiply-adds"
KINDS = {"with 1×1": "inception_small", "without": "inception_small_naive"}


def members(settings: Bottleneck, images: int) -> list[Member]:
    """Return a member per panel, seed and kind; at equal multiply-adds the dearer network gets fewer steps."""
    count = steps(images, settings.batch_size, settings.epochs)
    options = {"width": settings.width}
    costs = [multiply_adds(name, settings.image_size, settings.channels, options) for name in KINDS.values()]
    made = []
    for panel in (STEPS, COST):
        for seed in range(settings.seeds):
            for (label, name), cost in zip(KINDS.items(), costs, strict=True):
                own = max(1, round(count * costs[0] / cost)) if panel == COST else count
                made.append(Member(
                    panel, label, seed, name, options, "", own, settings.batch_size, settings.optimizer, settings.lr,
                    settings.weight_decay, round(settings.warmup_epochs * own / settings.epochs), min(settings.looks, own),
                ))  # fmt: skip
    return made


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return the share of multiply-adds that is left with the 1×1 convolutions, and what doing without them is worth."""
    by = {(line.panel, line.label): line for line in lines}
    small, large = (by[STEPS, label] for label in KINDS)
    costs, has = small.multiply_adds / large.multiply_adds, small.parameters / large.parameters
    worth = "; ".join(differs(by[panel, "without"]) for panel in (STEPS, COST))
    kept = f"an image costs {costs:.0%} of the multiply-adds and the network has {has:.0%} of the parameters"
    return f"With the 1×1 convolutions {kept}; without them: {worth}."


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw accuracy against what an image costs, at equal steps and at equal multiply-adds."""
    for axis, panel in zip(axes, panels(outcomes), strict=True):
        against(axis, labels(outcomes, panel), "multiply_adds", colours)
        axis.set_title(f"{panel}: accuracy, by what an image costs", fontsize=9)
