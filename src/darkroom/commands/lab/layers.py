"""Commands that show the layers of a network: a list, learned filters, feature maps, receptive fields."""

from __future__ import annotations

from math import isinf
from pathlib import Path

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import before_option, image_argument, model_argument, network_command, network_options
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import torch

    from darkroom.core import tables
    from darkroom.lab import drawing, initial_network, layer_pictures, layers, networks, one_filter, plots, receptive_field

LAYERS = ("layer", "kind", "output", "parameters")
CORRELATIONS = ("layer", "correlation")
FIELDS = ("layer", "kind", "output", "stride", "receptive field", "effective")
FIELD_KINDS = ("convolution", "pooling")  # of the layers whose receptive fields are listed
MAX_MEASURED = 10  # layers whose gradient is measured, if none are named


@click.command(cls=Command)
@model_argument
@click.option("--all", "show_blocks", is_flag=True, help="list blocks of layers too")
@json_option
@network_options
def layers_command(inspected: networks.InspectedNetwork, show_blocks: bool, as_json: bool) -> None:
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
        tables.print_json([dict(zip(LAYERS, row, strict=True)) for row in rows])
        return
    cells = [(name, kind, "×".join(map(str, shape)), f"{count:,}" if count else "") for name, kind, shape, count in rows]
    tables.show(LAYERS, cells, right=LAYERS[2:])
    click.echo(f"{len(rows)} layers of {inspected.description}, images of {inspected.size} pixels a side")


@network_command("filters", before=".csv")
@click.argument("layer", required=False, metavar="[LAYER]")
@click.option(
    "--most", type=click.IntRange(min=1), default=16, metavar="N", help="number of filters and of their channels, by norm"
)
@before_option
def filters_command(inspected: networks.InspectedNetwork, layer: str | None, most: int, before: bool) -> drawing.Sheet:
    """Show the learned filters of a convolution: of the first layer in RGB, of later ones channel by channel.

    LAYER is the name of a convolution, by default the first one. With --before a table (.csv) has the correlation of
    the weights of each convolution with those before.
    """
    name, module = layer_pictures.find_convolution(inspected.network, layer)
    rows, texts = [layer_pictures.draw_filters(module, most, inspected.description)], {}
    if before:
        start = initial_network.initial_network(inspected)
        initial = layer_pictures.find_convolution(start.network, name)[1]
        kept = layer_pictures.correlations(start.network, inspected.network)
        texts = {".csv": image_io.to_csv(CORRELATIONS, [(layer, f"{value:.6g}") for layer, value in kept.items()])}
        rows.insert(0, layer_pictures.draw_filters(initial, most, start.description, module))
        if len(rows[0].tiles) == 1:  # mosaics fit side by side
            captions = ["\n".join([row.heading, *row.remark.split("; ")]) for row in rows]
            tiles = [drawing.Tile(row.tiles[0].pixels, caption) for row, caption in zip(rows, captions, strict=True)]
            rows = [drawing.Row(tiles)]
    outputs, inputs, height, width = layer_pictures.weights_of(module).shape
    note = f"{outputs} filters, each of {inputs} channel{'s' if inputs > 1 else ''} of {height}×{width} weights. Mid-grey is zero, "
    note += "brighter positive, darker negative" + ("; each filter is scaled by its largest weight." if inputs in (1, 3) else ".")
    return drawing.Sheet(f"Filters of {name}", rows, note, texts)


@network_command("feature-maps")
@image_argument
@click.option("--layer", "names", multiple=True, metavar="NAME", help="all channels of this layer; several times for several")
@click.option(
    "--channels", type=click.IntRange(min=1), default=10, metavar="N", help="channels of each layer, those that vary most"
)
@click.option("--most", type=click.IntRange(min=1), default=16, metavar="N", help="number of layers, evenly through the network")
@click.option("--filter", "number", type=int, metavar="N", help="one filter of a convolution (--layer, or the first), step by step")
@before_option
def feature_maps_command(
    inspected: networks.InspectedNetwork, image: Path, names: tuple[str, ...], channels: int, most: int, number: int | None,
    before: bool,
) -> drawing.Sheet:  # fmt: skip
    """Show the output of each convolution, activation and pooling for an image; all channels of one with
    --layer; one filter's map before and after normalisation, activation and pooling with --filter.

    Example: darkroom lab feature-maps models/baseline digit.png --layer stages.0.1.0 --filter 3
    """
    pixels = image_io.read_input(image, inspected.preprocessing)
    if number is not None:
        if before or len(names) > 1:
            raise click.UsageError("--filter is of one --layer, without --before")
        layer = layer_pictures.find_convolution(inspected.network, names[0] if names else None)[0]
        return one_filter.draw(inspected, layer, number, pixels, image.name)
    modules = layers.named_layers(inspected.network)
    chosen = list(names) or layer_pictures.default_layers(inspected.network)
    for name in names:
        layers.find_layer(inspected.network, name)
    maps = layer_pictures.compute_maps(inspected.network, networks.to_tensor(pixels), chosen)
    for name in names:
        if name not in maps:  # a container that is never run, or an output without spatial positions
            layers.output_of(inspected.network, layers.record(inspected.network, networks.to_tensor(pixels), [name]), name)
    if not maps:
        problem = f"{' and '.join(chosen)} of {inspected.description} has no maps: its output has no spatial positions"
        raise ParamsError(problem, "name an earlier layer")
    shown = list(maps) if names else [list(maps)[i] for i in image_io.spaced(len(maps), most)]
    initial, start = {}, initial_network.initial_network(inspected) if before else None
    if start:
        initial = layer_pictures.compute_maps(start.network, networks.to_tensor(pixels), chosen)
    rows = [drawing.Row([drawing.Tile(drawing.fit(pixels, 160), f"{image.name}, {inspected.size}×{inspected.size}")])]
    for name in shown:
        module = modules[name.partition("#")[0]]
        shown_channels = layer_pictures.choose_channels(maps[name], None if names else channels)
        side = layer_pictures.LARGE if names else layer_pictures.SIDE
        if initial:
            rows.append(layer_pictures.draw_maps(initial[name], module, f"{name} before training", shown_channels, side))
        heading = f"{name} after training" if initial else name
        rows.append(layer_pictures.draw_maps(maps[name], module, heading, shown_channels, side))
    trained = " after training" if initial else ""
    layer_count = f"{len(shown)} of its {len(maps)} layers" if len(shown) < len(maps) else "Its layers"
    note = (
        "All channels. "
        if names
        else f"{layer_count}, from the input on; of each the {channels} channels that vary most{trained}. "
    )
    note += "One scale per row: from black to yellow if no value is negative, else mid-grey is zero."
    note += f" The same channels {start.description}." if start else ""
    return drawing.Sheet(f"Feature maps of {inspected.description}", rows, note)


@network_command("receptive-field", ".csv")
@click.option("--layer", "names", multiple=True, metavar="NAME", help="measure this layer; several times for several")
@click.option(
    "--images", type=click.IntRange(min=1), default=4, metavar="N", help="random images that the gradient is averaged over"
)
def receptive_field_command(inspected: networks.InspectedNetwork, names: tuple[str, ...], images: int) -> drawing.Sheet:
    """Show how much of the image each layer sees: in theory, from kernels and strides, and measured, from
    gradients."""
    inspected.network.requires_grad_(False)
    modules = layers.named_layers(inspected.network)
    for name in names:
        layers.find_layer(inspected.network, name)
    fields = {
        name: (field, shape)
        for name, (field, shape) in receptive_field.fields(inspected.network, inspected.size).items()
        if name in names or (layers.kind(modules[name]) in FIELD_KINDS and len(shape) == 3 and shape[1] > 1)
    }
    measured = list(names) or [list(fields)[i] for i in image_io.spaced(len(fields), MAX_MEASURED)]
    noise = receptive_field.noise(images, inspected.size)
    influences = {name: receptive_field.effective(inspected.network, name, noise) for name in measured}
    sizes = {name: receptive_field.effective_size(influence) for name, influence in influences.items()}
    rows = [
        (name, type(modules[name]).__name__, "×".join(map(str, shape)), _format_side(down.step), _format_side(down.size),
         f"{sizes[name]:.1f}" if name in sizes else "")
        for name, ((down, _), shape) in fields.items()
    ]  # fmt: skip
    tables.show(FIELDS, rows, right=FIELDS[2:])
    tiles = []
    for name, influence in influences.items():
        (down, _), shape = fields[name]
        caption = f"{name}\n{_format_side(down.size)} theoretical, {sizes[name]:.0f} effective"
        tiles.append(drawing.Tile(receptive_field.draw(influence, down, shape[1] // 2), caption))
    theory = {name: down.size for name, ((down, _), _) in fields.items()}
    chart = drawing.Tile(plots.receptive_fields(theory, influences, inspected.size))
    note = f"Images of {inspected.size} pixels a side; a larger theoretical field reaches into the padding. "
    note += "Effective: pixels whose gradient is above 4.55% of the largest, as the side of a square (Luo et al. 2016)."
    legend = "brightness is the gradient of the middle unit (square root), the frame its theoretical field"
    sheet = [drawing.Row([chart], "By depth"), drawing.Row(tiles, "The field of the middle unit", legend)]
    texts = {".csv": image_io.to_csv(FIELDS, rows)}
    return drawing.Sheet(f"Receptive fields of {inspected.description}", sheet, note, texts)


def _format_side(value: float) -> str:
    return "whole" if isinf(value) else f"{value:.0f}"
