"""Verify results: run stages again and compare their outputs, or hash again what dvc.lock names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from darkroom.commands.param_types import STAGE
from darkroom.core import locks, strict_json
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import WorkspaceError, nearest, printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.config import dvc_cache, dvc_graph, stage_rerun
    from darkroom.core import environment, progress, tables
    from darkroom.tracking import entities, queries

LOCKS = (Path("dvc.lock"), Path("studies/dvc.lock"))  # each of a DVC repository of its own
SHOWN = 8  # digits of an md5
LISTED = 10  # files of a stage that are listed
TOLERANCE = 1e-4
NOT_BY_DEFAULT = ("register", "fetch")  # one writes to MLflow, the other may download


@click.command(cls=Command)
@click.argument("stages", nargs=-1, type=STAGE)
@click.option("--cache", is_flag=True, help="hash the objects of DVC's cache, and the outputs in the workspace; nothing runs")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=TOLERANCE,
    help="largest difference of numbers that counts as the same result, relative to the largest number of a file",
)  # fmt: skip
@json_option
def command(stages: tuple[str, ...], cache: bool, tolerance: float, as_json: bool) -> int:
    """Verify results: run STAGES again, each from the inputs that dvc.lock has, and compare what they write.

    They run in a folder of their own; nothing in the project changes. Without STAGES all run, but for `register` and `fetch`.
    Where something differs, the command says what has changed: code, params, libraries, the processor.

    With `--cache` nothing runs: each file that dvc.lock names is hashed again, and those that differ are listed with the
    remedy. DVC trusts its cache without reading it. Files that were changed since dvc.lock was written differ, too.

    Exit code: 0 all is identical or within the tolerance, 1 something differs.
    """
    if cache and stages:
        raise click.UsageError("--cache takes no stages")
    roots = [lock.parent for lock in LOCKS if lock.exists()]
    if not roots:
        raise WorkspaceError(f"there is no dvc.lock here ({Path.cwd()})", "run the command in the project, after `dvc repro`")
    if cache and not os.access(".", os.W_OK):  # nothing can run here
        return _verify_files(roots, as_json)
    with locks.workspace("darkroom verify", lambda text: click.echo(text, err=True)):
        return _verify_files(roots, as_json) if cache else _verify_stages(stages, tolerance, as_json)


def _verify_files(roots: list[Path], as_json: bool) -> int:
    """Hash again what dvc.lock names; return the exit code."""
    files = [file for root in roots for file in dvc_cache.files(root)]
    with progress.Progress("verify", len(dvc_cache.present(files)), "files") as shown:
        result = dvc_cache.examine(files, shown.advance)
    if as_json:
        tables.print_json(asdict(result))
        return int(bool(result.damaged))
    if result.damaged:
        cells = [(printable(item.file), item.expected[:SHOWN], item.actual[:SHOWN], item.remedy) for item in result.damaged]
        tables.show(("file", "md5", "found", "remedy"), cells)
    absent = f"; {result.absent:,} are in neither place: `dvc pull` fetches them from a remote" if result.absent else ""
    click.echo(
        f"{result.objects:,} objects of DVC's cache and {result.outputs:,} outputs read, {result.bytes / 1e6:,.1f} MB: "
        f"{len(result.damaged) or 'none'} damaged or changed{absent}"
    )
    return int(bool(result.damaged))


def _verify_stages(names: tuple[str, ...], tolerance: float, as_json: bool) -> int:
    """Run stages again; return the exit code."""
    locked = {name: stage for name, stage in dvc_graph.read_lock().items() if name in dvc_graph.stage_names()}
    for name in names:
        if name not in locked:
            raise WorkspaceError(f'dvc.lock has no stage "{name}"{nearest(name, locked)}', f"choose from {', '.join(locked)}")
    chosen = names or [name for name in locked if name.partition("@")[0] not in NOT_BY_DEFAULT]
    changed = _changes()
    rows: list[dict[str, Any]] = []
    with progress.Progress("verify", len(chosen), "stages") as shown:
        for name in chosen:
            rows.append(_verify_stage(name, locked[name], changed.get(name, []), tolerance))
            shown.advance(note=f"{name}: {rows[-1]['result']}")
    if as_json:
        tables.print_json(rows)
    else:
        _print_stages(rows)
    return int(any(row["result"] not in (stage_rerun.IDENTICAL, stage_rerun.CLOSE) for row in rows))


def _verify_stage(name: str, locked: dvc_graph.LockedStage, changed: list[str], tolerance: float) -> dict[str, Any]:
    """Return the row of a stage: its files by outcome, the largest difference, and what may be its cause."""
    row: dict[str, Any] = {"stage": name, "result": "not run", "identical": 0, "files": [], "difference": None, "causes": changed}
    if changed:  # it would be another run, not the same again
        return row
    try:
        files = stage_rerun.run(name, locked, tolerance)
    except stage_rerun.RerunError as error:
        return row | {"result": "failed", "causes": [str(error)]}
    outcomes = Counter(file.outcome for file in files)
    order = (stage_rerun.DIFFERENT, stage_rerun.CLOSE, stage_rerun.IDENTICAL)
    result = next((outcome for outcome in order if outcomes[outcome]), stage_rerun.IDENTICAL)
    others = [asdict(file) for file in files if file.outcome != stage_rerun.IDENTICAL]
    differences = [
        file.difference
        for file in files
        if file.difference is not None and file.outcome in (stage_rerun.CLOSE, stage_rerun.DIFFERENT)
    ]
    causes = [] if result == stage_rerun.IDENTICAL else _environment_changes(name, locked)
    return row | {
        "result": result, "identical": outcomes[stage_rerun.IDENTICAL], "files": others,
        "difference": max(differences, default=None), "causes": causes,
    }  # fmt: skip


def _changes() -> dict[str, list[str]]:
    """Return what DVC reports as changed, by stage."""
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True)
    try:
        content = strict_json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise WorkspaceError(f"`dvc status` failed: {done.stderr.strip()[-500:]}", "run it to see what it reports") from error
    changed: dict[str, list[str]] = {}
    for name, reasons in content.items():
        for reason in reasons:
            for kind, items in reason.items() if isinstance(reason, dict) else [(reason, {})]:
                if kind in ("changed deps", "changed command"):
                    changed.setdefault(name, []).extend(_describe(items) if items else [kind])
    return changed


def _describe(items: Any) -> list[str]:
    """Return the changed dependencies of a stage in words: `src/darkroom/training modified`, `param transfer.lr modified`."""
    words = []
    for path, state in items.items():
        words += [f"param {key} {value}" for key, value in state.items()] if isinstance(state, dict) else [f"{path} {state}"]
    return words


def _environment_changes(name: str, locked: dvc_graph.LockedStage) -> list[str]:
    """Return how the environment differs from that of the run in MLflow that made the outputs."""
    recorded: dict[str, str] = {}
    with suppress(WorkspaceError, OSError):
        for run in queries.runs():
            if run.stage == name and not run.reused and run.tags.get(entities.OUTPUTS) == locked.outputs_sha256:
                recorded = {key: value for key, value in run.tags.items() if key.startswith(entities.ENVIRONMENT)}
    if not recorded:
        return ["MLflow has no record of the environment of the first run"]
    changes = []
    for key, now in environment.describe().items():
        before = recorded.get(entities.ENVIRONMENT + key, now)  # an earlier version did not record it
        changes += [f"{key}: {old} → {new}" for old, new in _changed_items(before, now)]
    return changes or ["same code, params, libraries, processor and kernels"]


def _changed_items(before: str, now: str) -> list[tuple[str, str]]:
    """Return the items of two lists, separated by commas, that differ, side by side."""
    old, new = before.split(", "), now.split(", ")
    if len(old) != len(new):
        return [(before, now)] if before != now else []
    return [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]


def _print_stages(rows: list[dict[str, Any]]) -> None:
    cells = []
    for row in rows:
        difference = "" if row["difference"] is None else f"{row['difference']:.1e}"
        cells.append((row["stage"], row["result"], row["identical"], len(row["files"]), difference))
    tables.show(("stage", "result", "identical files", "others", "difference"), cells, ("identical files", "others", "difference"))
    for row in rows:
        if row["result"] == stage_rerun.IDENTICAL:
            continue
        click.echo(f"\n{row['stage']}: {row['result']}")
        for file in row["files"][:LISTED]:
            apart = "" if file["difference"] is None else f", {file['difference']:.1e} of the largest number"
            click.echo(f"  {printable(file['file'])}: {file['outcome']}{apart}")
        if len(row["files"]) > LISTED:
            click.echo(f"  and {len(row['files']) - LISTED} more")
        for cause in row["causes"]:
            click.echo(
                f"  {'changed' if row['result'] == 'not run' else 'environment'}: {cause}" if row["result"] != "failed" else cause
            )
