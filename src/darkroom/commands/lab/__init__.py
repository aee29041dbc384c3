"""Look inside networks, kernels and augmentation."""

from __future__ import annotations

import importlib

import click

from darkroom.core.command_line import LazyGroup

MODULES = {  # with the functions of their commands
    "dataset": ("images",),
    "images": ("kernels", "pooling", "augmentations"),
    "layers": ("layers", "filters", "feature-maps", "receptive-field"),
    "classifiers": ("occlusion", "maximize", "embedding"),
    "autoencoder": ("autoencoder",),
    "symmetry": ("symmetry",),
}
COMMANDS = {
    "images": "training images of each class, and the mean of the class",
    "kernels": "responses of Sobel, Prewitt, Scharr, Laplacian, Gabor or your own kernel; HSV; corners",
    "pooling": "what stride, padding and pooling do to a map, and the size of its output",
    "layers": "list the layers of a model, with their output for one image",
    "filters": "the learned filters of a convolution, as a picture",
    "feature-maps": "the outputs of each layer for an image, also before training, or one filter step by step",
    "occlusion": "predictions for an image while a patch of it is covered",
    "maximize": "images that maximise a channel or a class",
    "receptive-field": "how much of the image each layer sees, theoretical and effective",
    "augmentations": "a policy's transforms one by one, weak to strong, and whole views",
    "embedding": "a map of images by their embeddings, coloured by class",
    "symmetry": "hidden units from equal initial weights, which stay equal, and from random ones",
    "autoencoder": "autoencoders against PCA, and outliers of a folder",
}


class LabGroup(LazyGroup):
    """The group, whose modules have several commands each."""

    def load(self, name: str) -> click.Command:
        module = next(module for module, names in MODULES.items() if name in names)
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), f"{name.replace('-', '_')}_command")
        return command


command = LabGroup(
    "lab",
    package=__name__,
    sections={"Commands": COMMANDS},
    help="""Look inside: kernels, filters, feature maps, receptive fields, augmentations, embeddings.

    Each command writes a picture to reports/lab/COMMAND.png, or to --out FILE.png. MODEL is champion, challenger, a version, a
    checkpoint folder such as models/baseline, or an architecture with random weights: compact, or any torchvision classifier.""",
)
