"""Darkroom develops an image classifier from a folder of photographs.

    import darkroom as dr
    project = dr.open(".")
    project.leaderboard()
    project.model("champion").predict("new.jpg")

`darkroom.api` has what is named here; it is imported when a name is first used, so that commands start at once.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darkroom.api.heads import Head, train_head
    from darkroom.api.model import Model
    from darkroom.api.project import Project, open
    from darkroom.core.errors import DarkroomError

__version__ = "1.0.0"  # the only place: pyproject.toml reads it
__all__ = ["DarkroomError", "Head", "Model", "Project", "__version__", "open", "train_head"]

_PLACES = {
    "DarkroomError": "core.errors", "Head": "api.heads", "train_head": "api.heads", "Model": "api.model",
    "Project": "api.project", "open": "api.project",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = resolve_name(f"{__name__}.{_PLACES[name]}:{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
