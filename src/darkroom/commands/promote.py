"""Make a version of the registered model the champion; against its checks only by force."""

from __future__ import annotations

import click

from darkroom.commands.param_types import VERSION
from darkroom.config import params
from darkroom.core.command_line import Command
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import entities, registry

with lazy_imports():
    from darkroom.tracking import model_check


@click.command(cls=Command)
@click.argument("version", type=VERSION, default=registry.CHALLENGER)
@click.option("--why", default="", help="the reason, a sentence for the ledger")
@click.option("--force", is_flag=True, help="promote a version that its checks vetoed; needs --why")
def command(version: str, why: str, force: bool) -> None:
    """Make a version of the registered model the champion; against its checks only by force.

    VERSION is a number or an alias; without it the challenger is promoted. A version that its checks vetoed needs
    --force and --why, which the ledger keeps.
    """
    name = params.read().register_.name
    versions = registry.versions(name)
    promoted = registry.pick(versions, version, name)
    champion = next((item for item in versions if registry.CHAMPION in item.aliases), None)
    if champion and champion.version == promoted.version:
        click.echo(f"version {promoted.version} of {name}, {promoted.model}, is the champion already")
        return
    vetoed = promoted.verdict == entities.VETOED
    if vetoed and not (force and why.strip()):
        problem = promoted.tags.get(entities.PROMOTION) or "some checks failed"
        remedy = f'`darkroom promote {promoted.version} --force --why "…"` promotes it all the same; the ledger keeps the reason'
        lacking = "--force needs a reason: " if force else ""
        raise WorkspaceError(f"version {promoted.version} of {name} was vetoed: {problem}", lacking + remedy)
    overridden = (promoted.tags.get(entities.FAILED) or "not named") if vetoed else ""
    model_check.check(name, promoted.version)
    registry.promote(
        name, promoted.version, why or f"by hand; its checks: {promoted.checks}", by=entities.PROMOTE, overridden=overridden
    )
    click.echo(
        f"version {promoted.version} of {name}, {promoted.model}, is the champion"
        + (f", in place of version {champion.version}, {champion.model}" if champion else ", the first one")
        + (f"; its checks: {promoted.checks}" if promoted.verdict != entities.PASSED else "")
    )
