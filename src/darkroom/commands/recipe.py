"""Write a recipe's values into params.yaml."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.commands.param_types import RECIPE, SETTING, WEIGHTS
from darkroom.core.command_line import Command, Many, json_option
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.commands import check
    from darkroom.config import params, recipes
    from darkroom.core import tables
    from darkroom.preflight import plan, plan_text, project, remote_source


@click.command(cls=Command)
@click.argument("name", type=RECIPE, required=False)
@click.option("--list", "list_them", is_flag=True, help="list the recipes with their claims")
@click.option("--data", metavar="DIR", type=click.Path(), help="your folder of images, one subfolder per class, or an address")
@click.option("--weights", metavar="SOURCE", type=WEIGHTS, help="imagenet, package, pretrain, random, or a folder of weight files")
@click.option("--latest", is_flag=True, help="take what is now at the address of the images (fetch.url)")
@click.option("--set", "settings", cls=Many, metavar="KEY=VALUE …", type=SETTING, help="single values: transfer.lr=0.01")
@json_option
def command(
    name: str | None, list_them: bool, data: str | None, weights: str | None, latest: bool, settings: tuple[str, ...], as_json: bool
) -> None:
    """Write a recipe's values into params.yaml, in place, comments kept, so that `git diff` shows what changed.

    Then say what a run will do, as `darkroom check` does.
    NAME is the recipe; without it only the values of the options are written. params.yaml is left alone where a value is wrong.
    """
    if list_them:
        headers = {recipe: recipes.header(recipe) for recipe in recipes.names()}
        if as_json:
            tables.print_json([{"name": recipe, "description": header} for recipe, header in headers.items()])
        for recipe, header in {} if as_json else headers.items():
            click.echo("\n  ".join([recipe, *header.splitlines()]) + "\n")
        return
    if name is None and data is None and weights is None and not latest and not settings:
        remedy = "name a recipe (`darkroom recipe --list`), or give --data, --weights, --latest or --set"
        raise ParamsError("nothing to apply", remedy)
    project.check_merged(Path("params.yaml"))
    if latest:
        settings = (*settings, f"fetch.version={remote_source.latest_version(params.read())}")
    requested = recipes.requested_values(name, data, weights, settings, remote_source.locate)
    origins = recipes.origins(name, data, weights, settings)
    contents: list[plan.Content] = []
    changed = recipes.apply(Path("params.yaml"), requested, lambda settings: contents.append(check.check_run(settings)), origins)
    if as_json:
        tables.print_json({key: {"before": before, "after": after} for key, (before, after) in changed.items()})
        return
    for key, (before, after) in changed.items():
        click.echo(f"{key}: {before} → {after}")
    click.echo(f"params.yaml: {len(changed)} value{'s' * (len(changed) != 1)} changed" if changed else "params.yaml: unchanged")
    click.echo("\n".join(plan_text.lines(plan.make(params.read(), contents[0]))))
