"""Whether DVC lacked the space to save what a stage has written: its own message says neither what it needed nor what is free."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from darkroom.config.dvc_graph import cache_folder, interpolated
from darkroom.config.yaml_files import read_yaml
from darkroom.core import shortage
from darkroom.core.errors import DarkroomError

PLACE = re.compile(r"\$\{item\.(\w+)\}")


def full_disk(began: float) -> DarkroomError | None:
    """Return the error of a full disk where the outputs of the last stage that has written since `began` (Unix time) do not fit
    into DVC's cache, else None. To be asked when DVC has failed, and no stage.
    """
    when, size = max((_written(paths) for paths in outputs().values()), default=(0.0, 0))
    cache = cache_folder()
    try:
        shortage.require_space(cache, size if when >= began else 0)
    except DarkroomError as error:
        return error
    return None


def outputs() -> dict[str, list[Path]]:
    """Return the outputs of each stage of dvc.yaml by its name."""
    params, result = read_yaml(Path("params.yaml")), {}
    for name, stage in read_yaml(Path("dvc.yaml"))["stages"].items():
        matrix = {key: interpolated(items, params) for key, items in stage.get("matrix", {}).items()}
        for values in product(*matrix.values()):
            item = dict(zip(matrix, map(str, values), strict=True))
            paths = [next(iter(out)) if isinstance(out, dict) else out for out in stage.get("outs", [])]
            label = "@".join([name, *(["-".join(item.values())] if item else [])])
            result[label] = [_filled(path, item) for path in paths]
    return result


def _filled(path: str, item: Mapping[str, str]) -> Path:
    """Return a path of dvc.yaml for an item of a matrix."""
    return Path(PLACE.sub(lambda match: item[match[1]], path))


def _written(paths: list[Path]) -> tuple[float, int]:
    """Return when files and folders were written last, and their bytes."""
    when, size = 0.0, 0
    for path in paths:
        for file in (path, *path.rglob("*")) if path.exists() else ():
            state: Any = os.lstat(file)
            when = max(when, state.st_mtime)
            size += state.st_size if file.is_file() and not file.is_symlink() else 0
    return when, size
