"""Find what a run would trip over, and say what it will do, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkroom.config import params, stage_code
from darkroom.config.params import Params
from darkroom.core import user_paths
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import DarkroomError
from darkroom.core.lazy import lazy_imports
from darkroom.models import factory
from darkroom.models.backbones import registry as backbones

if TYPE_CHECKING:
    from darkroom.preflight.plan import Content

with lazy_imports():
    from darkroom.core import tables
    from darkroom.data import sources
    from darkroom.preflight import downloads, plan, plan_text, project, source_files
    from darkroom.tracking import home

FIXES = Path("data/label_fixes.csv")


@click.command(cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Find what a run would trip over, and say what it will do: images, downloads, minutes, gigabytes.

    Files are listed, none is decoded, and nothing is written. An error names the file and its remedy.
    """
    project.check_merged(Path("params.yaml"))
    settings = params.read()
    planned = plan.make(settings, check_run(settings))
    if as_json:
        tables.print_json(plan_text.as_json(planned))
    else:
        click.echo("\n".join(plan_text.lines(planned)))


def check_run(settings: Params, runs: bool = True) -> Content:
    """Return what the source holds. Where nothing `runs`, the rights to write are not needed.

    Raises a DarkroomError for what DVC or a stage would stop at; `setting` of the error is the key at fault.
    """
    if os.environ.get("DARKROOM_TRACKING") != "off":
        project.check_mlflow(home.uri())
    for path in project.TRACKED:
        project.check_merged(path)
    stage_code.check()
    with _about("ingest.source"):
        project.check_place(settings)
    content = check_params(settings)
    project.check(settings, runs)
    return content


def check_params(settings: Params) -> Content:
    """Return what the source holds.

    Raises a DarkroomError for backbones, weights, an architecture or a source that a stage would refuse.
    """
    with _about("backbones"):
        for backbone in settings.backbones:
            backbones.find(backbone)
    with _about("weights.folder" if settings.weights.source == "folder" else "weights.source"):
        _check_weights(settings)
    with _about("baseline.architecture"):
        factory.make_spec(settings.baseline.architecture, settings.ingest.image_size, settings.baseline.channels)
    with _about("fetch.source"):
        if settings.fetch.datasets and settings.fetch.source != "download":
            source_files.check(user_paths.expand(settings.fetch.source, "`fetch.source`", "the folder of the data set's files"))
    with _about("ingest.source"):
        user_paths.check_storable(user_paths.expand(settings.ingest.source, "`ingest.source`"), "`ingest.source`")
        return plan.read_content(settings, FIXES)


def _check_weights(settings: Params) -> None:
    source, pretrain_on = settings.weights.source, settings.weights.pretrain_on
    if source == "folder":
        user_paths.expand(settings.weights.folder, "`weights.folder`", "a folder of weight files")
    downloads.check_weights(settings)
    if source == "pretrain" and settings.backbones and pretrain_on not in params.DATASETS:
        with _about("weights.pretrain_on"):
            folder = user_paths.expand(pretrain_on, "`weights.pretrain_on`", "a folder of classes")
            source_files.check(folder)
            if not plan.reason_unread(folder):
                with sources.open_source(folder):
                    pass


@contextmanager
def _about(key: str) -> Iterator[None]:
    """Name the key of params.yaml at fault in an error of a block."""
    try:
        yield
    except DarkroomError as error:
        error.setting = error.setting or key
        raise
