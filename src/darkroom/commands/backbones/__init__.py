"""Compare backbones on the images of a project."""

from __future__ import annotations

import click

from darkroom.core.command_line import LazyGroup

COMMANDS = {"rank": "rank frozen backbones on this project's images, in seconds each, with what an image costs"}


@click.group(cls=LazyGroup, package=__name__, sections={"Commands": COMMANDS})
def command() -> None:
    """Compare backbones on the images of a project."""
