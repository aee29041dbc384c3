"""Show the feature maps of an image."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import before_option, image_argument, network_command
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.lab import drawing, feature_maps, layers, networks


@network_command("feature-maps")
@image_argument
@click.option("--layer", "names", multiple=True, metavar="NAME", help="all channels of this layer; several times for several")
@click.option(
    "--channels", type=click.IntRange(min=1), default=10, metavar="N", help="channels of each layer, those that vary most"
)
@click.option("--most", type=click.IntRange(min=1), default=16, metavar="N", help="number of layers, evenly through the network")
@before_option
def command(
    inspected: networks.InspectedNetwork, image: Path, names: tuple[str, ...], channels: int, most: int, before: bool
) -> drawing.Sheet:
    """Show the output of each convolution, activation and pooling for an image; all channels of one with
    --layer."""
    pixels = image_io.read_input(image, inspected.preprocessing)
    modules = layers.named_layers(inspected.network)
    chosen = list(names) or feature_maps.default_layers(inspected.network)
    for name in names:
        layers.find_layer(inspected.network, name)
    maps = feature_maps.compute(inspected.network, networks.to_tensor(pixels), chosen)
    for name in names:
        if name not in maps:  # a container that is never run, or an output without spatial positions
            layers.output_of(inspected.network, layers.record(inspected.network, networks.to_tensor(pixels), [name]), name)
    if not maps:
        problem = f"{' and '.join(chosen)} of {inspected.description} has no maps: its output has no spatial positions"
        raise ParamsError(problem, "name an earlier layer")
    shown = list(maps) if names else [list(maps)[i] for i in image_io.spaced(len(maps), most)]
    initial = {}
    if before:
        initial = feature_maps.compute(inspected.untrained(), networks.to_tensor(pixels), chosen)
    rows = [drawing.Row([drawing.Tile(drawing.fit(pixels, 160), f"{image.name}, {inspected.size}×{inspected.size}")])]
    for name in shown:
        module, count = modules[name.partition("#")[0]], None if names else channels
        if initial:
            rows.append(feature_maps.draw_row(initial[name], module, f"{name} before training", count))
        rows.append(feature_maps.draw_row(maps[name], module, f"{name} after training" if initial else name, count))
    layer_count = f"{len(shown)} of its {len(maps)} layers" if len(shown) < len(maps) else "Its layers"
    note = "All channels. " if names else f"{layer_count}, from the input on; of each the {channels} channels that vary most. "
    note += "One scale per row: from black to yellow if no value is negative, else mid-grey is zero."
    note += f" Before training: the initial weights of seed {inspected.seed}." if initial else ""
    return drawing.Sheet(f"Feature maps of {inspected.description}", rows, note)
