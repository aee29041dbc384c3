"""A stage that runs again in a folder of its own, from the inputs of its last run, and what came of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from darkroom.config import dvc_cache, dvc_graph, params
from darkroom.core import file_difference

SCRATCH = Path(".darkroom/verify")
PLACE = SCRATCH.joinpath(*"abcdef", "project")  # so deep that a source of `../../photos` has its place in SCRATCH
FILES = ("dvc.yaml", "dvc.lock", "params.yaml", "code.yaml")  # the last one in a project elsewhere than the repository
CODE = "src/"
MEASURED = ("models/cost", "reports/cost.csv", "reports/leaderboard.csv", "reports/report.html")  # they hold seconds
IDENTICAL, CLOSE, DIFFERENT, SECONDS = "identical", "within tolerance", "different", "measured seconds"


@dataclass(frozen=True)
class Comparison:
    """A file that a stage wrote twice; `difference` is that of its numbers, where they can be compared."""

    stage: str
    file: str
    outcome: str
    difference: float | None = None


class RerunError(Exception):
    """A stage cannot be compared, or failed when it ran again; the text is the reason, or the end of its output."""


def run(stage: str, locked: dvc_graph.LockedStage, tolerance: float) -> list[Comparison]:
    """Run a stage of dvc.lock again, and compare its outputs with those that dvc.lock has; raises RerunError."""
    for out, md5 in locked.outs.items():
        if md5.endswith(dvc_cache.FOLDER) and not dvc_graph.cache_path(md5).is_file():
            raise RerunError(f"DVC's cache lacks the list of files of {out}, so that nothing can be compared: `dvc fetch {stage}`")
    shutil.rmtree(SCRATCH, ignore_errors=True)
    try:
        _prepare(locked)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        outer = ("DVC_STAGE", "DARKROOM_PIPELINE", "DARKROOM_RUN_KEY")
        kept = {key: value for key, value in os.environ.items() if key not in outer}
        done = subprocess.run(
            locked.command, shell=True, cwd=PLACE, env=kept | {"PATH": path, "DARKROOM_TRACKING": "off"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        if done.returncode:
            raise RerunError("\n".join(done.stdout.strip().splitlines()[-12:]))
        return list(_compare(stage, locked, tolerance))
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)


def _prepare(locked: dvc_graph.LockedStage) -> None:
    """Make a folder in which a stage finds its inputs, as links, and no outputs."""
    PLACE.mkdir(parents=True)
    for name in filter(os.path.exists, FILES):
        shutil.copyfile(name, PLACE / name)
    for dep in dict.fromkeys((*locked.deps, str(params.OWN_CODE), str(params.KEPT_CODE))):
        target, source = Path(os.path.normpath(PLACE / dep)), Path(dep).absolute()
        if not Path(dep).is_absolute() and not dep.startswith(CODE) and source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source, source.is_dir())
    for out in locked.outs:
        (PLACE / out).parent.mkdir(parents=True, exist_ok=True)


def _compare(stage: str, locked: dvc_graph.LockedStage, tolerance: float) -> Iterator[Comparison]:
    """Yield a comparison for each file that either run wrote."""
    expected = {str(file.path): file for file in dvc_cache.files(Path()) if file.stage == stage and file.path}
    outputs = {str(path.relative_to(PLACE)): path for out in locked.outs for path in _files(PLACE / out)}
    for name in sorted(expected.keys() | outputs.keys()):
        if name not in expected or name not in outputs:
            yield Comparison(stage, name, DIFFERENT)
        elif dvc_graph.md5(outputs[name]) == expected[name].md5:
            yield Comparison(stage, name, IDENTICAL)
        else:
            difference = _difference(expected[name], outputs[name])
            is_close = difference is not None and difference <= tolerance
            yield Comparison(stage, name, SECONDS if name.startswith(MEASURED) else CLOSE if is_close else DIFFERENT, difference)


def _difference(expected: dvc_cache.File, output: Path) -> float | None:
    """Return how far the numbers of a file are from those of the first run, where that is still in DVC's cache or in place."""
    copies = [path for path in (expected.object, expected.path) if path and path.is_file()]
    for first in [path for path in copies if dvc_graph.md5(path) == expected.md5][:1]:
        named = SCRATCH / f"first{output.suffix}"  # an object of DVC's cache has no suffix
        named.unlink(missing_ok=True)
        named.symlink_to(first.absolute())
        return file_difference.largest(named, output)
    return None


def _files(path: Path) -> Iterable[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
