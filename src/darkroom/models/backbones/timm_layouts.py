"""Where timm's classes keep the chain of modules that their `forward_features` runs.

A class that is not listed runs whole. `tests/models/test_timm_backbones.py` compares each listed one with timm, bit for bit.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Maps = Literal["first", "last", "tokens"]


class Layout(NamedTuple):
    """The attributes of a class that run one after the other: the stem, which is one block; the chain of blocks; and the tail.

    `maps` is what they pass to each other: maps with the channels first or last, or tokens (N, T, C). `POSITIONS` in the stem
    is the method that adds tokens and the embedding of places.
    """

    stem: tuple[str, ...]
    body: tuple[str, ...]
    tail: tuple[str, ...] = ()
    maps: Maps = "first"

    @property
    def attributes(self) -> tuple[str, ...]:
        return (*self.stem, *self.body, *self.tail)


POSITIONS = "_pos_embed"


def _layout(stem: str, body: str, tail: str = "", maps: Maps = "first") -> Layout:
    return Layout(tuple(stem.split()), tuple(body.split()), tuple(tail.split()), maps)


_STAGES = _layout("stem", "stages")
_INCEPTION = "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 Pool1 Conv2d_3b_1x1 Conv2d_4a_3x3 Pool2 Mixed_5b Mixed_5c Mixed_5d"
_INCEPTION += " Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c"
LAYOUTS: dict[str, Layout] = {
    "ByobNet": _layout("stem", "stages", "final_conv"),
    "ConvMixer": _layout("stem", "blocks"),
    "ConvNeXt": _layout("stem", "stages", "norm_pre"),
    "CspNet": _STAGES,
    "DenseNet": _layout("", "features"),
    "EdgeNeXt": _layout("stem", "stages", "norm_pre"),
    "EfficientNet": _layout("conv_stem bn1", "blocks", "conv_head bn2"),
    "EfficientVit": _STAGES,
    "FastVit": _layout("stem", "stages", "final_conv"),
    "GhostNet": _layout("conv_stem bn1 act1", "blocks"),
    "HighPerfGpuNet": _STAGES,
    "InceptionV3": _layout("", _INCEPTION),
    "MaxxVit": _layout("stem", "stages", "norm"),
    "MetaFormer": _STAGES,
    "MlpMixer": _layout("stem", "blocks", "norm", "tokens"),
    "MobileNetV3": _layout("conv_stem bn1", "blocks"),
    "NormFreeNet": _layout("stem", "stages", "final_conv final_act"),
    "PyramidVisionTransformerV2": _layout("patch_embed", "stages"),
    "RDNet": _layout("stem", "dense_stages", "norm_pre"),
    "RegNet": _layout("stem", "s1 s2 s3 s4", "final_conv"),
    "RepVit": _STAGES,
    "ResNet": _layout("conv1 bn1 act1 maxpool", "layer1 layer2 layer3 layer4"),
    "RexNet": _layout("stem", "features"),
    "StarNet": _layout("stem", "stages", "norm"),
    "SwinTransformer": _layout("patch_embed", "layers", "norm", "last"),
    "VGG": _layout("", "features"),
    "VisionTransformer": _layout(f"patch_embed {POSITIONS} patch_drop norm_pre", "blocks", "norm", "tokens"),
    "VovNet": _STAGES,
}
