"""The drawings of the case studies, docs/images/blocks: each is drawn from the code that it shows.

`.venv/bin/python docs/pictures.py blocks` writes them; a test holds the files to what `drawings` returns.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from darkroom.lab import network_diagram, network_graph, network_table
from darkroom.models import factory
from darkroom.models.architectures import autoencoder, efficientnet, features, inception, mobilenet, registry, resnet
from darkroom.models.base import new_head
from darkroom.models.specs import ArchitectureSpec
from docs import drawings_of_findings, drawings_of_settings

DIGITS = 32  # pixels of the digits in the pipeline


def drawings() -> dict[str, str]:
    """Return the SVG of each drawing, by its name."""
    networks = {**_blocks(), **_studied_blocks(), **_networks(), **_autoencoders(), "frozen-vgg": _frozen_vgg()}
    return {**networks, **drawings_of_settings.drawings(), **drawings_of_findings.drawings()}


def _blocks() -> dict[str, str]:
    """Draw blocks, each from running its code once."""
    mobile = features.Classic(ArchitectureSpec("mobilenet_v1", 224)).body
    mlpconv = features.Classic(ArchitectureSpec("nin", 32)).body[:6]
    blocks: dict[str, tuple[str, nn.Module, tuple[int, int, int]]] = {  # title, module, channels and sides of its input
        "residual": ("A residual block (He et al. 2016)", resnet.Basic(64, 64, 1, True, True), (64, 56, 56)),
        "residual-projection": ("With another width and stride", resnet.Basic(64, 128, 2, True, True), (64, 56, 56)),
        "mlpconv": ("An mlpconv layer (Lin et al. 2014)", mlpconv, (3, 32, 32)),
        "plain": ("A plain stack: no skip", resnet.Basic(64, 64, 1, False, True), (64, 56, 56)),
        "bottleneck": ("A bottleneck (He et al. 2016)", resnet.Bottleneck(256, 64, 1, True, True), (256, 56, 56)),
        "inception": ("Inception 3a (Szegedy et al. 2015)", inception.Inception(192, inception.MODULES["3a"]), (192, 28, 28)),
        "inception-naive": (
            "Inception, naive", inception.Inception(192, inception.MODULES["3a"], is_naive=True), (192, 28, 28)
        ),
        "depthwise-separable": ("Depthwise separable (Howard et al. 2017)", mobile.get_submodule("conv3"), (64, 112, 112)),
        "inverted-residual": ("Inverted residual (Sandler et al. 2018)", mobilenet.InvertedResidual(24, 24, 1, 6), (24, 56, 56)),
        "squeeze-excite": ("Squeeze and excite (Hu et al. 2018)", efficientnet.SqueezeExcitation(96, 4), (96, 56, 56)),
        "mbconv": ("MBConv (Tan and Le 2019)", efficientnet.Block(24, 24, 6, 3, 1, 1.0), (24, 56, 56)),
    }  # fmt: skip
    return {name: network_diagram.draw_block(block, image, title) for name, (title, block, image) in blocks.items()}


def _studied_blocks() -> dict[str, str]:
    """Draw the first block of the networks that `darkroom study bottleneck` trains: 5×5 convolutions, and 1×1 before each."""
    studied: dict[str, tuple[str, dict[str, Any]]] = {  # title, and options of the network
        "residual-5x5": ("A block of the study: 5×5 alone", {"kernel": 5}),
        "residual-5x5-reduced": ("1×1 to a quarter before each", {"kernel": 5, "block": "reduced", "reduction": 4}),
    }
    drawn = {}
    for name, (title, options) in studied.items():
        body = features.Classic(ArchitectureSpec("residual", 14, channels=1, options={"width": 16, **options})).body
        drawn[name] = network_diagram.draw_block(body.get_submodule("block1_1"), (16, 14, 14), title)
    return drawn


def _networks() -> dict[str, str]:
    """Draw whole networks, each from running its code once, for the images that it was designed for or the page has."""
    networks: dict[str, tuple[str, str, dict[str, Any], tuple[int, int] | None]] = {  # name, title, options, pixels and channels
        "lenet5": ("lenet5", "LeNet-5 (LeCun et al. 1998)", {}, None),
        "alexnet": ("alexnet", "AlexNet (Krizhevsky 2014)", {}, None),
        "vgg16": ("vgg16", "VGG-16 (Simonyan and Zisserman 2015)", {}, None),
        "mlp": ("mlp", "A perceptron", {"hidden": [512, 512]}, None),
        "convnet": ("convnet", "A convolutional network", {}, None),
        "mlp-digits": ("mlp", "A perceptron for digits of 16 pixels", {"hidden": [256, 128]}, (16, 1)),
        "lenet5-digits": ("lenet5", "LeNet-5 with ReLU", {"activation": "relu"}, (16, 1)),
        "hog": ("hog", "Histograms of gradients (Dalal and Triggs 2005)", {}, (28, 1)),
        "scaling-base": ("residual", "The base network", {"blocks": 1, "width": 4}, (8, 1)),
        "scaling-compound": ("residual", "Scaled by a little of each", {"blocks": 2, "width": 5}, (12, 1)),
        "compact": ("compact", "The baseline of the digits", {"width": 16}, (DIGITS, 3)),
    }  # fmt: skip
    drawn = {}
    for label, (name, title, options, image) in networks.items():
        size, channels = image or factory.native_input(name)
        classes = 10 if image or name == "compact" else registry.entry(name).classes
        drawn[label] = network_diagram.draw(network_table.graph(name, size, channels, classes, options), title)
    return drawn


def _autoencoders() -> dict[str, str]:
    titles = {"autoencoder_linear": "Linear: 784 to 32 to 784", "autoencoder_conv": "Convolutional, a code of 32"}
    return {
        name.replace("_", "-"): network_diagram.draw_block(autoencoder.build(name, 28, 1, options={"code": 32}), (1, 28, 28), title)
        for name, title in titles.items()
    }


def _frozen_vgg() -> str:
    """Draw VGG-11 as `embed` runs it, and the layer of `transfer` on what it computes."""
    body = factory.build_features(factory.make_spec("torchvision/vgg11_bn", DIGITS))
    head = new_head(body.dim, 10, 0)
    trained = sum(parameter.numel() for parameter in head.parameters())
    network = nn.Sequential(OrderedDict(features=body, head=head)).eval()
    graph = network_graph.trace(network.to("meta"), (3, DIGITS, DIGITS))
    return network_diagram.draw(graph, "A frozen VGG-11, a new layer", f"{trained:,} are trained")
