"""Tuning: settings that a search found, by Optuna's TPE or at random, against those that were there before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from darkroom.config.study_params import Configured, Tune
from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress
from darkroom.models import init
from darkroom.studies import summary
from darkroom.studies.run_config import Member, Outcome, Sample, steps
from darkroom.studies.runner import REMEMBERED, Place, begun, check
from darkroom.studies.search import INNER, RANDOM, TPE, Search, Trial, Values, best, importances
from darkroom.studies.summary import Line, said, sure

TITLE = "Tuning hyper-parameters"
QUESTION = "What is a search for better settings worth, and does it matter whether it learns from the trials that it has made?"
PAPER = "Bergstra et al. 2011, Bergstra and Bengio 2012, Akiba et al. 2019"
EQUAL = (
    "the same images, as often; both searches try the settings without a search first, and may cost the same number of trainings. "
    "They never see the held-out images: trials are judged by a part of the training images"
)
VARIES = ("options", "steps", "looks", *Configured.model_fields)
SETTINGS, SEARCHES = "settings", "searches"
DEFAULT = "default"
IMAGENET = "imagenet"
EMBEDDINGS = "embeddings"
TRIALS = ("sampler", "seed", "trial", "state", "inner_loss", "inner_accuracy", "steps", "epochs")


def samples(settings: Tune) -> dict[str, str]:
    """Return the images of the trials, and those that the network below a head was trained on."""
    before = {settings.before: settings.before} if settings.on == EMBEDDINGS and settings.before != IMAGENET else {}
    return {INNER: INNER} | before


def members(settings: Tune, images: int, found: Sequence[Trial] = ()) -> list[Member]:
    """Return a member per seed with the settings as they are, and one with those that each search found with that seed."""
    made = []
    for seed in range(settings.seeds):
        made.append(configured(settings, {}, images, SETTINGS, DEFAULT, seed))
        for sampler, trials in _searches(found, seed):
            made.append(configured(settings, best(trials).values, images, SETTINGS, sampler, seed))
    return made


def configured(settings: Tune, values: Values, images: int, panel: str, label: str, seed: int) -> Member:
    """Return a member whose settings are those of the section, but for the values of a trial."""
    own = {name: values.get(name, getattr(settings, name)) for name in Configured.model_fields}
    if own["scheme"]:
        init.scheme(own["scheme"])
    options = {name: values.get(f"options.{name}", value) for name, value in settings.options.items()}
    count = steps(images, own["batch_size"], settings.epochs)
    policy = "" if own["policy"] == "none" else own["policy"]
    made = Member(
        panel, label, seed, settings.architecture, options, own["scheme"], count, own["batch_size"], own["optimizer"], own["lr"],
        own["weight_decay"], round(own["warmup"] * count), settings.looks, own["schedule"], policy=policy,
        views=own["views"],
    )  # fmt: skip
    return _headed(made, settings) if settings.on == EMBEDDINGS else made


def _headed(made: Member, settings: Tune) -> Member:
    """Return a member of which the head alone is trained, on embeddings that are computed once where no policy alters images."""
    made = replace(made, scheme="", blocks=0, embedded=not made.policy)
    if settings.before == IMAGENET:
        return replace(made, weights=settings.weights)
    count = settings.before_steps
    start = Member(
        "before", settings.before, 0, settings.architecture, dict(settings.options), "", count, settings.batch_size,
        settings.optimizer, settings.before_lr, settings.weight_decay, round(settings.warmup * count), 1, on=settings.before,
    )  # fmt: skip
    return replace(made, start=start)


def searched(
    settings: Tune, samples: Mapping[str, Sample], accelerator: str, on_done: Callable[[Outcome, dict[str, str]], None]
) -> Searched:
    """Make both searches with each seed, one trial after another, and return the study with what they found."""
    place = Place(samples, accelerator, REMEMBERED)
    images = len(samples[INNER].train_labels)
    _check(settings, images)
    check([configured(settings, values, images, "", "", 0) for values in _ends(settings)], samples)
    started = begun(configured(settings, {}, images, "", "", 0), place, lambda outcome: on_done(outcome, {}))
    made: list[Trial] = []
    with Progress("trials", 2 * settings.seeds * settings.budget * settings.epochs, "epochs") as progress:

        def on_trial(trial: Trial, is_new: bool) -> None:
            made.append(trial)
            progress.advance(
                min(progress.total, round(settings.epochs * sum(t.share for t in made))) - progress.done,
                f"{trial.sampler} {trial.seed}, trial {trial.number}: {trial.loss:.4f}" + (", pruned" if trial.pruned else ""),
            )
            if is_new:
                tags = {"sampler": trial.sampler, "trial": str(trial.number), "state": _state(trial)}
                on_done(trial.outcome, {f"darkroom.{key}": value for key, value in tags.items()})

        for seed in range(settings.seeds):

            def member(values: Values, seed: int = seed) -> Member:
                return replace(configured(settings, values, images, "search", "trial", seed), on=INNER)

            for sampler in (RANDOM, TPE):
                search = Search(settings.space, _own(settings), sampler, seed, settings.pruner, settings.budget, settings.looks)
                search.trials(member, place, started, on_trial)
    return Searched(settings, made)


def _own(settings: Tune) -> Values:
    """Return what the settings of the space are without a search."""
    given = settings.model_dump()
    return {name: given["options"][name[8:]] if name.startswith("options.") else given[name] for name in settings.space}


def _check(settings: Tune, images: int) -> None:
    """Raise ParamsError for a scheme that there is not, and for batches too large to look as often, before a trial comes to it."""
    sizes = settings.space.get("batch_size", {})
    largest = max([settings.batch_size, sizes.get("high", 0), *sizes.get("choices", [])])
    if steps(images, largest, settings.epochs) < settings.looks:
        raise ParamsError(
            f"with batches of {largest} {settings.epochs} epochs of {images} images have fewer steps than looks ({settings.looks})",
            "set looks lower or epochs higher, or leave out the largest batches",
        )
    for name in settings.space.get("scheme", {}).get("choices", []):
        if name:
            init.scheme(name)


def _ends(settings: Tune) -> Iterator[Values]:
    """Yield the settings as they are, and with each choice, or each end, of each setting of the space."""
    yield {}
    for name, declared in settings.space.items():
        for value in declared.get("choices", [declared.get("low"), declared.get("high")]):
            yield {name: value}


def _searches(trials: Sequence[Trial], seed: int) -> Iterator[tuple[str, list[Trial]]]:
    """Yield the searches of a seed, each with its trials."""
    for sampler in (RANDOM, TPE):
        mine = [trial for trial in trials if (trial.sampler, trial.seed) == (sampler, seed)]
        if mine:
            yield sampler, mine


def _differs(line: Line) -> str:
    return f"{said(line.difference, '+')}, {sure(line.p)}" if line.difference else ""


def _state(trial: Trial) -> str:
    return "pruned" if trial.pruned else "complete"


@dataclass(frozen=True)
class Searched:
    """The study after its searches."""

    settings: Tune
    trials: Sequence[Trial]
    TITLE: ClassVar[str] = TITLE
    QUESTION: ClassVar[str] = QUESTION
    PAPER: ClassVar[str] = PAPER
    EQUAL: ClassVar[str] = EQUAL
    VARIES: ClassVar[tuple[str, ...]] = VARIES

    def members(self, settings: Tune, images: int) -> list[Member]:
        return members(settings, images, self.trials)

    def derived(self, settings: Tune, outcomes: Sequence[Outcome], sample: Sample) -> list[Outcome]:
        """Return the outcomes, and those of the searches once more to be compared with each other."""
        again = [replace(o, member=replace(o.member, panel=SEARCHES)) for o in outcomes if o.member.label != DEFAULT]
        return [*outcomes, *again]

    def finding(self, lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str:
        """Return what each search is worth, TPE against random, and what became of the trials."""
        by = {(line.panel, line.label): line for line in lines}
        gains = [by[SETTINGS, sampler] for sampler in (RANDOM, TPE)]
        gained = any(line.difference and line.difference.value > 0 and line.p is not None and line.p < 0.05 for line in gains)
        worth = "; ".join(f"{line.label} is worth {_differs(line)}" for line in gains)
        pruned = sum(trial.pruned for trial in self.trials)
        return (
            f"Against the settings as they were {worth}. TPE instead of random search is worth {_differs(by[SEARCHES, TPE])}. "
            f"{'' if gained else 'So tuning gained nothing that can be told from chance. '}"
            f"Of {len(self.trials)} trials {pruned} were pruned; what decides most is {self._foremost()[0]}."
        )

    def draw(self, axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
        """Draw the best loss so far against what was spent, and the loss by the setting that decides most."""
        left, right = axes
        for seed in range(self.settings.seeds):
            for sampler, trials in _searches(self.trials, seed):
                spent, least, x, y = 0.0, math.inf, [], []
                for trial in trials:
                    spent += trial.share * self.settings.epochs
                    least = least if trial.pruned else min(least, trial.loss)
                    x.append(spent)
                    y.append(least)
                left.step(
                    x, y, where="post", color=colours[sampler], lw=1 if sampler == TPE else 3, label=sampler if seed == 0 else None
                )
        left.set_yscale("log")
        left.legend(fontsize=7)
        left.set_xlabel("epochs of all trials; a line for each seed", fontsize=8)
        left.set_title("the best loss on inner images so far", fontsize=9)
        self._scatter(right, colours)

    def _scatter(self, axis: Any, colours: dict[str, str]) -> None:
        name, share = self._foremost()
        for sampler in (RANDOM, TPE):
            for pruned in (False, True):
                points = [
                    (trial.values[name], trial.loss) for trial in self.trials
                    if (trial.sampler, trial.pruned) == (sampler, pruned) and math.isfinite(trial.loss)
                ]  # fmt: skip
                x, y = zip(*points, strict=True) if points else ((), ())
                is_name = "choices" in self.settings.space[name]
                fill = {"facecolors": "none", "alpha": 0.4} if pruned else {}
                axis.scatter(
                    [str(v) for v in x] if is_name else x, y, 12, edgecolors=colours[sampler], color=colours[sampler], **fill
                )
        if self.settings.space[name].get("log"):
            axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel(f"{name}: {share:.0%} of what decides; rings: pruned", fontsize=8)
        axis.set_title("loss on inner images by trial", fontsize=9)

    def _foremost(self) -> tuple[str, float]:
        """Return the setting that decides most among the trials drawn at random, and its share."""
        drawn = [trial for trial in self.trials if trial.sampler == RANDOM]
        return next(iter(importances(drawn, self.settings.space, _own(self.settings)).items()))

    def tables(self) -> dict[str, str]:
        """Return trials.csv: a row for each trial, with its values and what it came to."""
        rows = [
            [
                trial.sampler, trial.seed, trial.number, _state(trial), trial.outcome.curve[-1]["val_loss"],
                trial.outcome.curve[-1]["val_accuracy"], trial.steps, trial.share * self.settings.epochs,
                *(trial.values[name] for name in self.settings.space),
            ]
            for trial in self.trials
        ]  # fmt: skip
        return {"trials.csv": summary.table((*TRIALS, *self.settings.space), rows)}
