"""The studies by name. The module of a study is imported when it is needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from darkroom.config.study_params import STUDIES
from darkroom.core.errors import ParamsError, nearest

if TYPE_CHECKING:
    from darkroom.studies.base import Study

NAMES = {name: entry.summary for name, entry in STUDIES.items()}


def load(name: str) -> type[Study]:
    """Return the class of a study. Raises ParamsError, with the nearest name, if there is no such study."""
    if name not in NAMES:
        raise ParamsError(f'there is no study "{name}"{nearest(name, NAMES)}', f"choose from {', '.join(NAMES)}")
    module = importlib.import_module(f"darkroom.studies.{STUDIES[name].module or name}")
    return cast("type[Study]", getattr(module, f"{name.title()}Study"))
