"""What is known of a pipeline while it runs and when it has ended; MLflow is not imported here.

DVC tells nobody that it has ended, and a stage that it skips runs no code of ours. So each pipeline has a folder
`.darkroom/journal/pipelines/<name>/`: `pipeline.json` from its first stage on, and from its end on `ended.json` and the
`dvc.lock` of that moment. Whoever sees first that its dvc process is gone writes these: the delivering process, a later
pipeline's first stage, or `darkroom sync`. They say which stages were up to date, whatever happens to the workspace
before MLflow can be reached.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from darkroom.config import dvc_graph
from darkroom.core.errors import DarkroomError
from darkroom.core.locks import hold
from darkroom.tracking import provenance
from darkroom.tracking.home import HOME

JOURNAL = HOME / ".darkroom/journal"
PIPELINES = JOURNAL / "pipelines"
LOCK = JOURNAL / "pipelines.lock"
WITH_VALUE = ("-n", "--name", "-S", "--set-param", "-j", "--jobs", "-m", "--message")  # options of dvc's whose value is no target


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's folder."""

    folder: Path

    @property
    def about(self) -> dict[str, Any]:
        """`key`, `name`, `since` (seconds since 1970), and perhaps its process, as `provenance.pipeline` gives them."""
        return json.loads((self.folder / "pipeline.json").read_text())

    @property
    def end(self) -> dict[str, Any] | None:
        """Once it has ended: `time` (seconds since 1970) and `stages`, which it may have found up to date."""
        file = self.folder / "ended.json"
        return json.loads(file.read_text()) if file.exists() else None

    @property
    def locked(self) -> dict[str, dict[str, Any]]:
        """The stages of dvc.lock as it was at the end."""
        return dvc_graph.locked(self.folder / "dvc.lock")

    @property
    def over(self) -> bool | None:
        """Whether it has ended; None where its process is not known and nobody has said so."""
        if self.end:
            return True
        about = self.about
        return not provenance.is_alive(about["pid"], about["born"]) if "pid" in about else None


def every() -> list[Pipeline]:
    """Return the pipelines that MLflow does not know to their end."""
    return [Pipeline(path.parent) for path in sorted(PIPELINES.glob("*/pipeline.json"))]


def begin(about: dict[str, Any]) -> None:
    """Note a pipeline, once, and close those that have ended before."""
    close_ended()
    with hold(LOCK):
        _noted(about)


def close_ended() -> None:
    """Close the pipelines whose process has ended, and keep what dvc.lock says of those that have not."""
    for pipeline in every():
        with contextlib.suppress(OSError, ValueError, KeyError):  # settled meanwhile, or damaged: the delivering process sees to it
            if pipeline.end:
                continue
            if not pipeline.over:
                _keep_lock(pipeline)  # DVC removes the folder of an experiment of its own before its process ends
                continue
            with hold(LOCK):
                if not pipeline.end:
                    close(pipeline)


def forget(pipeline: Pipeline) -> None:
    """Remove a pipeline that MLflow knows to its end, unless it has begun again."""
    gone = pipeline.folder.with_name(f".{pipeline.folder.name}.{os.getpid()}")
    with hold(LOCK):
        if not pipeline.end:
            return
        pipeline.folder.rename(gone)
    shutil.rmtree(gone)


def finish(about: dict[str, Any], stages: list[str]) -> None:
    """Say that a pipeline has ended which has looked at these stages, of which perhaps none had to run."""
    with hold(LOCK):
        close(_noted(about), stages)


def close(pipeline: Pipeline, stages: list[str] | None = None) -> None:
    """Note that a pipeline has ended, with dvc.lock as it is now. `stages`: what it looked at, else what its command says."""
    _keep_lock(pipeline)
    about = pipeline.about
    looked_at = _looked_at(about.get("command", []), about.get("names", [])) if stages is None else stages
    _write(pipeline.folder / "ended.json", {"time": time.time(), "stages": looked_at})


def _keep_lock(pipeline: Pipeline) -> None:
    """Copy dvc.lock as it is now, with its time: what ended later has not reached it."""
    lock, kept = Path(pipeline.about.get("folder", "."), "dvc.lock"), pipeline.folder / "dvc.lock"
    with contextlib.suppress(FileNotFoundError):
        if not kept.exists() or kept.stat().st_mtime != lock.stat().st_mtime:
            working = kept.with_name(f"dvc.lock.{os.getpid()}")
            shutil.copy2(lock, working)
            working.replace(kept)


def _looked_at(command: list[str], names: list[str]) -> list[str]:
    """Return every stage where a dvc command names none; nothing where it names some, or is not known."""
    targets = {*names, *(name.partition("@")[0] for name in names)}
    words = [word for before, word in pairwise(["", *command]) if before not in WITH_VALUE]
    named = any(word.rpartition(":")[2] in targets or set(word) & set("*?[") for word in words)
    return [] if named or not command else names


def _noted(about: dict[str, Any]) -> Pipeline:
    folder = PIPELINES / hashlib.sha256(about["key"].encode("utf-8", "replace")).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ended.json").unlink(missing_ok=True)
    if not (folder / "pipeline.json").exists():
        try:
            names = dvc_graph.names()
        except (DarkroomError, OSError, KeyError, TypeError):  # someone is editing dvc.yaml
            names = []
        _write(folder / "pipeline.json", {**about, "since": time.time(), "folder": str(Path.cwd()), "names": names})
    return Pipeline(folder)


def _write(file: Path, content: dict[str, Any]) -> None:
    working = file.with_suffix(f".{os.getpid()}")
    working.write_text(json.dumps(content))
    working.replace(file)
