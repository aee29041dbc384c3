"""List the versions of the registered model, its champions, or the networks of a library."""

from __future__ import annotations

from dataclasses import asdict

import click

from darkroom.api import promotion_file
from darkroom.commands.param_types import SOURCE
from darkroom.config import params
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import entities, registry

with lazy_imports():
    from darkroom.core import progress, tables
    from darkroom.lab import library_networks

COUNTED = 60  # networks whose parameters are counted, a third of a second each


@click.command(cls=Command)
@click.argument("pattern", required=False, metavar="[PATTERN]")
@click.option("--history", is_flag=True, help="list the champions, when and why")
@click.option("--source", type=SOURCE, metavar="LIBRARY", help="list the networks of a library instead: timm, torchvision")
@json_option
def command(history: bool, as_json: bool, pattern: str | None = None, source: str | None = None) -> None:
    """List the versions of the registered model, newest first: accuracy, checks, training data.

    With --source the networks of a library whose names fit PATTERN: parameters, multiply-adds, input size and licence of the
    weights, counted for up to 60 networks. With a dot in it a pattern fits names with tags.

    Example: darkroom models list --source timm 'vit_small*'
    """
    if source or pattern:
        if not source:
            raise ParamsError("a pattern is for the networks of a library", "name it: --source timm")
        _networks(source, pattern or "*", as_json)
        return
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


def _networks(source: str, pattern: str, as_json: bool) -> None:
    """Print the networks of a library, with their costs where they are not too many."""
    names = library_networks.matching(source, pattern)
    if len(names) > COUNTED:
        if as_json:
            tables.print_json([{"name": f"{source}/{name}"} for name in names])
        else:
            click.echo("\n".join(f"{source}/{name}" for name in names))
            click.echo(f"\n{len(names):,} networks; a narrower pattern, for {COUNTED} or fewer, shows what they cost")
        return
    with progress.Progress(f"networks of {source}", len(names), "networks") as bar:
        rows = library_networks.describe(source, names, bar.advance)
    if as_json:
        tables.print_json([asdict(row) | {"name": f"{source}/{row.name}"} for row in rows])
        return
    header = ("name", "input", "parameters, M", "multiply-adds, M", "weights", "licence of the weights")
    cells = [
        (
            f"{source}/{row.name}", f"{row.size} px", "" if row.parameters is None else f"{row.parameters / 1e6:.1f}",
            "" if row.multiply_adds is None else f"{row.multiply_adds / 1e6:,.0f}", "yes" if row.weights else "no", row.license,
        )
        for row in rows
    ]  # fmt: skip
    tables.show(header, cells, right=header[1:4])
