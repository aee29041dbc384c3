"""Show a trained model or an architecture layer by layer, as a table, JSON or a diagram."""

from __future__ import annotations

import ast
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from darkroom.api import model_resolver
from darkroom.commands.param_types import ALIASES, MODEL_OR_ARCHITECTURE
from darkroom.core.command_line import Choice, Command, Many, json_option
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports
from darkroom.models import factory
from darkroom.models.architectures import registry
from darkroom.models.backbones import registry as backbones

with lazy_imports():
    from darkroom.core import tables
    from darkroom.lab import network_diagram, network_graph, network_table

NUMBERS = ("kernel", "stride", "padding", "groups", "field", "parameters", "multiply-adds", "share")


@click.command(cls=Command)
@click.argument("model", type=MODEL_OR_ARCHITECTURE, required=False, metavar="MODEL")
@click.option("--list", "list_them", is_flag=True, help="list the names, with their papers")
@click.option("--size", type=click.IntRange(min=1), show_default="as in its paper", help="pixels a side of the images")
@click.option("--channels", type=Choice(["1", "3"]), show_default="as in its paper", help="channels of the images")
@click.option("--classes", type=click.IntRange(min=1), show_default="as in its paper", help="outputs of a classifier")
@click.option("--set", "settings", cls=Many, metavar="OPTION=VALUE …", help="options of the architecture: width=0.5")
@click.option("--diagram", type=click.Path(path_type=Path), metavar="FILE.svg", help="draw the network, as it ran, to this file")
@click.option("--overwrite", is_flag=True, help="replace a FILE.svg that is not an earlier diagram")
@json_option
def command(
    model: str | None, list_them: bool, size: int | None, channels: str | None, classes: int | None, settings: tuple[str, ...],
    diagram: Path | None, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show a network layer by layer: kernels, activations, skips, output shapes, receptive fields, parameters,
    multiply-adds.

    MODEL is a trained one (champion, challenger, a version, a folder such as models/baseline) or the name of a classic
    architecture, compact, any torchvision classifier, or timm/NAME. A name that is also torchvision's means ours;
    torchvision/NAME is theirs.

    Example: darkroom models describe resnet20 --diagram resnet20.svg
    """
    if list_them:
        _list(as_json)
        return
    if not model:
        raise ParamsError("no architecture is named", "`darkroom models describe --list` shows the names")
    if diagram:
        network_diagram.check_writable(diagram, overwrite)
    options = {"--size": size, "--channels": channels, "--classes": classes, "--set": settings or None}
    if _is_trained(model):
        subject, title, graph = _trained(model, [option for option, value in options.items() if value is not None])
    else:
        subject, title, graph = _architecture(model, size, channels, classes, dict(map(_option, settings)))
    rows = network_table.describe(graph)
    if as_json:
        totals = {key: sum(getattr(row, key) for row in rows) for key in ("parameters", "multiply_adds")}
        tables.print_json({**subject, **totals, "layers": [asdict(row) for row in rows]})
    else:
        _show(title, rows)
    if diagram:
        inputs = f"{subject['size']}×{subject['size']} pixels, {subject['channels']} channel{'s' * (subject['channels'] > 1)}"
        network_diagram.save(diagram, network_diagram.draw(graph, subject["name"], inputs))
        click.echo(f"diagram  {diagram}", err=as_json)


def _is_trained(model: str) -> bool:
    """Tell whether the name is of a trained model and not of an architecture."""
    if Path(model, "model.json").is_file():
        return True
    is_name = model in registry.entries() or model in factory.names() or backbones.is_prefixed(model)
    return not is_name and (model in ALIASES or model.isdigit() or "/" in model or Path(model).is_dir())


def _trained(model: str, refused: list[str]) -> tuple[dict[str, Any], str, network_graph.Graph]:
    if refused:
        raise ParamsError(f"{refused[0]} is for an architecture by name; {model} has its own", f"leave {refused[0]} out")
    classifier, info = model_resolver.load(model)
    spec, size = classifier.checkpoint.architecture, classifier.checkpoint.preprocessing.image_size
    subject = {
        "name": model, "size": size, "channels": getattr(spec, "channels", 3), "classes": len(classifier.classes),
        "options": dict(getattr(spec, "options", {})), "architecture": spec.as_dict(),
        "checkpoint_sha256": info.checkpoint_sha256,
    }  # fmt: skip
    title = f"{info.description}: {getattr(spec, 'name', spec.family)}\n{_describe_inputs(subject)}"
    return subject, title, network_table.graph_of_model(classifier.network, size)


def _architecture(
    name: str, size: int | None, channels: str | None, classes: int | None, options: dict[str, Any]
) -> tuple[dict[str, Any], str, network_graph.Graph]:
    entry = registry.entries().get(name)
    native_size, native_channels = factory.native_input(name)
    subject: dict[str, Any] = {
        "name": name,
        "size": size or native_size,
        "channels": int(channels or native_channels),
        "classes": classes or (entry.classes if entry else 10 if name == factory.COMPACT else 1000),
        "options": options,
    }
    graph = network_table.graph(*subject.values())
    if entry is None and name != factory.COMPACT:
        subject["name"] = "/".join(backbones.find(name))
    title = f"{subject['name']} ({entry.paper}): {entry.summary}" if entry else subject["name"]
    title += f"\n{_describe_inputs(subject, has_classes=not entry or entry.kind != registry.AUTOENCODER)}"
    if entry:
        subject |= {"paper": entry.paper, "options": entry.options | options}
    return subject, title, graph


def _describe_inputs(subject: dict[str, Any], has_classes: bool = True) -> str:
    inputs = [f"{subject['size']} pixels", f"{subject['channels']} channel{'s' * (subject['channels'] > 1)}"]
    classes = [f"{subject['classes']} classes"] if has_classes else []
    return ", ".join([*inputs, *classes, *(f"{key} {value}" for key, value in subject["options"].items())])


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ParamsError(f'"{text}" must have the form OPTION=VALUE', "for example --set width=0.5")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _show(title: str, rows: list[network_table.Row]) -> None:
    """Print the rows as a table, without columns that are empty in all of them."""
    click.echo(f"{title}\n")
    multiply_adds = sum(row.multiply_adds for row in rows)
    lines, before = [], network_graph.INPUT
    for row in rows:
        is_next = row.inputs in ((before,), ())
        lines.append({
            "layer": row.name or "(its own)", "kind": row.kind, "input": "" if is_next else " + ".join(row.inputs),
            "kernel": _pair(row.kernel), "stride": _pair(row.stride), "padding": _pair(row.padding),
            "groups": str(row.groups) if row.groups and row.groups > 1 else "", "activation": row.activation,
            "output": " × ".join(map(str, row.output)),
            "field": "" if not row.output else "whole" if row.receptive_field is None else str(row.receptive_field),
            "parameters": f"{row.parameters:,}" if row.parameters else "",
            "multiply-adds": f"{row.multiply_adds:,}" if row.multiply_adds else "",
            "share": f"{row.multiply_adds / multiply_adds:.1%}" if row.multiply_adds else "",
        })  # fmt: skip
        before = row.name
    header = [key for key in lines[0] if any(line[key] for line in lines)]
    parameters = sum(row.parameters for row in rows)
    total = {"layer": "all", "parameters": f"{parameters:,}", "multiply-adds": f"{multiply_adds:,}", "share": "100.0%"}
    tables.show(header, [[line.get(key, "") for key in header] for line in [*lines, total]], right=NUMBERS)


def _pair(value: tuple[int, int] | None) -> str:
    return "" if value is None else str(value[0]) if value[0] == value[1] else f"{value[0]}×{value[1]}"


def _list(as_json: bool) -> None:
    entries = registry.entries().values()
    if as_json:
        theirs = [{"name": name} for name in backbones.prefixed()]
        tables.print_json([*(entry._asdict() for entry in entries), {"name": factory.COMPACT}, *theirs])
        return
    rows = [(entry.name, entry.paper, f"{entry.size} px, {entry.channels} ch.", entry.summary) for entry in entries]
    tables.show(("name", "paper", "made for", "what it is"), rows)
    click.echo(
        f"\n{factory.COMPACT}, Darkroom's own, and the classifiers of libraries (`LIBRARY/NAME` where the name is also above):"
    )
    for library, source in backbones.SOURCES.items():
        names = source.names()
        listed = f"{len(names):,} networks, `darkroom models list --source {library}`" if source.is_prefixed else ", ".join(names)
        click.echo(f"{library}: {listed}")
