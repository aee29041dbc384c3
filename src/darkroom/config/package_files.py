"""Files that come with Darkroom: recipes, the params of the studies, the pages of the course, and what a project begins with."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
FLOWS = "darkroom_pipelines"  # what the package `pipelines` of the repository is called in a wheel
SHIPPED = PACKAGE / "project" / "files"  # in a wheel; setup.py puts them there


def root() -> Path:
    """Return the folder that has the files: in an installed package, or the repository that the package is part of."""
    return SHIPPED if SHIPPED.is_dir() else PACKAGE.parents[1]


def find(path: Path) -> Path:
    """Return a file or folder of the project in this folder, or where it has none, the one that comes with Darkroom."""
    return path if path.exists() else root() / path
