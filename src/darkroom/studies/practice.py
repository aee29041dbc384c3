"""Practice: what several crops of an image, and several networks together, add to one network that is asked once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from darkroom.config.study_params import Practice
from darkroom.inference.tta import VIEW_COUNTS, check_mode
from darkroom.studies.outputs import against
from darkroom.studies.run_config import Member, Outcome, Row, Sample, labels, panels, steps
from darkroom.studies.summary import Line, differs

TITLE = "Ensembles and multi-crop"
QUESTION = "What do several looks at an image add, what do several networks, and what does one network of the same cost?"
PAPER = "Krizhevsky et al. 2012, Lakshminarayanan et al. 2017"
EQUAL = "the same images in the same order for the same number of steps; a second opinion costs what it costs"
VARIES = ("options", "ways")
MADE, ASKED, TOGETHER = "networks", "how a network is asked", "networks together"
SMALL, WIDE = "one", "one wide"


def members(settings: Practice, images: int) -> list[Member]:
    """Return `together` networks per seed, and a wide one, which costs about as much as all of them."""
    for name in settings.ways:
        check_mode(name)
    count = steps(images, settings.batch_size, settings.epochs)
    wide = {"width": round(settings.width * math.sqrt(settings.together))}
    made = []
    for seed in range(settings.seeds * settings.together):
        base = Member(
            MADE, SMALL, seed, settings.architecture, {"width": settings.width}, "", count, settings.batch_size, settings.optimizer,
            settings.lr, settings.weight_decay, round(settings.warmup_epochs * count / settings.epochs), settings.looks,
            policy="" if settings.policy == "none" else settings.policy, ways=tuple(settings.ways),
        )  # fmt: skip
        made.append(base)
        if seed % settings.together == 0:
            made.append(replace(base, label=WIDE, options=wide, ways=tuple(settings.ways[:1])))
    return made


def derived(settings: Practice, outcomes: Sequence[Outcome], sample: Sample) -> list[Outcome]:
    """Return what is compared: ways to ask a network, and groups of networks whose probabilities are averaged."""
    small = [o for o in outcomes if o.member.label == SMALL]
    made = [
        _said(o, ASKED, name.replace("_", " "), o.member.seed, np.array(o.answers[name]), sample.held_labels, VIEW_COUNTS[name])
        for o in small for name in settings.ways
    ]  # fmt: skip
    first, last = settings.ways[0], settings.ways[-1]
    for seed in range(settings.seeds):
        group = small[seed * settings.together : (seed + 1) * settings.together]
        wide = next(o for o in outcomes if o.member.label == WIDE and o.member.seed == group[0].member.seed)
        asked = {SMALL: (group[:1], first), **{f"{n} together": (group[:n], first) for n in _counts(settings.together)}}
        asked[f"{len(group)} together, {last.replace('_', ' ')}"] = (group, last)
        for label, (some, name) in asked.items():
            mean = np.mean([o.answers[name] for o in some], 0)
            made.append(_said(some[0], TOGETHER, label, seed, mean, sample.held_labels, VIEW_COUNTS[name], len(some)))
        made.append(_said(wide, TOGETHER, WIDE, seed, np.array(wide.answers[first]), sample.held_labels, VIEW_COUNTS[first]))
    return sorted(made, key=lambda o: o.member.panel != ASKED)


def _counts(together: int) -> list[int]:
    """Return how many networks are asked together: about half of them, and all."""
    return sorted({max(2, (together + 1) // 2), together})


def _said(
    one: Outcome, panel: str, label: str, seed: int, p: np.ndarray, truth: np.ndarray, views: int, networks: int = 1
) -> Outcome:
    """Return probabilities (N, classes) for the held-out images as an outcome, with what an answer costs."""
    given = np.clip(p[np.arange(len(truth)), truth], 1e-7, 1)
    row: Row = {
        **one.curve[-1], "val_loss": float(-np.log(given).mean()), "val_accuracy": float((p.argmax(1) == truth).mean()),
    }  # fmt: skip
    return replace(
        one, member=replace(one.member, panel=panel, label=label, seed=seed), curve=[*one.curve[:-1], row], answers={},
        parameters=one.parameters * networks, multiply_adds=one.multiply_adds * networks * views,
        seconds=one.seconds * networks, latency=one.latency * networks * views,
    )  # fmt: skip


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return what further looks, further networks and a wide network are worth."""
    asked = [line for line in lines if line.panel == ASKED and line.difference]
    first = next(line.label for line in lines if line.panel == ASKED)
    by = {line.label: line for line in lines if line.panel == TOGETHER}
    looks = "; ".join(f"{line.label} {differs(line)}" for line in asked)
    *_, many, crops, wide = by.values()
    return (
        f"Against {first} {looks}. Against one network {many.label} are worth {differs(many)}, {crops.label} {differs(crops)}, "
        f"and one wide network, {wide.multiply_adds / by[SMALL].multiply_adds:.1f} times as dear, {differs(wide)}."
    )


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw accuracy against what an answer costs, for both panels."""
    for axis, panel in zip(axes, panels(outcomes), strict=True):
        against(axis, labels(outcomes, panel), "multiply_adds", colours)
        axis.set_title(f"{panel}: accuracy, by what an answer costs", fontsize=9)
