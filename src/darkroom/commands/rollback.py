"""Make the previous champion the champion again."""

from __future__ import annotations

import click

from darkroom.config import params
from darkroom.core.command_line import Command
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import registry

with lazy_imports():
    from darkroom.tracking import model_check


@click.command(cls=Command)
@click.option("--why", default="", help="the reason, a sentence for the ledger")
def command(why: str) -> None:
    """Make the previous champion the champion again."""
    name = params.read().register_.name
    versions = registry.versions(name)
    history = registry.champion_history(registry.ledger(name))
    if len(history) < 2:
        raise WorkspaceError(
            f"{name} has had {'one champion' if history else 'no champion'} so far",
            "`darkroom models` lists the versions, `darkroom promote VERSION` makes one the champion",
        )
    previous = registry.pick(versions, history[-2], name)
    model_check.check(name, previous.version)
    registry.promote(name, previous.version, why or f"back from version {history[-1]}", by=registry.ROLLBACK)
    click.echo(f"version {previous.version} of {name}, {previous.model}, is the champion again, in place of version {history[-1]}")
