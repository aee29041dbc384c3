"""The layers of any architecture by name: output shapes, parameters, multiply-adds."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from darkroom.core import machine_limits
from darkroom.core.errors import ParamsError
from darkroom.models import factory, macs
from darkroom.models.architectures import autoencoder, features, registry
from darkroom.models.backbones import registry as backbones
from darkroom.models.macs import Layer

PREFIX = re.compile(r"^features\.((body|neck)\.)?")


def layers(name: str, image_size: int, channels: int, classes: int, options: Mapping[str, Any]) -> list[Layer]:
    """Return the layers of a whole classifier or autoencoder, names as in its own code.

    Raises ParamsError for options that it does not have, and for images that it cannot take.
    """
    network = build(name, image_size, channels, classes, options)
    try:
        rows = macs.layers(network, (channels, image_size, image_size))
    except (RuntimeError, ValueError) as error:
        machine_limits.check(error)
        raise ParamsError(f"{name} cannot take images of {image_size} pixels: {error}", "give it larger ones") from error
    return [replace(row, name=PREFIX.sub("", row.name)) for row in rows]


def build(name: str, image_size: int, channels: int, classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Build a network; on torch's meta device where its family can, which takes no memory."""
    entry = registry.entries().get(name)
    if name == factory.COMPACT:
        body = factory.build_features(factory.make_spec(name, image_size, channels, options))
        return nn.Sequential(OrderedDict(features=body, head=nn.Linear(body.dim, classes)))
    if entry is None:
        factory.make_spec(name, image_size, channels, options)  # raises ParamsError for what it does not have
        source, name_there = backbones.find(name)
        return backbones.load(source).classifier(name_there, image_size, classes)
    with torch.device("meta"):
        if entry.kind == registry.AUTOENCODER:
            return autoencoder.build(name, image_size, channels, None, options)
        return features.classifier(name, classes, channels, image_size, None, options)
