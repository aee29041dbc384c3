"""Initialisation: ten ways to draw the first weights, on a perceptron and a convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darkroom.config.study_params import Initialization
from darkroom.models.init import SCHEMES, scheme
from darkroom.studies.run_config import Member, Outcome, labels, layer_values, steps
from darkroom.studies.summary import Line, said

TITLE = "Initialisation of weights"
QUESTION = "How much of what a network learns is decided by how its weights are drawn?"
PAPER = "Glorot and Bengio 2010, He et al. 2015, Saxe et al. 2014, Mishkin and Matas 2016"
EQUAL = "the same images in the same order for the same number of steps"
FIRST = "kaiming"  # what the others are compared with
VARIES = ("label", "scheme")
NETWORKS = {"mlp": "mlp", "cnn": "lenet5"}


def members(settings: Initialization, images: int) -> list[Member]:
    """Return a member per network, seed and scheme; LeNet-5 has ReLU here, as the perceptron."""
    wanted = sorted(settings.schemes, key=lambda name: name != FIRST)
    count = steps(images, settings.batch_size, settings.epochs)
    made = []
    for network in settings.networks:
        options: dict[str, Any] = {"hidden": list(settings.hidden)} if network == "mlp" else {"activation": "relu"}
        for seed in range(settings.seeds):
            for name in wanted:
                scheme(name)
                made.append(Member(
                    network, name, seed, NETWORKS[network], options, name, count, settings.batch_size, settings.optimizer,
                    settings.lr, settings.weight_decay, round(settings.warmup_epochs * count / settings.epochs), settings.looks,
                ))  # fmt: skip
    return made


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return what came out of it in a sentence for each network."""
    said_of = []
    for panel in dict.fromkeys(line.panel for line in lines):
        mine = [line for line in lines if line.panel == panel]
        best = max(mine, key=lambda line: line.accuracy.value)
        chance = [line.label for line in mine if line.train_accuracy < 0.5 * best.train_accuracy]
        worse = [
            f"{line.label} {said(line.difference, '+')}" for line in mine
            if line.difference and line.p is not None and line.p < 0.05 and line.difference.value < 0 and line.label not in chance
        ]  # fmt: skip
        sure = "significantly" if best.p is not None and best.p < 0.05 else "not significantly"
        sentence = f"{panel}: the highest mean of {len(mine)} schemes is that of {best.label}, {said(best.accuracy)}"
        sentence += f", {sure} above {mine[0].label}" if best.difference else ""
        sentence += f"; {', '.join(chance)} reach less than half of that" if chance else ""
        sentence += f"; significantly below {mine[0].label}: {', '.join(worse)}" if worse else ""
        said_of.append(sentence)
    return ". ".join(said_of) + "."


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw what the layers answer, and the gradients that reach them, before the first step, for the first network."""
    found = labels(outcomes, outcomes[0].member.panel)
    for axis, key, title in zip(axes, ("std", "gradient"), ("deviation of a layer's answers", "gradient of a layer"), strict=True):
        for name in SCHEMES:
            if name in found:
                values = layer_values(found[name], key)
                shown = [(i, value) for i, value in enumerate(values.values()) if value]
                axis.plot(*zip(*shown, strict=True), "o-", color=colours[name], ms=3, lw=1.2) if shown else None
                axis.set_xticks(range(len(values)), values, fontsize=7)
        axis.set_yscale("log")
        axis.set_title(f"{outcomes[0].member.panel}: {title}, step 0", fontsize=9)
