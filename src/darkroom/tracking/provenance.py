"""Where a run stands: its pipeline, its commit, and the digests of what it reads."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from darkroom.config import dvc_graph

SHELLS = ("sh", "bash", "dash", "zsh")


def stage_name(fallback: str) -> str:
    """Return DVC's name of the running stage, or the fallback for one started by hand."""
    return os.environ.get("DVC_STAGE", "").rpartition(":")[2] or fallback


def pipeline() -> dict[str, Any]:
    """Return what groups the runs of one pipeline: `key` and `name`, and where it is known the dvc process.

    DARKROOM_PIPELINE (set by flows), else the DVC experiment, else the dvc process above this one; a stage started by hand has
    none. The process is `pid`, `born` (as the
    function `born` has it) and `command` (its words). The key is another one on another machine, in another folder, and after
    a restart.
    """
    named = os.environ.get("DARKROOM_PIPELINE")
    if named:
        return {"key": _plain(named), "name": named.encode("utf-8", "replace").decode()}
    if not os.environ.get("DVC_STAGE"):
        return {}
    import psutil

    experiment = os.environ.get("DVC_EXP_NAME")
    for process in psutil.Process().parents():
        words = process.cmdline()
        if "dvc" in " ".join(words[:3]) and Path(words[0]).name not in SHELLS:
            since = born(process.pid)
            place = f"{platform.node()}:{_boot()}:{Path.cwd()}".encode("utf-8", "replace")
            key = f"{_plain(experiment or 'dvc')}-{process.pid}-{round(since)}-{hashlib.sha256(place).hexdigest()[:8]}"
            name = experiment or "dvc repro"
            return {"key": key, "name": name, "pid": process.pid, "born": since, "command": words}
    return {}


def _boot() -> str:
    """Return what is another text after every start of the machine, where the kernel has such; process ids begin anew then."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else ""


def _plain(name: str) -> str:
    """Return a name without what would end a quotation in MLflow's queries, or is no text."""
    return re.sub(r"[\"'`\\]", "_", name.encode("utf-8", "replace").decode())


def born(pid: int) -> float:
    """Return when a process was started, which tells it from a later one with its number; 0 where there is none.

    In ticks since the machine was started where the kernel says so, since the clock can be set meanwhile; else seconds since 1970.
    """
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return 0.0
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def is_alive(pid: int, since: float) -> bool:
    """Tell whether the process of this number that was started then still runs."""
    return bool(since) and abs(born(pid) - since) < 1


def commit(paths: Sequence[str] = ()) -> dict[str, str]:
    """Return the git commit and whether the tree, or these paths, have changes, as MLflow's tags; nothing outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", *paths],
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
    outs = {out["path"]: out.get("md5", "") for outs in dvc_graph.outputs(lock).values() for out in outs}
    found = {}
    for path in paths:
        for place in (path, *(str(parent) for parent in Path(path).parents)):
            if outs.get(place):
                found[path] = outs[place]
                break
    return found


def written(outs: list[dict[str, Any]]) -> str:
    """Return the sha256 that identifies what a stage wrote, from what dvc.lock holds of its outputs."""
    content = sorted(f"{out.get('md5', '')} {out['path']}\n" for out in outs)
    return hashlib.sha256("".join(content).encode()).hexdigest()
