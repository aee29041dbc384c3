"""Show images that maximise channels of a layer, or classes."""

from __future__ import annotations

import click

from darkroom.commands.lab.options import network_command
from darkroom.core.command_line import Choice
from darkroom.core.errors import ParamsError, printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.lab import activation_maximization, drawing, networks

MAX_TARGETS = 10  # classes or channels, if none are named
SIDE = 200


@network_command("maximize")
@click.option("--layer", metavar="NAME", help="maximise channels of this layer, by default its first ten")
@click.option("--class", "labels", multiple=True, metavar="NAME", show_default="the first ten", help="maximise this class")
@click.option(
    "--channel", "channels", multiple=True, type=int, metavar="N", help="a channel of the layer; several times for several"
)
@click.option("--parametrization", type=Choice(("fourier", "pixels")), default="fourier", help="parameters of the image")
@click.option("--steps", type=click.IntRange(min=1), default=192, metavar="N", help="steps of gradient ascent")
@click.option("--lr", type=click.FloatRange(0, 100, min_open=True, max_open=True), default=0.05, help="learning rate")
@click.option("--grey", is_flag=True, help="red, green and blue alike, for networks that were trained on grey images")
@click.option("--no-jitter", is_flag=True, help="do not shift, scale and rotate the image, to see what that prevents")
def command(
    inspected: networks.InspectedNetwork, layer: str | None, labels: tuple[str, ...], channels: tuple[int, ...],
    parametrization: str, steps: int, lr: float, grey: bool, no_jitter: bool,
) -> drawing.Sheet:  # fmt: skip
    """Show images that maximise channels of a layer, or classes, drawn by gradient ascent from noise."""
    if layer and labels:
        raise click.UsageError("--layer and --class exclude each other")
    if channels and not layer:
        raise ParamsError("--channel needs a layer", "name it: --layer NAME; `darkroom lab layers MODEL` lists them")
    inspected.network.requires_grad_(False)
    if layer:
        targets = list(channels) or activation_maximization.first_channels(inspected.network, layer, inspected.size, MAX_TARGETS)
        objective = activation_maximization.channel_objective(inspected.network, layer, targets)
        titles = [f"channel {channel}" for channel in targets]
    else:
        classes = inspected.class_names()
        targets = [inspected.class_index(label) for label in labels or classes[:MAX_TARGETS]]
        objective = activation_maximization.class_objective(inspected.network, targets)
        titles = [printable(classes[number])[:28] for number in targets]
    images, history = activation_maximization.maximize(
        objective, len(targets), inspected.size, steps, lr, parametrization, grey, not no_jitter, seed=inspected.seed
    )
    tiles = [
        drawing.Tile(drawing.fit(image, SIDE), f"{title}\n{drawing.format_number(first)} → {drawing.format_number(last)}")
        for image, title, first, last in zip(images, titles, history[0], history[-1], strict=True)
    ]
    parameters = {
        "fourier": "a Fourier spectrum with decorrelated colours (Olah et al. 2017)",
        "pixels": "pixels, with a penalty on total variation (Mahendran and Vedaldi 2015)",
    }[parametrization]
    note = f"{steps} steps from noise at {inspected.size} pixels; the image is {parameters}"
    note += "." if no_jitter else ", shifted, scaled and rotated a little in each step."
    note += f" The numbers: {'mean of the channel' if layer else 'logit'} at the start and at the end."
    title = f"Images that maximise {layer or 'the classes'} of {inspected.description}"
    return drawing.Sheet(title, [drawing.Row(tiles)], note)
