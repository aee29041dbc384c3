"""Look inside networks, kernels and augmentation."""

from __future__ import annotations

from darkroom.core.command_line import LazyGroup

COMMANDS = {
    "kernels": "responses of Sobel, Prewitt, Scharr, Laplacian, Gabor or your own kernel",
    "layers": "list the layers of a model, with their output for one image",
    "filters": "the learned filters of a convolution, as a picture",
    "feature-maps": "the outputs of each layer for an image, also before training",
    "occlusion": "predictions for an image while a patch of it is covered",
    "maximize": "images that maximise a channel or a class",
    "receptive-field": "how much of the image each layer sees, theoretical and effective",
    "augmentations": "a policy's transforms one by one, weak to strong, and whole views",
    "embedding": "a map of images by their embeddings, coloured by class",
    "autoencoder": "autoencoders against PCA, and outliers of a folder",
}

command = LazyGroup(
    "lab",
    package=__name__,
    sections={"Commands": COMMANDS},
    help="""Look inside: kernels, filters, feature maps, receptive fields, augmentations, embeddings.

    Each command writes a picture to reports/lab/COMMAND.png, or to --out FILE.png. MODEL is champion, challenger, a version, a
    checkpoint folder such as models/baseline, or an architecture with random weights: compact, or any torchvision classifier.""",
)
