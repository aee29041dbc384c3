"""The studies by name: each is a module with the same names in it, imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from darkroom.errors import ParamsError, nearest

if TYPE_CHECKING:
    from darkroom.studies.members import Member, Outcome
    from darkroom.studies.summary import Line

NAMES = {
    "initialization": "ten ways to draw the first weights",
    "architecture": "families at equal multiply-adds: accuracy against what they cost",
    "depth": "plain against residual networks, shallow and deep",
    "bottleneck": "Inception's modules with 1×1 convolutions before the wide ones, and without",
    "separable": "depthwise-separable convolutions against standard ones, at equal width and at equal cost",
}


class Study(Protocol):
    """What a study's module has.

    `EQUAL` says what all members have in common, `VARIES` which fields of a member differ. `draw` fills the two axes that the
    picture leaves to the study.
    """

    TITLE: str
    QUESTION: str
    PAPER: str
    EQUAL: str
    VARIES: tuple[str, ...]

    def members(self, settings: Any, images: int) -> list[Member]: ...
    def finding(self, lines: Sequence[Line], outcomes: Sequence[Outcome]) -> str: ...
    def draw(self, axes: Sequence[Any], outcomes: Sequence[Outcome], colours: dict[str, str]) -> None: ...


def study(name: str) -> Study:
    """Return a study; ParamsError with the nearest name where there is none."""
    if name not in NAMES:
        raise ParamsError(f'there is no study "{name}"{nearest(name, NAMES)}', f"there are {', '.join(NAMES)}")
    return cast(Study, importlib.import_module(f"darkroom.studies.{name}"))
