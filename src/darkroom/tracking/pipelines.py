"""Pipelines: what groups the runs of stages that one command started (`pipeline_runs` has their runs in MLflow).

DVC announces neither its end nor the stages that it skips. So each pipeline has a folder in
`.darkroom/journal/pipelines/` with `pipeline.json` and a copy of `dvc.lock`. Whoever first notices that its
`dvc` process is gone (the uploader, the first stage of a later pipeline, or `darkroom sync`) closes it. The
copy tells which stages were up to date, whatever happens to the workspace before MLflow can be reached.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import psutil

from darkroom.config import dvc_graph
from darkroom.core import atomic, git, json_files, strict_json
from darkroom.core.errors import DarkroomError
from darkroom.core.locks import hold
from darkroom.tracking.home import HOME, RECORDS

PIPELINES = RECORDS / "pipelines"
LOCK = RECORDS / "pipelines.lock"
FILE, LOCKFILE = "pipeline.json", "dvc.lock"
UNNAMED = "dvc repro"  # the name of a pipeline that nobody has named
SHELLS = ("sh", "bash", "dash", "zsh")
TAKES_VALUE = ("-n", "--name", "-S", "--set-param", "-j", "--jobs", "-m", "--message")  # of dvc's options
CLOCK = 2.0  # seconds by which the start of a process may seem to change, since the system clock is adjusted


@dataclass(frozen=True)
class Pipeline:
    """A pipeline; times are in seconds since 1970."""

    key: str
    name: str
    since: float = field(default_factory=time.time)
    folder: str = field(default_factory=lambda: os.path.relpath(Path.cwd(), HOME.resolve()))  # the workspace, seen from HOME
    names: list[str] = field(default_factory=list)  # of all stages of dvc.yaml
    pid: int = 0  # of its dvc process; 0 where it has none
    started: float = 0.0  # of that process
    command: list[str] = field(default_factory=list)
    ended: float = 0.0  # 0 until it has ended
    checked: list[str] = field(default_factory=list)  # set at its end: stages that may have been up to date

    @property
    def path(self) -> Path:
        """The folder of its files."""
        return PIPELINES / hashlib.sha256(self.key.encode()).hexdigest()[:16]

    @property
    def lock(self) -> Path:
        """The dvc.lock of its workspace."""
        return HOME / self.folder / LOCKFILE

    @property
    def is_running(self) -> bool:
        """Whether its dvc process is known and runs."""
        if self.ended or not self.pid:
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < CLOCK
        except psutil.NoSuchProcess:
            return False

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended; without a process only `darkroom finished` tells."""
        return bool(self.ended) or (bool(self.pid) and not self.is_running)


def folders() -> list[Path]:
    """Return the folders of the pipelines that MLflow does not have to their end."""
    return sorted(path.parent for path in PIPELINES.glob(f"*/{FILE}"))


def read(folder: Path) -> Pipeline:
    """Return the pipeline of a folder. Raises OSError, or ValueError where its file is damaged."""
    content = strict_json.loads((folder / FILE).read_text(encoding="utf-8"))
    return json_files.adapter(Pipeline).validate_python(content)  # type: ignore[no-any-return]


def readable() -> list[Pipeline]:
    """Return the pipelines whose files are whole; the uploader sets the others aside."""
    pipelines = []
    for folder in folders():
        with suppress(OSError, ValueError):
            pipelines.append(read(folder))
    return pipelines


def join() -> Pipeline | None:
    """Return the pipeline that this process belongs to, under way from now on; None outside DVC.

    A pipeline with the same key, or with the same running process and folder, goes on. Those that have ended
    are closed. A stage of a pipeline that another machine leads joins it without files here: that machine ends it.
    """
    close_ended()
    pipeline = current()
    if pipeline is None or run_key():
        return pipeline
    with hold(LOCK):
        for other in readable():
            if other.key == pipeline.key or (other.is_running and (other.pid, other.folder) == (pipeline.pid, pipeline.folder)):
                pipeline = replace(other, ended=0.0, checked=[])
                break
        else:
            with suppress(DarkroomError, OSError, KeyError, TypeError):  # dvc.yaml is being edited
                pipeline = replace(pipeline, names=dvc_graph.stage_names())
        _write(pipeline)
    return pipeline


def current() -> Pipeline | None:
    """Return the pipeline that DARKROOM_PIPELINE names, else a new one for the dvc process above this one."""
    if name := os.environ.get("DARKROOM_PIPELINE"):
        return Pipeline(_plain(name), _plain(name))
    if not os.environ.get("DVC_STAGE"):
        return None
    for process in psutil.Process().parents():
        command = process.as_dict(["cmdline"])["cmdline"] or []
        if "dvc" in " ".join(command[:3]) and Path(command[0]).name not in SHELLS:
            name = _plain(experiment())
            key = f"{name or 'dvc'}-{process.pid}-{os.urandom(6).hex()}"
            return Pipeline(key, name or UNNAMED, pid=process.pid, started=process.create_time(), command=command)
    return None


def run_key() -> str:
    """Return the key of a stage's run that DARKROOM_RUN_KEY gives; empty where this machine leads the pipeline.

    It is the same wherever the stage runs. So a stage that is killed on one machine and runs again on another has one run.
    """
    return os.environ.get("DARKROOM_RUN_KEY", "")


def experiment() -> str:
    """Return the name of the DVC experiment that this process belongs to; empty outside of one."""
    return os.environ.get("DVC_EXP_NAME", "")


def _plain(name: str) -> str:
    """Return a name without quotes, which MLflow's queries cannot escape."""
    return re.sub(r"[\"'`\\]", "_", name.encode("utf-8", "replace").decode())


def close_ended() -> None:
    """Close the pipelines whose process has ended, and copy dvc.lock for the others."""
    for pipeline in readable():
        with suppress(OSError):  # uploaded meanwhile
            if not pipeline.has_ended:
                _copy_lock(pipeline)  # DVC removes the folder of an experiment before its process ends
            elif not pipeline.ended:
                close(pipeline)


def ended() -> set[str]:
    """Return the keys of the pipelines that have ended, which are closed: no stage of theirs writes a record any more."""
    close_ended()
    return {pipeline.key for pipeline in readable() if pipeline.has_ended}


def close(pipeline: Pipeline, stages: list[str] | None = None) -> None:
    """Note that a pipeline has ended, once, with dvc.lock as it is now.

    `stages` are those that it checked; by default its command tells.
    """
    checked = _checked(pipeline.command, pipeline.names) if stages is None else stages
    with hold(LOCK):
        if not read(pipeline.path).ended:
            _copy_lock(pipeline)
            _restore_lock(pipeline)
            _write(replace(pipeline, ended=time.time(), checked=checked))


def forget(pipeline: Pipeline) -> None:
    """Remove the files of a pipeline that MLflow has to its end, unless it has begun again."""
    with hold(LOCK):
        if read(pipeline.path).ended:
            (pipeline.path / FILE).unlink()
            shutil.rmtree(pipeline.path)


def _copy_lock(pipeline: Pipeline) -> None:
    """Copy dvc.lock with its modification time, which tells what had ended when DVC wrote it."""
    lock, copy = pipeline.lock, pipeline.path / LOCKFILE
    with suppress(FileNotFoundError):
        if not copy.exists() or copy.stat().st_mtime != lock.stat().st_mtime:
            with atomic.new_file(copy) as working:
                shutil.copy2(lock, working)


def _restore_lock(pipeline: Pipeline) -> None:
    """Write dvc.lock as it is in the commit of an experiment: DVC may remove its folder before anybody copies the last one."""
    if not pipeline.lock.exists():
        content = git.experiment_file(pipeline.name, LOCKFILE, pipeline.since)
        if content:
            with atomic.new_file(pipeline.path / LOCKFILE) as working:
                working.write_text(content + "\n", encoding="utf-8")


def _checked(command: list[str], names: list[str]) -> list[str]:
    """Return all stages where a dvc command has no targets, else none: they are not known."""
    targets = {*names, *(name.partition("@")[0] for name in names)}
    words = [word for before, word in pairwise(["", *command]) if before not in TAKES_VALUE]
    has_targets = any(word.rpartition(":")[2] in targets or set(word) & set("*?[") for word in words)
    return names if command and not has_targets else []


def _write(pipeline: Pipeline) -> None:
    atomic.write_json(pipeline.path / FILE, asdict(pipeline))
