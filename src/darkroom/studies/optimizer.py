"""Optimizers, schedules and batch sizes, each with the learning rate that a range test finds for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from darkroom.config.study_params import Optimizer
from darkroom.studies.run_config import Member, Outcome, labels, steps
from darkroom.studies.schedules import schedule
from darkroom.studies.summary import Line, apart, said

TITLE = "Optimizers, schedules and batch sizes"
QUESTION = "How much do optimizer, schedule and batch size matter once each has a learning rate of its own?"
PAPER = "Polyak 1964, Sutskever et al. 2013, Kingma and Ba 2015, Loshchilov and Hutter 2017 and 2019, Smith 2017, Goyal et al. 2017"
EQUAL = "the same images, as often; among optimizers and among schedules the same number of steps"
VARIES = ("optimizer", "weight_decay", "schedule", "batch_size", "steps", "warmup", "looks")
OPTIMIZERS, SCHEDULES, BATCHES = "optimizer", "schedule", "batch size"


def members(settings: Optimizer, images: int) -> list[Member]:
    """Return a member per seed and optimizer, schedule and batch size; `lr: 0` leaves the rate to the range test."""
    made = []
    for seed in range(settings.seeds):

        def member(panel: str, label: str, size: int = settings.batch_size, seed: int = seed) -> Member:
            count = steps(images, size, settings.epochs)
            return Member(
                panel, label, seed, settings.architecture, dict(settings.options), "", count, size, settings.optimizer, settings.lr,
                settings.weight_decay, round(settings.warmup_epochs * count / settings.epochs), min(settings.looks, count),
            )  # fmt: skip

        made += [replace(member(OPTIMIZERS, name), optimizer=name) for name in settings.optimizers]
        for name in settings.schedules:
            schedule(name)
            made.append(replace(member(SCHEDULES, name), schedule=name))
        made += [member(BATCHES, str(size), size) for size in settings.batch_sizes]
    return made


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return the best of each panel with the mean of the rates that were found for it, and what differs from the first."""
    parts = []
    for panel in (OPTIMIZERS, SCHEDULES, BATCHES):
        mine = [line for line in lines if line.panel == panel]
        best = max(mine, key=lambda line: line.accuracy.value)
        parts.append(
            f"{panel}: the highest mean is that of {best.label}, {said(best.accuracy)} at a rate of {_rate(outcomes, best):.2g}; "
            f"{apart(mine)}"
        )
    return ". ".join(parts) + "."


def _rate(outcomes: Sequence[Outcome], line: Line) -> float:
    """Return the geometric mean of a label's learning rates over seeds."""
    import math

    rates = [o.lr for o in labels(outcomes, line.panel)[line.label]]
    return math.exp(sum(map(math.log, rates)) / len(rates))


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw the range tests of the optimizers, and the rate that was found for each batch size."""
    left, right = axes
    for label, group in labels(outcomes, OPTIMIZERS).items():
        if group[0].tested:
            left.plot(*zip(*group[0].tested, strict=True), color=colours[label], lw=1.5)
        left.axvline(group[0].lr, color=colours[label], lw=0.8, ls=":")
    left.set_xscale("log")
    left.set_xlabel("learning rate; dotted: the one that was taken", fontsize=8)
    left.set_title("range test: loss of seed 0", fontsize=9)
    for label, group in labels(outcomes, BATCHES).items():
        right.plot([int(label)] * len(group), [o.lr for o in group], "o", color=colours[label], ms=4)
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xlabel("batch size", fontsize=8)
    right.set_title("learning rate, by batch size and seed", fontsize=9)
