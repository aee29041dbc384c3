"""Write the split of every image into data/splits.csv."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from darkroom.config import dvc_graph
from darkroom.config.params import SPLITS
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import tables
    from darkroom.data import frozen_splits, manifest


@click.command(cls=Command)
@click.option("--before", is_flag=True, help="the splits before the last ingest that moved images, to put these back")
@json_option
def command(before: bool, as_json: bool) -> None:
    """Write the split of every image into data/splits.csv, an input of stage ingest, so that none moves.

    Images that come later are drawn so that every class has its shares. Lines that are there keep their split. Commit the file.
    """
    options = dvc_graph.command_options("ingest", None)
    path = Path(options.get("splits", frozen_splits.FROZEN))
    frozen = frozen_splits.read(path)
    lines, added = frozen_splits.freeze(_read_splits(Path(options["out"]), before), frozen)
    if added or lines != frozen:
        frozen_splits.write(path, lines)
    counts = Counter(line.split for line in lines)
    if as_json:
        tables.print_json({"path": str(path), "added": added, **{name: counts[name] for name in SPLITS}})
        return
    listing = ", ".join(f"{counts[name]:,} {name}" for name in SPLITS)
    click.echo(f"{path}: {added:,} lines added, {len(lines):,} in all ({listing})")
    if added:
        click.echo(f"commit it: `git add {path}`; the next `dvc repro` reads it")


def _read_splits(ingested: Path, before: bool) -> list[manifest.Row]:
    """Return rows with the path, the split and the SHA-256 of each image."""
    path = frozen_splits.PREVIOUS if before else ingested / "manifest.parquet"
    if not path.exists():
        problem = "no ingest here has moved images" if before else f"there is no {path}"
        raise WorkspaceError(problem, "`darkroom splits freeze` freezes the splits as they are" if before else "`dvc repro ingest`")
    if not before:
        return manifest.read(path)
    return [manifest.Row(path=line.image, split=line.split, sha256=line.sha256) for line in frozen_splits.read(path)]
