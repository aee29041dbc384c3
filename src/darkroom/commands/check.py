"""Validate params.yaml and the source folder, before anything runs."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.config import params
from darkroom.config.params import Params
from darkroom.core.command_line import Command
from darkroom.core.lazy import lazy_imports
from darkroom.models import factory, weight_files

with lazy_imports():
    from darkroom.data import folder_source, sources


@click.command(cls=Command)
def command() -> None:
    """Validate params.yaml and the source folder, before anything runs."""
    settings = params.read()
    check_params(settings)
    click.echo(f"params.yaml is valid; the source is {settings.ingest.source}")


def check_params(settings: Params) -> None:
    """Raise a DarkroomError for backbones, weights, an architecture or a source that a stage would refuse."""
    for backbone in settings.backbones:
        factory.check_torchvision(backbone)
    if settings.weights.source not in params.SOURCES:
        for backbone in settings.backbones:
            weight_files.find(Path(settings.weights.source).expanduser(), backbone)
    factory.make_spec(settings.baseline.architecture, settings.ingest.image_size, settings.baseline.channels)
    check_source(settings)


def check_source(settings: Params) -> None:
    """Raise SourceError unless the source has classes, or stage `fetch` writes it."""
    source = Path(settings.ingest.source)
    if source.parent == Path("data/raw") and source.name in settings.fetch.datasets:
        return
    if source.suffix in (".gz", ".tgz", ".bz2", ".xz") and source.expanduser().is_file():
        return  # listing it takes as long as decompressing it: ingest checks it
    folder_source.check_hashable(source.expanduser())
    with sources.open_source(source.expanduser(), class_folder=settings.ingest.class_folder):
        pass
