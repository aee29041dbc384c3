"""Notice damaged files: hash again what dvc.lock names."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from darkroom.core import locks
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import WorkspaceError, printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.config import dvc_cache
    from darkroom.core import progress, tables

LOCKS = (Path("dvc.lock"), Path("studies/dvc.lock"))  # each of a DVC repository of its own
SHOWN = 8  # digits of an md5


@click.command(cls=Command)
@click.option("--cache", is_flag=True, required=True, help="hash the objects of DVC's cache, and the outputs in the workspace")
@json_option
def command(cache: bool, as_json: bool) -> int:
    """Notice damaged files: hash again what dvc.lock names, and list each file that differs, with the remedy.

    DVC trusts its cache without reading it. Files that were changed since dvc.lock was written differ, too.

    Exit code: 0 all files are as dvc.lock has them, 1 some differ.
    """
    roots = [lock.parent for lock in LOCKS if lock.exists()]
    if not roots:
        raise WorkspaceError(f"there is no dvc.lock here ({Path.cwd()})", "run the command in the project, after `dvc repro`")
    with locks.workspace("darkroom verify", lambda text: click.echo(text, err=True)):
        files = [file for root in roots for file in dvc_cache.files(root)]
        with progress.Progress("verify", len(dvc_cache.present(files)), "files") as shown:
            result = dvc_cache.examine(files, shown.advance)
    if as_json:
        tables.print_json(asdict(result))
        return int(bool(result.damaged))
    if result.damaged:
        cells = [(printable(item.file), item.expected[:SHOWN], item.found[:SHOWN], item.remedy) for item in result.damaged]
        tables.show(("file", "md5", "found", "remedy"), cells)
    absent = f"; {result.absent:,} are in neither place: `dvc pull` fetches them from a remote" if result.absent else ""
    click.echo(
        f"{result.objects:,} objects of DVC's cache and {result.outputs:,} outputs read, {result.bytes / 1e6:,.1f} MB: "
        f"{len(result.damaged) or 'none'} damaged or changed{absent}"
    )
    return int(bool(result.damaged))
