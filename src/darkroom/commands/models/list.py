"""List the versions of the registered model, or its champions."""

from __future__ import annotations

from dataclasses import asdict

import click

from darkroom.api import promotion_file
from darkroom.config import params
from darkroom.core.command_line import Command, json_option
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import entities, registry

with lazy_imports():
    from darkroom.core import tables


@click.command(cls=Command)
@click.option("--history", is_flag=True, help="list the champions, when and why")
@json_option
def command(history: bool, as_json: bool) -> None:
    """List the versions of the registered model, newest first: accuracy, checks, training data."""
    name = params.read().register_.name
    versions = sorted(registry.versions(name), key=lambda version: -int(version.version))
    promotions = registry.ledger(name) if history and versions else []
    if as_json:
        tables.print_json([asdict(item) for item in (promotions if history else versions)])
    elif not versions:
        elsewhere = promotion_file.registered_elsewhere(promotion_file.read())
        first = f"{elsewhere}; {promotion_file.REGISTER_HERE}" if elsewhere else "`dvc repro` registers the first one"
        click.echo(f"{name} has no versions yet: {first}")
    elif history:
        models = {version.version: version.model for version in versions}
        for line in promotions:
            previous = f" in place of version {line.previous}" if line.previous else ""
            model = models.get(line.version, "deleted")
            by = f"by {line.by}" + (f" against its checks ({line.overridden})" if line.overridden else "")
            click.echo(f"{entities.local_time(line.time)}  version {line.version}, {model},{previous} {by}: {line.why}")
        if not promotions:
            click.echo(f"{name} has had no champion yet: `darkroom promote VERSION` makes one")
    else:
        tables.show(
            ("version", "model", "validation", "test", "macro F1", "checks", "made", "trained on"),
            [
                (
                    " ".join([item.version, *sorted(item.aliases)]), item.model, item.tags.get("val_accuracy"),
                    item.tags.get("test_accuracy"), item.tags.get("test_macro_f1"), item.checks,
                    entities.local_time(item.created_at), item.tags.get(entities.DATA),
                )
                for item in versions
            ],
            right=("validation", "test", "macro F1"),
        )  # fmt: skip
