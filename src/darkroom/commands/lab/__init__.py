"""Look inside: what kernels, layers and augmentation make of an image, what a network sees and how it arranges images."""

from __future__ import annotations

from darkroom.core.command_line import LazyGroup

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


command = LazyGroup(
    "lab",
    package=__name__,
    sections={"Commands": COMMANDS},
    help="""Look inside: kernels, filters, feature maps, receptive fields, augmentations, embeddings.

    Each command writes a picture to reports/lab/COMMAND.png, or to --out FILE.png. MODEL is champion, challenger, a version, a
    checkpoint folder such as models/baseline, or an architecture with random weights: compact, or any torchvision classifier.""",
)
