"""Show an architecture layer by layer."""

from __future__ import annotations

import ast
from dataclasses import asdict
from typing import Any

import click

from darkroom.commands.param_types import ARCHITECTURE
from darkroom.core.command_line import Choice, Command, Many, json_option
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports
from darkroom.models import factory
from darkroom.models.architectures import registry

with lazy_imports():
    from darkroom.core import tables
    from darkroom.models import macs, network_summary

NUMBERS = ("parameters", "multiply-adds", "share")


@click.command(cls=Command)
@click.argument("name", type=ARCHITECTURE, required=False)
@click.option("--list", "list_them", is_flag=True, help="list the names, with their papers")
@click.option("--size", type=click.IntRange(min=1), show_default="as in its paper", help="pixels a side of the images")
@click.option("--channels", type=Choice(["1", "3"]), show_default="as in its paper", help="channels of the images")
@click.option("--classes", type=click.IntRange(min=1), show_default="as in its paper", help="outputs of a classifier")
@click.option("--set", "settings", cls=Many, metavar="OPTION=VALUE …", help="options of the architecture: width=0.5")
@json_option
def command(
    name: str | None, list_them: bool, size: int | None, channels: str | None, classes: int | None, settings: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Show an architecture layer by layer: output shapes, parameters, multiply-adds.

    NAME is a classic architecture, compact, or any torchvision classifier. A name that is also torchvision's means ours;
    torchvision/NAME is theirs.
    """
    if list_them:
        _list(as_json)
        return
    if not name:
        raise ParamsError("no architecture is named", "`darkroom models describe --list` shows the names")
    entry = registry.entries().get(name)
    native_size, native_channels = factory.native_input(name)
    subject: dict[str, Any] = {
        "name": name,
        "size": size or native_size,
        "channels": int(channels or native_channels),
        "classes": classes or (entry.classes if entry else 10 if name == factory.COMPACT else 1000),
        "options": dict(map(_option, settings)),
    }
    layers = network_summary.layers(*subject.values())
    if entry is None and name != factory.COMPACT:
        subject["name"] = factory.TORCHVISION + name.removeprefix(factory.TORCHVISION)
    if as_json:
        paper = {"paper": entry.paper, "options": entry.options | subject["options"]} if entry else {}
        totals = {key: sum(getattr(layer, key) for layer in layers) for key in ("parameters", "multiply_adds")}
        tables.print_json({**subject, **paper, **totals, "layers": [asdict(layer) for layer in layers]})
    else:
        _show(subject, entry, layers)


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ParamsError(f'"{text}" must have the form OPTION=VALUE', "for example --set width=0.5")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _show(subject: dict[str, Any], entry: registry.Entry | None, layers: list[macs.Layer]) -> None:
    title = f"{subject['name']} ({entry.paper}): {entry.summary}" if entry else subject["name"]
    classes = [] if entry and entry.kind == registry.AUTOENCODER else [f"{subject['classes']} classes"]
    inputs = [f"{subject['size']} pixels", f"{subject['channels']} channel{'s' * (subject['channels'] > 1)}"]
    click.echo(f"{title}\n{', '.join([*inputs, *classes, *(f'{key} {value}' for key, value in subject['options'].items())])}\n")
    parameters, multiply_adds = sum(layer.parameters for layer in layers), sum(layer.multiply_adds for layer in layers)
    rows = []
    for layer in layers:
        share = f"{layer.multiply_adds / multiply_adds:.1%}" if layer.multiply_adds else ""
        numbers = [f"{number:,}" if number else "" for number in (layer.parameters, layer.multiply_adds)]
        rows.append((layer.name or "(its own)", layer.kind, " × ".join(map(str, layer.output)), *numbers, share))
    total = ("all", "", "", f"{parameters:,}", f"{multiply_adds:,}", "100.0%")
    tables.show(("layer", "kind", "output", *NUMBERS), [*rows, total], right=NUMBERS)


def _list(as_json: bool) -> None:
    entries = registry.entries().values()
    if as_json:
        theirs = [{"name": factory.TORCHVISION + name} for name in factory.torchvision_names()]
        tables.print_json([*(entry._asdict() for entry in entries), {"name": factory.COMPACT}, *theirs])
        return
    rows = [(entry.name, entry.paper, f"{entry.size} px, {entry.channels} ch.", entry.summary) for entry in entries]
    tables.show(("name", "paper", "made for", "what it is"), rows)
    click.echo(
        f"\n{factory.COMPACT}, Darkroom's own, and torchvision's classifiers "
        f"(`{factory.TORCHVISION}NAME` where the name is also above):\n{', '.join(factory.torchvision_names())}"
    )
