"""List the layers of a model."""

from __future__ import annotations

import click

from darkroom.commands.lab.options import model_argument, network_options
from darkroom.core.command_line import Command, json_option
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import torch

    from darkroom.core import tables
    from darkroom.lab import layers, networks

HEADER = ("layer", "kind", "output", "parameters")


@click.command(cls=Command)
@model_argument
@click.option("--all", "show_blocks", is_flag=True, help="list blocks of layers too")
@json_option
@network_options
def command(inspected: networks.InspectedNetwork, show_blocks: bool, as_json: bool) -> None:
    """List the layers of a model by name, with their output for one image, in the order of their use."""
    modules = layers.named_layers(inspected.network)
    outputs = layers.record(inspected.network, torch.zeros(1, inspected.size, inspected.size, 3, dtype=torch.uint8))
    rows = []
    for name, output in outputs.items():
        module = modules[name.partition("#")[0]]
        if show_blocks or next(module.children(), None) is None:
            count = sum(item.numel() for item in module.parameters())
            rows.append((name, type(module).__name__, tuple(output.shape[1:]), count))
    if as_json:
        tables.print_json([dict(zip(HEADER, row, strict=True)) for row in rows])
        return
    cells = [(name, kind, "×".join(map(str, shape)), f"{count:,}" if count else "") for name, kind, shape, count in rows]
    tables.show(HEADER, cells, right=HEADER[2:])
    click.echo(f"{len(rows)} layers of {inspected.description}, images of {inspected.size} pixels a side")
