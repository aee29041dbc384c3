"""Make the previous champion the champion again."""

from __future__ import annotations

import click

from darkroom.config import params
from darkroom.core.command_line import Command
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import entities, registry

with lazy_imports():
    from darkroom.tracking import model_check


@click.command(cls=Command)
@click.option("--why", default="", help="the reason, a sentence for the ledger")
def command(why: str) -> None:
    """Make the previous champion the champion again."""
    name = params.read().register_.name
    versions = registry.versions(name)
    promotions = registry.ledger(name)
    history = registry.champion_history(promotions)
    champion = next((item.version for item in versions if registry.CHAMPION in item.aliases), "")
    earlier = history[:-1] if history[-1:] == [champion] else history  # an alias can be set without the ledger
    if not earlier:
        raise WorkspaceError(
            _describe_end(name, champion, promotions),
            "`darkroom models --history` lists the champions, `darkroom promote VERSION` makes any version the champion",
        )
    previous = registry.pick(versions, earlier[-1], name)
    model_check.check(name, previous.version)
    registry.promote(name, previous.version, why or f"back from version {champion or 'none'}", by=registry.ROLLBACK)
    replaced = f", in place of version {champion}" if champion else ""
    click.echo(f"version {previous.version} of {name}, {previous.model}, is the champion again{replaced}")


def _describe_end(name: str, champion: str, promotions: list[entities.Promotion]) -> str:
    """Return why there is no champion to go back to."""
    if not champion:
        return f"{name} has had no champion so far"
    others = dict.fromkeys(line.version for line in promotions if line.version != champion)
    later = f"; a rollback has left version {', '.join(others)}" if others else ""
    return f"version {champion} is the first champion of {name} in the ledger, so none is before it{later}"
