"""Make a version of the registered model the champion, whatever its checks say."""

from __future__ import annotations

import click

from darkroom.commands.param_types import VERSION
from darkroom.config import params
from darkroom.core.command_line import Command
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import registry

with lazy_imports():
    from darkroom.tracking import model_check


@click.command(cls=Command)
@click.argument("version", type=VERSION, default=registry.CHALLENGER)
@click.option("--why", default="", help="the reason, a sentence for the ledger")
def command(version: str, why: str) -> None:
    """Make a version of the registered model the champion, whatever its checks say.

    VERSION is a number or an alias; without it the challenger is promoted.
    """
    name = params.read().register_.name
    versions = registry.versions(name)
    promoted = registry.pick(versions, version, name)
    champion = next((item for item in versions if registry.CHAMPION in item.aliases), None)
    if champion and champion.version == promoted.version:
        click.echo(f"version {promoted.version} of {name}, {promoted.model}, is the champion already")
        return
    model_check.check(name, promoted.version)
    registry.promote(name, promoted.version, why or f"by hand; its checks: {promoted.verdict or 'none'}", by="promote")
    click.echo(
        f"version {promoted.version} of {name}, {promoted.model}, is the champion"
        + (f", in place of version {champion.version}, {champion.model}" if champion else ", the first one")
        + (f"; its checks: {promoted.verdict}" if promoted.verdict != "passed" else "")
    )
