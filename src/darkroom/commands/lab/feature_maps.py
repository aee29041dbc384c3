"""What each convolution, activation and pooling of a model makes of an image; all channels of one with --layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.commands.lab import image_io, network_resolver
from darkroom.core.errors import ParamsError

if TYPE_CHECKING:
    import torch

    from darkroom.lab import drawing

SHOWN = ("convolution", "activation", "pooling")
SIDE, LARGE = 96, 112  # pixels of a map, about, in rows of many layers and of one
MOST = 256  # maps of one layer


def main(arguments: list[str]) -> None:
    parser = image_io.parser("feature-maps", __doc__)
    network_resolver.arguments(parser)
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("--layer", action="append", metavar="NAME", help="all channels of this layer; several times: of several")
    parser.add_argument("--channels", type=int, default=10, help="of each layer, those that vary most over the image (10)")
    parser.add_argument("--most", type=int, default=16, help="layers that are shown, evenly through the network (16)")
    parser.add_argument("--before", action="store_true", help="also what the initial weights of its seed make of the same image")
    given = parser.parse_args(arguments)
    if given.channels < 1 or given.most < 1:
        raise ParamsError("--channels and --most show nothing below 1", "give 1 or more")
    image_io.check(given)
    from darkroom.lab import drawing, layers

    subject = network_resolver.find(given)
    image = network_resolver.pixels(subject, given.image)
    known = layers.layers(subject.network)
    chosen = given.layer or [name for name, module in known.items() if layers.kind(module) in SHOWN]
    for name in chosen:
        layers.find(subject.network, name)
    found = mapped(subject.network, image, chosen)
    for name in given.layer or []:
        if name not in found:  # never run by itself, or without places
            layers.output(subject.network, layers.record(subject.network, network_resolver.tensor(image), [name]), name)
    if not found:
        raise ParamsError(
            f"{' and '.join(chosen)} of {subject.said} has no maps: its output has no places", "name an earlier layer"
        )
    names = list(found)
    if not given.layer and len(names) > given.most:
        names = [names[round(i * (len(names) - 1) / max(1, given.most - 1))] for i in range(given.most)]
    seed = network_resolver.seed(given)
    before = mapped(network_resolver.untrained(subject, seed), image, chosen) if given.before else {}
    rows = [drawing.Row([drawing.Tile(drawing.fitted(image, 160), f"{given.image.name}, {subject.size}×{subject.size}")])]
    for name in names:
        output = found[name]
        channels = range(min(MOST, len(output))) if given.layer else layers.strongest(output, given.channels)
        module = known[name.partition("#")[0]]
        about = f"{type(module).__name__}, {output.shape[0]} channels of {output.shape[1]}×{output.shape[2]}"
        side = LARGE if given.layer else SIDE
        if before:
            earlier = list(channels) if given.layer else layers.strongest(before[name], given.channels)
            rows.append(row(before[name], earlier, f"{name} before training", about, side))
        rows.append(row(output, list(channels), f"{name} after training" if before else name, about, side))
    shown = f"{len(names)} of its {len(found)} layers" if len(names) < len(found) else "its layers"
    note = f"{shown} from the image on; of each " if not given.layer else ""
    note += "all channels. " if given.layer else f"the {given.channels} channels that vary most. "
    note += "One scale per row; a layer that is never negative goes from black to yellow, another one is mid-grey where it is zero."
    if before:
        note += f" Before training: the initial weights of seed {seed}."
    image_io.write(given, drawing.sheet(f"Feature maps of {subject.said}", rows, note[0].upper() + note[1:]))


def mapped(network: Any, image: Any, names: list[str]) -> dict[str, torch.Tensor]:
    """Return the maps (C, H, W) that layers make of an image, of those that have any."""
    from darkroom.lab import layers

    known = layers.layers(network)
    outputs = layers.record(network, network_resolver.tensor(image), names)
    made = {name: layers.maps(output, known[name.partition("#")[0]]) for name, output in outputs.items()}
    return {name: output[0] for name, output in made.items() if output is not None}


def row(output: torch.Tensor, channels: list[int], heading: str, remark: str, side: int) -> drawing.Row:
    """Return channels of maps (C, H, W) on one scale, around mid-grey where any is negative."""
    from darkroom.lab import drawing

    shown = output[channels].float().numpy()
    most = float(abs(shown).max()) or 1.0
    shade = drawing.signed if shown.min() < 0 else drawing.heat
    tiles = [drawing.Tile(drawing.fitted(shade(item, most), side), str(i)) for i, item in zip(channels, shown, strict=True)]
    return drawing.Row(tiles, heading, f"{remark}, {drawing.figure(shown.min())} … {drawing.figure(shown.max())}")
