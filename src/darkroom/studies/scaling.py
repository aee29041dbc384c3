"""Scaling: a network made dearer by depth, width, resolution, or all three, to the same multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from darkroom.config.study_params import Scaling
from darkroom.core.errors import ParamsError
from darkroom.models.architectures.efficientnet import ALPHA, BETA, GAMMA
from darkroom.studies.architecture import multiply_adds
from darkroom.studies.outputs import against
from darkroom.studies.run_config import Member, Outcome, labels, panels, steps
from darkroom.studies.summary import Line, said

TITLE = "Scaling a network up"
QUESTION = "A network may cost more: should it become deeper, wider, see larger images, or a little of each?"
PAPER = "Tan and Le 2019"
EQUAL = (
    "the same images in the same order for the same number of steps; within a panel as nearly as possible the same multiply-adds"
)
VARIES = ("options", "image_size")
NAME, BASE, COMPOUND = "efficientnet", "base", "compound"
NEAR = 3  # pixels by which the resolution of compound scaling may differ from the formula's
CLOSE = 1.5  # a factor within which the multiply-adds of a panel must be
HALVINGS = 8  # of the interval in which a factor of equal cost is looked for
Scale = tuple[float, float, float]  # factors of depth, width, resolution
WAYS: dict[str, Callable[[float], Scale]] = {
    "depth": lambda s: (s, 1, 1),
    "width": lambda s: (1, s, 1),
    "resolution": lambda s: (1, 1, s),
    COMPOUND: lambda s: (ALPHA ** (s - 1), BETA ** (s - 1), GAMMA ** (s - 1)),  # φ = s - 1
}


def members(settings: Scaling, images: int) -> list[Member]:
    """Return the base and a member per way, factor and seed. Raises ParamsError where there is no network of that cost."""
    if settings.base_size > settings.image_size:
        raise ParamsError("base_size is larger than image_size", "raise image_size or lower base_size")
    count = steps(images, settings.batch_size, settings.epochs)
    made = []
    for factor in sorted(settings.factors):
        scales = {BASE: (1.0, 1.0, 1.0)} | {way: scale(settings, way, factor) for way in WAYS}
        for seed in range(settings.seeds):
            for label, found in scales.items():
                options, size = _network(settings, found)
                made.append(Member(
                    f"×{factor:g}", label, seed, NAME, options, "", count, settings.batch_size, settings.optimizer, settings.lr,
                    settings.weight_decay, round(settings.warmup_epochs * count / settings.epochs), settings.looks, image_size=size,
                ))  # fmt: skip
    return made


def scale(settings: Scaling, way: str, factor: float) -> Scale:
    """Return the factors with which a way comes nearest to `factor` times the base's multiply-adds."""
    aim = factor * _cost(settings, (1.0, 1.0, 1.0))
    low, high = 1.0, 1.0 + 2 * factor
    while WAYS[way](high)[2] * settings.base_size > settings.image_size + 0.5:
        high -= 0.05  # no larger image than there is: above 64 pixels networks are cheaper again
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _cost(settings, WAYS[way](middle)) < aim else (low, middle)
    candidates = [WAYS[way](low), WAYS[way](high)]
    if way == COMPOUND:  # depth and width grow in steps: the resolution makes up for some of it
        sides = [(d, w, round(settings.base_size * r) + n) for d, w, r in candidates for n in range(-NEAR, NEAR + 1)]
        candidates = [(d, w, max(side, settings.base_size) / settings.base_size) for d, w, side in sides]
    made = min(candidates, key=lambda found: abs(math.log(_cost(settings, found) / aim)))
    reached = _cost(settings, made) / _cost(settings, (1.0, 1.0, 1.0))
    if abs(math.log(reached / factor)) > math.log(CLOSE):
        reason = f"by {way} alone the multiply-adds become {reached:.2g} times those of the base, not {factor:g} times"
        raise ParamsError(reason, "raise image_size, or change base_size, width or factors")
    return made


def _network(settings: Scaling, found: Scale) -> tuple[dict[str, Any], int]:
    """Return a network's options, and the pixels a side of its images."""
    depth, width, resolution = found
    options = {"depth": round(depth, 4), "width": round(settings.width * width, 4), "dropout": 0.0}
    return options, round(settings.base_size * resolution)


def _cost(settings: Scaling, found: Scale) -> int:
    options, size = _network(settings, found)
    return _multiply_adds(size, settings.channels, options["depth"], options["width"])


@cache
def _multiply_adds(size: int, channels: int, depth: float, width: float) -> int:
    return multiply_adds(NAME, size, channels, {"depth": depth, "width": width})


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return for each factor what every way is worth, and which way is best."""
    parts = []
    for panel in dict.fromkeys(line.panel for line in lines):
        base, *others = (line for line in lines if line.panel == panel)
        best = max(others, key=lambda line: line.accuracy.value)
        worth = [
            f"{line.label} (×{line.multiply_adds / base.multiply_adds:.1f}) {said(line.difference, '+')}"
            + ("" if line.p is not None and line.p < 0.05 else ", not significant")
            for line in others if line.difference
        ]  # fmt: skip
        parts.append(f"at {panel} of the multiply-adds the best way is {best.label}; they are worth {'; '.join(worth)}")
    return f"{'. '.join(part[0].upper() + part[1:] for part in parts)}."


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw accuracy against what an image costs, and against parameters, for the greatest factor."""
    greatest = panels(outcomes)[-1]
    for axis, key, title in zip(axes, ("multiply_adds", "parameters"), ("multiply-adds of an image", "parameters"), strict=True):
        against(axis, labels(outcomes, greatest), key, colours)
        axis.set_title(f"{greatest}: accuracy against {title}", fontsize=9)
