"""List the registered versions, or describe a network."""

from __future__ import annotations

import click

from darkroom.core.command_line import LazyGroup, json_option
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.commands.models import list as listing

COMMANDS = {
    "list": "list the versions of the registered model, the default, or the networks of a library",
    "describe": "show a model or an architecture layer by layer, or draw it",
}


@click.group(cls=LazyGroup, package=__name__, sections={"Commands": COMMANDS})
@click.option("--history", is_flag=True, help="list the champions, when and why")
@json_option
@click.pass_context
def command(context: click.Context, history: bool, as_json: bool) -> None:
    """List the versions of the registered model, or describe a network."""
    if context.invoked_subcommand is None:
        context.invoke(listing.command, history=history, as_json=as_json)
