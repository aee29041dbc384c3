"""The studies by name. The module of a study is imported when it is needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from darkroom.core.errors import ParamsError, nearest

if TYPE_CHECKING:
    from darkroom.studies.base import Study

NAMES = {
    "initialization": "ten initialisations of the weights",
    "mlp": "a perceptron with fewer images, dropout, weight decay",
    "cnn": "a convolutional network without one of its parts",
    "nin": "Network in Network with and without its 1×1 convolutions",
    "features": "histograms of gradients against a convolutional network, by number of images",
    "architecture": "architecture families at equal multiply-adds",
    "depth": "plain and residual networks, shallow and deep",
    "bottleneck": "1×1 convolutions that leave fewer channels to 5×5 ones",
    "inception": "Inception modules, naive ones, and 3×3 convolutions of the same cost",
    "separable": "depthwise-separable and standard convolutions, at equal width and at equal cost",
    "inverted": "MobileNet's two versions at equal cost, and the second without one of its parts",
    "scaling": "more depth, more width, larger images or all three, at equal multiply-adds",
    "augmentation": "augmentation policies, and the number of views of an image",
    "transfer": "the trained part of a network, the number of training images, the source of the weights",
    "optimizer": "optimizers, schedules and batch sizes, each with its own learning rate",
    "practice": "test-time crops and ensembles against one network",
    "tune": "Optuna's TPE, random search and no search, at equal cost",
}
MODULES = {  # of the studies that share one; any other study's module has its name
    **dict.fromkeys(("architecture", "depth", "bottleneck", "inception", "separable", "inverted"), "architectures"),
    **dict.fromkeys(("mlp", "cnn", "nin", "features"), "ablation"),
    **dict.fromkeys(("initialization", "optimizer", "augmentation"), "training_settings"),
}


def load(name: str) -> type[Study]:
    """Return the class of a study. Raises ParamsError, with the nearest name, if there is no such study."""
    if name not in NAMES:
        raise ParamsError(f'there is no study "{name}"{nearest(name, NAMES)}', f"choose from {', '.join(NAMES)}")
    module = importlib.import_module(f"darkroom.studies.{MODULES.get(name, name)}")
    return cast("type[Study]", getattr(module, f"{name.title()}Study"))
