"""Where a run stands: its pipeline, its commit, and the digests of what it reads."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any


def stage_name(fallback: str) -> str:
    """Return DVC's name of the running stage, or the fallback for one started by hand."""
    return os.environ.get("DVC_STAGE", "").rpartition(":")[2] or fallback


def pipeline() -> dict[str, str]:
    """Return what groups the runs of one pipeline: a key, and a name to show.

    DARKROOM_PIPELINE (set by flows and by make), else the DVC experiment, else the dvc process above this one, or above the
    command that this one works for (DARKROOM_COMMAND, set by `warm`); a stage started by hand has none.
    """
    named = os.environ.get("DARKROOM_PIPELINE")
    if named:
        return {"key": named, "name": named}
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        return {"key": f"exp-{experiment}", "name": experiment}
    if os.environ.get("DVC_STAGE"):
        import psutil

        for process in psutil.Process(int(os.environ.get("DARKROOM_COMMAND", os.getpid()))).parents():
            words = " ".join(process.cmdline()[:3])
            if "dvc" in words and not words.startswith(("/bin/sh", "sh ", "/bin/bash", "bash ")):
                started = round(process.create_time())
                return {"key": f"dvc-{process.pid}-{started}", "name": "dvc repro"}
    return {}


def born(pid: int) -> float:
    """Return when a process was started, which tells it from a later one with its number; 0 where there is none."""
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def is_alive(pid: int, since: float) -> bool:
    """Tell whether the process of this number that was started then still runs."""
    return bool(since) and abs(born(pid) - since) < 1


def commit() -> dict[str, str]:
    """Return the git commit and whether the tree has changes, as MLflow's tags; nothing outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"mlflow.source.git.commit": head.stdout.strip(), "darkroom.dirty": str(bool(dirty.stdout.strip())).lower()}


def digests(paths: list[str], lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """Return for each path the md5 that dvc.lock holds for it as an output, or for the folder above it.

    A path that no stage wrote has none.
    """
    outs: dict[str, str] = {}
    if lock.exists():
        import yaml

        # libyaml where it is there: the parser written in Python takes as long as all else that a stage starts with
        content: Any = yaml.load(lock.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        for stage in content.get("stages", {}).values():
            outs.update({out["path"]: out.get("md5", "") for out in stage.get("outs", [])})
    found = {}
    for path in paths:
        for place in (path, *(str(parent) for parent in Path(path).parents)):
            if outs.get(place):
                found[path] = outs[place]
                break
    return found
