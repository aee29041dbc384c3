"""Look inside: what kernels, layers and augmentation make of an image, what a network sees and how it arranges images."""

from __future__ import annotations

import importlib

COMMANDS = {
    "kernels": "what Sobel, Prewitt, Scharr, Laplacian, Gabor or your own kernel make of an image",
    "layers": "list the layers of a model, with their output for one image",
    "filters": "the learned filters of a convolution, as a picture",
    "feature-maps": "what each layer makes of an image, also before training",
    "occlusion": "what a model says of an image while a patch of it is covered",
    "maximize": "images that a channel or a class answers most to",
    "receptive-field": "how much of the image each layer sees, in theory and measured",
    "augmentations": "a policy's transforms one by one, weak to strong, and whole views",
    "embedding": "a map of images by their embeddings, coloured by class",
    "autoencoder": "what a short code keeps of images: autoencoders against PCA; outliers of a folder",
}
WITHOUT_TORCH = ("kernels", "augmentations")


def overview() -> str:
    """Return what `darkroom lab --help` prints."""
    rows = "\n".join(f"  {name:<16} {text}" for name, text in COMMANDS.items())
    return f"""usage: darkroom lab <command> [options]

{__doc__}

{rows}

Each writes a picture to reports/lab/<command>.png, or to --out FILE.png. MODEL is champion, challenger, a version, a checkpoint
folder such as models/baseline, or an architecture with random weights: compact, or any torchvision classifier.
`darkroom lab <command> --help` explains a command.
"""


def main(arguments: list[str]) -> int:
    from darkroom.core.errors import ParamsError, nearest

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        raise ParamsError(f'the lab has no command "{command}"{nearest(command, COMMANDS)}', "see `darkroom lab --help`")
    module = importlib.import_module(f"darkroom.commands.lab.{command.replace('-', '_')}")
    module.main(rest)
    return 0
