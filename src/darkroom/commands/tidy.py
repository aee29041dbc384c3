"""Remove outputs of backbones that params.yaml no longer lists, scratch files of killed processes, and old history."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click
import psutil

from darkroom.config import dvc_gc, dvc_repair, params
from darkroom.config.dvc_graph import read_lock
from darkroom.core import atomic, locks, strict_json
from darkroom.core.command_line import Command
from darkroom.core.errors import WorkspaceError, without_login
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import home

with lazy_imports():
    from darkroom.tracking import backups, history, records

DVC_LOCK = Path(".dvc/tmp/lock")  # held by DVC but while a stage runs
DVC_WAIT = 10.0  # seconds
DVC_LOCKS = Path(".dvc/tmp/rwlock")  # the paths that running stages read and write, with their processes
KEEP_VERSIONS = 10
RAW, MAPS, SCRATCH = Path("data/raw"), Path(".darkroom/maps"), Path(".darkroom/scratch/sources")
ROOTS = (Path("data"), Path("models"), Path("reports"), Path(".darkroom"))


@click.command(cls=Command)
@click.option("--dry-run", is_flag=True, help="only list what would be removed")
@click.option(
    "--older-than", type=click.FloatRange(min=0, min_open=True), metavar="DAYS",
    help="also remove versions and runs of MLflow and downloads that are older and that nothing refers to, older files that were "
    "set aside as damaged, and results in DVC's cache, of any age, that no commit, experiment, workspace or worktree refers to",
)  # fmt: skip
@click.option(
    "--keep-versions", type=click.IntRange(min=1), default=KEEP_VERSIONS, metavar="N",
    help="with --older-than: versions that stay whatever their age, and as many former champions",
)  # fmt: skip
def command(dry_run: bool, older_than: float | None, keep_versions: int) -> None:
    """Remove outputs of backbones that params.yaml no longer lists, and scratch files of killed
    processes; with --older-than also old history.

    Waits for a run of the workspace to end; refuses to work beside a stage that `dvc repro` runs.
    """
    with locks.workspace("darkroom tidy", lambda text: click.echo(text, err=True)):
        with nullcontext() if dry_run else _no_dvc():
            paths = leftovers(params.read().backbones)
            _remove_all(paths, dry_run)
            if older_than is not None:
                before = time.time() - 86400 * older_than
                _remove_all([*unused_downloads(before), *set_aside(before)], dry_run)
                _remove_history(before, keep_versions, dry_run)
        if older_than is not None:
            dvc_gc.collect(click.echo, dry_run)  # it takes DVC's lock itself
    if older_than is not None:
        return
    if not paths:
        click.echo("nothing to remove")
    elif not dry_run and any(path.suffix != atomic.PARTIAL for path in paths):
        click.echo("the next `dvc repro` evaluates again; DVC's cache still has these:")
        click.echo(f"`{dvc_gc.COMMAND}` frees what no commit and no experiment needs")


def _remove_all(paths: list[Path], dry_run: bool) -> None:
    for path in paths:
        size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
        click.echo(f"{'would remove' if dry_run else 'removed'} {path} ({size / 2**20:.1f} MiB)")
        if not dry_run:
            _remove(path)


def unused_downloads(before: float) -> list[Path]:
    """Return the copies of versions and manifests that nothing has read since `before`, in seconds since 1970."""
    paths = [path for folder in (home.VERSIONS, home.MANIFESTS) for path in sorted(folder.glob("*"))]
    return [path for path in paths if path.suffix != atomic.PARTIAL and path.stat().st_mtime < before]


def set_aside(before: float) -> list[Path]:
    """Return what was set aside before a time in seconds since 1970: damaged records, databases and dvc.lock, and the copies of
    the database that upgrades keep."""
    damaged = [path for path in sorted(home.DAMAGED.glob("*")) if _written(path) < before]
    locks = [path for path in (dvc_repair.DAMAGED_LOCK,) if path.exists() and path.stat().st_mtime < before]
    return [*damaged, *locks, *backups.former(before)]


def _written(record: Path) -> float:
    """Return when a record was written; each `darkroom sync` moves its folder and writes the reason again."""
    files = [path for path in record.rglob("*") if path.is_file() and path.name != records.REASON]
    return max((path.stat().st_mtime for path in files or [record]), default=0.0)


def _remove_history(before: float, keep: int, dry_run: bool) -> None:
    """Remove what MLflow has from before, but what is protected; a server's history is its owner's."""
    file = home.database()
    if file is None or not home.is_own(file):
        click.echo(f"MLflow at {without_login(home.uri())} is not the project's own: its history stays")
        return
    if not file.exists():
        return
    name = params.read().register_.name
    lockfiles = [folder / "dvc.lock" for folder in (Path(), *dvc_gc.worktrees())]
    current = {stage.outputs_sha256 for file in lockfiles for stage in read_lock(file).values()}
    old = history.expired(name, before, keep, sorted(current))
    if not dry_run:
        history.remove(name, old.versions, old.runs)
    versions = f"{len(old.versions)} versions" + (f" ({', '.join(old.versions)})" if old.versions else "")
    click.echo(f"{'would remove' if dry_run else 'removed'} {versions} and {len(old.runs)} runs from MLflow")


def leftovers(backbones: list[str]) -> list[Path]:
    """Return outputs of backbones in dvc.lock that are not among `backbones`, and what killed processes left."""
    paths = set(_abandoned())
    for stage, locked in read_lock().items():
        name, _, backbone = stage.partition("@")
        if backbone and name != "fetch" and backbone not in backbones:
            paths |= {Path(path) for path in locked.outs}
    kept = {name.replace("/", "-") for name in backbones}  # as `BackboneSpec.label`; which network `hf/NAME` has, its folder says
    is_hub = any(name.startswith("hf/") for name in backbones)
    paths |= {
        path for path in MAPS.glob("*")
        if path.suffix != atomic.PARTIAL and path.name not in kept and not (is_hub and path.name.startswith("timm-"))
    }  # fmt: skip
    return sorted(path for path in paths if path.exists())


def _abandoned() -> Iterator[Path]:
    """Yield the scratch folders of processes that have ended, and the scratch files of an earlier version."""
    for top in ROOTS:
        for folder, folders, files in os.walk(top):
            scratch = set(filter(atomic.is_scratch, (*folders, *files)))
            for path in (Path(folder, name) for name in scratch):
                # data/raw has people's own files, among which a scratch folder is known by its lock
                theirs = Path(folder) == RAW and not (path / "lock").exists()
                if not theirs and (path.is_file() or atomic.is_abandoned(path)):
                    yield path
            folders[:] = [] if Path(folder) == RAW else [name for name in folders if name not in scratch]
    for path in SCRATCH.glob("[0-9]*-*"):  # of an earlier version
        if not psutil.pid_exists(int(path.name.partition("-")[0])):
            yield path


def _remove(path: Path) -> None:
    if path.suffix == atomic.PARTIAL and path.is_dir():
        atomic.recover(path)  # its output may be complete, and the old one already moved aside
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _no_dvc() -> Iterator[None]:
    """Keep DVC from starting a stage during a block: it takes its own lock, and none of ours.

    Raises WorkspaceError, to be retried, where it works in this workspace now.
    """
    with locks.hold(DVC_LOCK, wait=DVC_WAIT) as acquired:
        if not acquired:
            raise WorkspaceError("DVC is at work here", "run `darkroom tidy` again when it has ended", retryable=True)
        _check_no_stage_runs()
        yield


def _check_no_stage_runs() -> None:
    """Raise WorkspaceError where `dvc repro` runs a stage of this workspace, which holds no lock of ours."""
    try:
        content = strict_json.loads(DVC_LOCKS.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return
    for uses in content.values():
        for holder in [uses.get("write") or {}, *(uses.get("read") or [])]:
            if psutil.pid_exists(holder.get("pid", -1)):
                raise WorkspaceError(
                    f"`{holder.get('cmd', 'a DVC command')}` is running here (process {holder['pid']})",
                    "run `darkroom tidy` again when it has ended", retryable=True,
                )  # fmt: skip
