"""Augmentation: policies against none, and how many views of an image are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from darkroom.config.study_params import Augmentation
from darkroom.studies.run_config import Member, Outcome, labels, mean_curve, steps
from darkroom.studies.summary import Line, apart, differs, said

TITLE = "Augmentation"
QUESTION = "What do altered images add to the images that there are, and does it take new ones in every epoch?"
PAPER = "Simard et al. 2003, Shorten and Khoshgoftaar 2019"
EQUAL = "the same images in the same order for the same number of steps; what changes is the view of an image that an epoch sees"
VARIES = ("policy", "views")
POLICIES, VIEWS = "policy", "views of an image"
NEW = "new each epoch"


def members(settings: Augmentation, images: int) -> list[Member]:
    """Return a member per policy and seed, with new views in each epoch, and one per number of views of `policy`."""
    count = steps(images, settings.batch_size, settings.epochs)
    made = []
    for seed in range(settings.seeds):
        base = Member(
            POLICIES, "", seed, settings.architecture, dict(settings.options), "", count, settings.batch_size, settings.optimizer,
            settings.lr, settings.weight_decay, round(settings.warmup_epochs * count / settings.epochs), settings.looks,
        )  # fmt: skip
        made += [replace(base, label=name, policy="" if name == "none" else name) for name in settings.policies]
        made += [replace(base, panel=VIEWS, label=str(k) if k else NEW, policy=settings.policy, views=k) for k in settings.views]
    return made


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return the best policy, those that differ from the first, and what more views are worth."""
    policies = [line for line in lines if line.panel == POLICIES]
    views = [line for line in lines if line.panel == VIEWS]
    best = max(policies, key=lambda line: line.accuracy.value)
    return (
        f"The highest mean is that of {best.label}, {said(best.accuracy)}; {apart(policies)}; instead of {views[0].label} "
        f"view of each image {views[-1].label} is worth {differs(views[-1])}."
    )


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw the loss on held-out images over the steps, by policy and by number of views."""
    for axis, panel in zip(axes, (POLICIES, VIEWS), strict=True):
        for label, group in labels(outcomes, panel).items():
            points = mean_curve(group, "val_loss")
            if points:
                axis.plot(*zip(*points, strict=True), color=colours[label], lw=1.5)
        axis.set_yscale("log")
        axis.set_xlabel("step", fontsize=8)
        axis.set_title(f"{panel}: loss on held-out images", fontsize=9)
