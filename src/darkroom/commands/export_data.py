"""Write the ingested images as files of many images: Parquet or tars of samples."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from darkroom.config import dvc_graph, params
from darkroom.core import atomic, user_paths
from darkroom.core.command_line import Choice, Command, json_option
from darkroom.core.errors import SourceError, WorkspaceError, printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import progress as progress_display
    from darkroom.core import shortage, tables
    from darkroom.data import arrays, dataset_files, manifest, sources
    from darkroom.inference import held_out

FORMATS = ("parquet", "webdataset")


@click.command(cls=Command)
@click.argument("out", metavar="OUT")
@click.option(
    "--format", "kind", type=Choice(FORMATS), default="parquet", help="parquet, as the Hugging Face Hub has it, or webdataset: tars"
)
@click.option("--shard-megabytes", metavar="N", type=click.IntRange(min=1), default=500, help="images of a file at most, in MB")
@json_option
def command(out: str, kind: str, shard_megabytes: int, as_json: bool) -> None:
    """Write the ingested images into the new folder OUT, as files of many images.

    Each image is the bytes of its file, with its label and the columns of the manifest. The files are named for their splits.
    Quarantined and ignored files are left out. `darkroom recipe --data OUT` reads the folder, with the same splits and labels.
    """
    folder = user_paths.expand(out, "OUT", "a new folder")
    if folder.exists() or folder.is_symlink():
        raise WorkspaceError(f"{folder} exists already", "name another folder, or delete this one")
    settings = params.read()
    ingested = Path(dvc_graph.command_options("ingest", None)["out"])
    classes = arrays.load_classes(ingested / "classes.json")
    images = manifest.read_images(ingested / "manifest.parquet")
    shards = dataset_files.plan(images, kind, shard_megabytes * 10**6)
    total = sum(row.bytes for rows in images.values() for row in rows)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if total > shutil.disk_usage(folder.parent).free:
        raise shortage.disk_full(folder, total)
    count = sum(map(len, images.values()))
    with (
        contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
        sources.open_source(Path(settings.ingest.source).expanduser(), class_folder=settings.ingest.class_folder) as source,
        progress_display.Progress(f"writing {folder}", count, "images") as progress,
        atomic.new_folder(folder) as new,
    ):
        reader = _Reader(source, progress)
        dataset_files.write(new, shards, classes, kind, reader.read)
        (new / dataset_files.README).write_text(dataset_files.readme(shards, classes, kind), encoding="utf-8")
    _report(folder, shards, {split: len(rows) for split, rows in images.items()}, len(classes), as_json)


class _Reader:
    """Reads the files of images, which must be those that were ingested."""

    def __init__(self, source: sources.Source, progress: progress_display.Progress) -> None:
        self.source, self.progress = source, progress
        self.files = {file.path: file for file in source.files if not file.ignored}

    def read(self, row: manifest.Row) -> bytes:
        """Return the bytes of an image's file. Raises SourceError where it is not the ingested one."""
        problem = "is not there any more"
        if row.path in self.files:
            try:
                content = self.source.read(self.files[row.path])
            except (OSError, ValueError) as error:
                problem = f"cannot be read: {error}"
            else:
                if hashlib.sha256(content if isinstance(content, bytes) else content.tobytes()).hexdigest() == row.sha256:
                    self.progress.advance()
                    return content if isinstance(content, bytes) else held_out.as_file(content)
                problem = "has changed since it was ingested"
        raise SourceError(f"{printable(row.path)} of {self.source.path} {problem}", "`dvc repro ingest`, then export again")


def _report(folder: Path, shards: Sequence[dataset_files.Shard], counts: dict[str, int], classes: int, as_json: bool) -> None:
    sizes = {shard.name: (folder / shard.name).stat().st_size for shard in shards}
    if as_json:
        tables.print_json({"folder": str(folder), "images": counts, "classes": classes, "bytes": sizes})
        return
    listing = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    files = f"{len(sizes)} file{'s' * (len(sizes) != 1)}, {sum(sizes.values()) / 1e6:,.1f} MB"
    click.echo(f"{folder}: {sum(counts.values()):,} images of {classes} classes ({listing}) in {files}")
    click.echo(f"{folder / dataset_files.README} has code that reads them")
