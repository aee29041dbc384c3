"""Transfer: how much of a network is trained, on how many images, and where its first weights come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from darkroom.config.study_params import Transfer
from darkroom.studies.run_config import Member, Outcome, labels, mean_curve
from darkroom.studies.summary import Line, differs, said

TITLE = "Transfer learning"
QUESTION = "When is a network that learned something else a better beginning than chance, and how much of it should be trained?"
PAPER = "Yosinski et al. 2014, Gidaris et al. 2018, Kornblith et al. 2019"
EQUAL = "within a panel the same images in the same order for the same number of steps; sources were learned for equal steps too"
VARIES = ("start", "weights", "blocks")
SCRATCH, FROZEN, WHOLE = "scratch", "frozen", "all of it"
TRAINED, SOURCES = "what is trained", "source of weights"
IMAGENET, ROTATIONS = "imagenet", "rotations"
BEFORE = "before"  # the panel of those that others begin with


def samples(settings: Transfer) -> dict[str, str]:
    """Return what networks are trained on before: `rotations` are made of the study's own images, without their labels."""
    return {source: source for source in settings.sources if source != IMAGENET}


def members(settings: Transfer, images: int) -> list[Member]:
    """Return the members of all panels: parts of the network, sources of weights, and numbers of training images."""
    few = min(settings.few, images)
    first = settings.sources[0]
    made = []
    for seed in range(settings.seeds):
        base = Member(
            "", SCRATCH, seed, settings.architecture, dict(settings.options), "", settings.steps, settings.batch_size,
            settings.optimizer, settings.lr, settings.weight_decay, round(settings.warmup * settings.steps), settings.looks,
        )  # fmt: skip
        begun = _begun(base, first, settings)
        parts: list[tuple[str, int | None]] = [
            (FROZEN, 0),
            *((f"{n} block{'s' * (n > 1)}", n) for n in settings.blocks),
            (WHOLE, None),
        ]
        some = replace(base, panel=TRAINED, images=few)
        made += [some, *(replace(begun, panel=TRAINED, images=few, label=label, blocks=count) for label, count in parts)]
        made.append(replace(base, panel=SOURCES, images=few, label="random"))
        made += [replace(_begun(base, source, settings), panel=SOURCES, images=few, label=source) for source in settings.sources]
        for count in sorted({min(n, images) for n in settings.learning} - {few}):  # that one is the first panel
            panel = f"{count} images"
            made += [replace(base, panel=panel, images=count)]
            made += [replace(begun, panel=panel, images=count, label=label, blocks=n) for label, n in (parts[0], parts[-1])]
    return made


def _begun(base: Member, source: str, settings: Transfer) -> Member:
    """Return a member that begins with what a network learned from a source: the same one for every seed."""
    if source == IMAGENET:
        return replace(base, weights=settings.weights)
    count = settings.before_steps
    start = replace(
        base, panel=BEFORE, label=source, seed=0, on=source, steps=count, lr=settings.before_lr, looks=1,
        warmup=round(settings.warmup * count), images=0,
    )  # fmt: skip
    return replace(base, start=start)


def finding(lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
    """Return what beginning elsewhere is worth with the fewest and the most images, which part is best, and which source."""
    by = {(line.panel, line.label): line for line in lines}
    few = next(o.member.images for o in outcomes if o.member.panel == TRAINED)
    learning = {o.member.images: o.member.panel for o in outcomes if o.member.panel != SOURCES}
    worth = "; ".join(
        differs(replace(by[learning[count], WHOLE], panel=f"{count} images"))
        for count in sorted({min(learning), few, max(learning)})
    )
    best = {
        panel: max((line for line in lines if line.panel == panel), key=lambda line: line.accuracy.value)
        for panel in (TRAINED, SOURCES)
    }
    return (
        f"Weights from {_source(outcomes)} instead of random ones, all of them trained further, are worth {worth}; of what is "
        f"trained the best is {best[TRAINED].label}, {said(best[TRAINED].accuracy)}; of the sources {best[SOURCES].label}, "
        f"{said(best[SOURCES].accuracy)}."
    )


def _source(outcomes: Sequence[Outcome]) -> str:
    """Return the source whose weights the first panels begin with."""
    member = next(o.member for o in outcomes if o.member.panel == TRAINED and o.member.label != SCRATCH)
    return member.start.label if member.start else IMAGENET


def draw(axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """Draw accuracy against the number of training images, and over the steps for each part of the network that is trained."""
    curve = sorted((o for o in outcomes if o.member.panel != SOURCES), key=lambda o: o.member.images)
    left, right = axes
    for label in (SCRATCH, FROZEN, WHOLE):
        means: dict[int, list[float]] = {}
        for o in curve:
            if o.member.label == label:
                means.setdefault(o.member.images, []).append(o.accuracy)
        left.plot(list(means), [sum(values) / len(values) for values in means.values()], "o-", color=colours[label], lw=1.5, ms=4)
        count, values = next(iter(means.items()))
        left.annotate(label, (count, sum(values) / len(values)), fontsize=7)
    left.set_xscale("log")
    left.set_title("accuracy against training images", fontsize=9)
    for label, group in labels(outcomes, TRAINED).items():
        right.plot(*zip(*mean_curve(group, "val_accuracy"), strict=True), color=colours[label], lw=1.5, label=label)
    right.legend(fontsize=7)
    right.set_xlabel("step", fontsize=8)
    right.set_title("held-out accuracy over the steps, by the part that is trained", fontsize=9)
