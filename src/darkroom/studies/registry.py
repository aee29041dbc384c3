"""The studies by name: each is a module with the same names in it, imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from darkroom.core.errors import ParamsError, nearest

if TYPE_CHECKING:
    from darkroom.studies.run_config import Member, Outcome, Sample
    from darkroom.studies.summary import Line

NAMES = {
    "initialization": "ten ways to draw the first weights",
    "architecture": "families at equal multiply-adds: accuracy against what they cost",
    "depth": "plain against residual networks, shallow and deep",
    "bottleneck": "Inception's modules with 1×1 convolutions before the wide ones, and without",
    "separable": "depthwise-separable convolutions against standard ones, at equal width and at equal cost",
    "scaling": "deeper, wider, larger images, or all three, at equal multiply-adds",
    "augmentation": "policies against none, and how many views of an image are enough",
    "transfer": "what is trained of a network, on how many images, and where its first weights come from",
    "optimizer": "optimizers, schedules and batch sizes, each with the learning rate found for it",
    "practice": "several crops of an image and several networks together, against one",
    "tune": "Optuna's search for settings against a random one and against none, at equal cost",
}


class Study(Protocol):
    """What a study's module has.

    `EQUAL` says what all members have in common, `VARIES` which fields of a member differ. `draw` fills the two axes that the
    picture leaves to the study. A module may also have `samples`, what else members are trained on, by its names; and
    `derived`, which makes of the members' outcomes those that are compared. One whose members have to be searched for has
    `searched`, which returns the study as it is then; that may have `tables`, further files.
    """

    TITLE: str
    QUESTION: str
    PAPER: str
    EQUAL: str
    VARIES: tuple[str, ...]

    def members(self, settings: Any, images: int) -> list[Member]: ...
    def finding(self, lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str: ...
    def draw(self, axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None: ...


def samples(study: Study, settings: Any) -> dict[str, str]:
    """Return what members of a study are trained on beside the study's own images: a name for each source."""
    found: dict[str, str] = study.samples(settings) if hasattr(study, "samples") else {}
    return found


def searched(
    study: Study, settings: Any, samples: Mapping[str, Sample], accelerator: str, on_done: Callable[[Outcome, dict[str, str]], None]
) -> Study:
    """Return the study with the members that a search finds for it; `on_done` gets what was trained for that, and tags of it."""
    found: Study = study.searched(settings, samples, accelerator, on_done) if hasattr(study, "searched") else study
    return found


def tables(study: Study) -> dict[str, str]:
    """Return what a study writes beside what all of them do: the text of each file by its name."""
    found: dict[str, str] = study.tables() if hasattr(study, "tables") else {}
    return found


def derived(study: Study, settings: Any, outcomes: Sequence[Outcome], sample: Sample) -> Sequence[Outcome]:
    """Return the outcomes that a study compares: those of its members, or what it makes of them."""
    found: Sequence[Outcome] = study.derived(settings, outcomes, sample) if hasattr(study, "derived") else outcomes
    return found


def study(name: str) -> Study:
    """Return a study; ParamsError with the nearest name where there is none."""
    if name not in NAMES:
        raise ParamsError(f'there is no study "{name}"{nearest(name, NAMES)}', f"there are {', '.join(NAMES)}")
    return cast(Study, importlib.import_module(f"darkroom.studies.{name}"))
