"""The origin of a run: the commit, and the digests of its inputs and outputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from darkroom.config import dvc_graph
from darkroom.core import git


def stage_name(fallback: str) -> str:
    """Return DVC's name of the running stage; the fallback where DVC does not run it."""
    return os.environ.get("DVC_STAGE", "").rpartition(":")[2] or fallback


def commit_tags() -> dict[str, str]:
    """Return MLflow's tags of the git commit and of changes to it; nothing outside a repository."""
    commit = git.commit()
    return {"mlflow.source.git.commit": commit.sha, "darkroom.dirty": str(commit.is_dirty).lower()} if commit else {}


def digests(paths: list[str], lock: Path = dvc_graph.LOCK) -> dict[str, str]:
    """Return the md5 of each path, or of the output that contains it, where dvc.lock has it."""
    outs = {path: md5 for stage in dvc_graph.read_lock(lock).values() for path, md5 in stage.outs.items() if md5}
    nearest = {path: next((str(p) for p in (Path(path), *Path(path).parents) if str(p) in outs), None) for path in paths}
    return {path: outs[out] for path, out in nearest.items() if out}


def outputs_digest(outs: Mapping[str, str]) -> str:
    """Return a sha256 that identifies a stage's outputs: paths with their md5."""
    return hashlib.sha256("".join(sorted(f"{md5} {path}\n" for path, md5 in outs.items())).encode()).hexdigest()
