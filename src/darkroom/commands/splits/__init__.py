"""Freeze which images are for training, validation and testing."""

from __future__ import annotations

import click

from darkroom.core.command_line import LazyGroup

COMMANDS = {"freeze": "write the split of every image into data/splits.csv, so that none moves"}


@click.group(cls=LazyGroup, package=__name__, sections={"Commands": COMMANDS})
def command() -> None:
    """Freeze which images are for training, validation and testing."""
