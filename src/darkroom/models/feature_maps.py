"""The feature maps inside any architecture, convolutional networks and transformers alike."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch

from darkroom.models.base import Backbone, Features, Step, run_block


class FeatureMaps(NamedTuple):
    """The steps of a network from one intermediate result to the next, and the tail from the last one to the
    embedding.

    `grid` converts an intermediate result to maps (N, C, H, W); it is the identity where the result is one
    already.
    """

    steps: list[Step]
    tail: Step
    grid: Step


def maps_of(features: Features) -> FeatureMaps | None:
    """Return the feature maps of a network; None for a perceptron, which has no spatial axes.

    A Swin transformer (Liu et al. 2021) has maps with the channels last. A vision transformer (Dosovitskiy et
    al. 2021) has a class token, which becomes the embedding, and a token for each patch of the image. Its
    last block is part of the tail: the patches' tokens are not used after it.
    """
    chain = features.chain()
    if chain is not None:
        return FeatureMaps(*chain, grid=_same)
    if not isinstance(features, Backbone):
        return None
    grid = features.map_grid()
    if grid is not None:
        return _converted(features, grid)
    if features.sequential is False and type(features.net).__name__ != "VisionTransformer":
        return None
    return _tokens(features) if type(features.net).__name__ == "VisionTransformer" else _channels_last(features)


def _converted(backbone: Backbone, grid: Step) -> FeatureMaps:
    """The blocks of a chain that passes tokens, or maps with the channels last; the last block is part of the tail."""
    last = backbone.block_count - 1

    def step(index: int) -> Step:
        return lambda x: run_block(list(backbone.block(index)), x)

    return FeatureMaps([step(i) for i in range(last)], lambda x: backbone.upper(x, last), grid)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


def _channels_last(backbone: Backbone) -> FeatureMaps:
    """The blocks of a Swin transformer between maps (N, C, H, W); its last one gives such a map by itself."""

    def step(index: int) -> Step:
        def run(x: torch.Tensor) -> torch.Tensor:
            x = x.permute(0, 2, 3, 1) if index else x
            for module in backbone.block(index):
                x = module(x)
            return x if index == backbone.block_count - 1 else x.permute(0, 3, 1, 2)

        return run

    return FeatureMaps([step(i) for i in range(backbone.block_count)], lambda x: backbone.upper(x, backbone.block_count), _same)


def _tokens(backbone: Backbone) -> FeatureMaps:
    """The blocks of a vision transformer between tokens (N, 1 + H * W, C)."""
    net = cast(Any, backbone.net)
    *before, last = net.encoder.layers.children()

    def first(x: torch.Tensor) -> torch.Tensor:
        patches = net._process_input(x)
        tokens = torch.cat([net.class_token.expand(len(patches), -1, -1), patches], dim=1)
        return net.encoder.dropout(tokens + net.encoder.pos_embedding)

    def tail(x: torch.Tensor) -> torch.Tensor:
        return net.heads(net.encoder.ln(last(x))[:, 0])

    def grid(x: torch.Tensor) -> torch.Tensor:
        side = round((x.shape[1] - 1) ** 0.5)
        return x[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)

    return FeatureMaps([first, *before], tail, grid)
