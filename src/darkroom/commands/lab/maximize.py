"""Images that channels of a layer, or classes, answer most to: drawn by gradient ascent from noise."""

from __future__ import annotations

from darkroom.commands.lab import image_io, network_resolver, occlusion
from darkroom.core.errors import ParamsError, printable

MOST = 10  # classes or channels where none are named
SIDE = 200


def main(arguments: list[str]) -> None:
    parser = image_io.parser("maximize", __doc__)
    network_resolver.arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--layer", metavar="NAME", help="of this layer, by default its first channels")
    what.add_argument("--class", dest="labels", action="append", metavar="NAME", help="a class; default: the first ten")
    parser.add_argument("--channel", action="append", type=int, metavar="N", help="of the layer; several times: several")
    parser.add_argument("--parametrization", choices=("fourier", "pixels"), default="fourier", help="what the image is made of")
    parser.add_argument("--steps", type=int, default=192, help="of gradient ascent (192)")
    parser.add_argument("--lr", type=float, default=0.05, help="how far a step goes (0.05)")
    parser.add_argument("--grey", action="store_true", help="red, green and blue alike: for networks that saw grey images alone")
    parser.add_argument("--no-jitter", action="store_true", help="no shifting, scaling and turning: see what they prevent")
    given = parser.parse_args(arguments)
    if given.channel and not given.layer:
        raise ParamsError("--channel needs a layer", "name it: --layer NAME; `darkroom lab layers MODEL` lists them")
    if given.steps < 1 or not 0 < given.lr < 100:
        raise ParamsError("--steps and --lr have to be positive", "the defaults are 192 and 0.05")
    image_io.check(given)
    from darkroom.lab import activation_maximization, drawing

    subject = network_resolver.find(given)
    subject.network.requires_grad_(False)
    if given.layer:
        wanted = given.channel or _first(subject, given.layer)
        objective = activation_maximization.channels(subject.network, given.layer, wanted)
        titles = [f"channel {channel}" for channel in wanted]
    else:
        known = occlusion.named(subject)
        wanted = [occlusion.index(known, label) for label in given.labels or known[:MOST]]
        objective = activation_maximization.classes(subject.network, wanted)
        titles = [printable(known[number])[:28] for number in wanted]
    images, history = activation_maximization.maximize(
        objective, len(wanted), subject.size, given.steps, given.lr, given.parametrization, given.grey, not given.no_jitter,
        seed=network_resolver.seed(given),
    )  # fmt: skip
    tiles = [
        drawing.Tile(drawing.fitted(image, SIDE), f"{title}\n{drawing.figure(first)} → {drawing.figure(last)}")
        for image, title, first, last in zip(images, titles, history[0], history[-1], strict=True)
    ]
    how = "pixels, total variation held down (Mahendran and Vedaldi 2015)"
    if given.parametrization == "fourier":
        how = "a Fourier spectrum with decorrelated colours (Olah et al. 2017)"
    note = f"{given.steps} steps from noise at {subject.size} pixels; the image is {how}"
    note += ", not moved." if given.no_jitter else ", shifted, scaled and turned a little in each step."
    note += f" The numbers: {'mean of the channel' if given.layer else 'logit'} at the start and at the end."
    title = f"What {given.layer or 'the classes'} of {subject.said} answer{'s' if given.layer else ''} to"
    image_io.write(given, drawing.sheet(title, [drawing.Row(tiles)], note))


def _first(subject: network_resolver.Subject, layer: str) -> list[int]:
    import torch

    from darkroom.lab import layers

    module = layers.find(subject.network, layer)
    blank = torch.zeros(1, subject.size, subject.size, 3, dtype=torch.uint8)
    output = layers.output(subject.network, layers.record(subject.network, blank, [layer]), layer)
    shaped = output if output.ndim == 2 else layers.maps(output, module)
    if shaped is None:
        raise ParamsError(f"the output of {layer} has no channels", "name a convolution, an activation or the head")
    return list(range(min(MOST, shaped.shape[1])))
