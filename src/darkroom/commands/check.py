"""Validate params.yaml and the source folder, before anything runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkroom.config import params
from darkroom.config.params import Params


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser("darkroom check", description=__doc__).parse_args(arguments)
    settings = params.read()
    everything(settings)
    print(f"params.yaml is in order; the source is {settings.ingest.source}")
    return 0


def everything(settings: Params) -> None:
    """Raise a DarkroomError for what can be known to be wrong before any stage runs."""
    from darkroom.models import factory, torchvision_names, weight_files

    for backbone in settings.backbones:
        torchvision_names.check(backbone)
    if settings.weights.source not in params.SOURCES:
        for backbone in settings.backbones:
            weight_files.find(Path(settings.weights.source).expanduser(), backbone)
    factory.description(settings.baseline.architecture, settings.ingest.image_size, settings.baseline.channels)
    source(settings)


def source(settings: Params) -> None:
    """Raise SourceError unless the source holds classes, or `fetch` writes it."""
    from darkroom.data import sources

    place = Path(settings.ingest.source)
    if place.parent == Path("data/raw") and place.name in settings.fetch.datasets:
        return
    if place.suffix in (".gz", ".tgz", ".bz2", ".xz") and place.expanduser().is_file():
        return  # it would have to be decompressed: ingest says what is wrong with it
    sources.scan(place.expanduser())
