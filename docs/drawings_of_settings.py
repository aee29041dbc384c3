"""Drawings of what is no network: kernels, crops, fields, schedules, policies, the space of a search, trained parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import nn

from darkroom.augmentation.policies import POLICIES
from darkroom.config import study_params
from darkroom.core.axes import Scale
from darkroom.inference import tta
from darkroom.lab import kernels, network_table
from darkroom.lab.diagram_boxes import ACTIVATION, CONVOLUTION, LINEAR, POOLING
from darkroom.lab.diagram_sizes import SMALL, TEXT, text_width
from darkroom.models import factory
from darkroom.models.base import Network, Preprocessing, new_head
from darkroom.studies.initial_weights import PartlyFrozen, split_blocks
from darkroom.studies.learning_rate import SCHEDULES
from darkroom.training import freezing
from docs.drawing_sheet import MARGIN, WIDTH, Sheet

STRONG = 0.85  # opacity of what is meant


def drawings() -> dict[str, str]:
    """Return the SVG of each drawing, by its name."""
    return {
        "kernels": _kernels(), "crops": _crops(), "receptive-fields": _fields(), "schedules": _schedules(),
        "policies": _policies(), "search-space": _search_space(), "trained-parts": _trained_parts(),
        "fine-tuned-parts": _fine_tuned_parts(),
    }  # fmt: skip


def _kernels() -> str:
    """Draw the named kernels of 3 × 3, blue where a weight is positive and red where it is negative."""
    sheet = Sheet("Kernels of 3 × 3", "Blue weights are positive, red ones negative. A sum of 0 makes an even area 0.")
    small = [bank for bank in kernels.banks().values() if all(k.shape == (3, 3) for k in bank.kernels.values())]
    shown = [(bank.name, name, kernel) for bank in small for name, kernel in bank.kernels.items()]
    cell, step = 30.0, (WIDTH - 2 * MARGIN) / 4
    for place, (bank, name, kernel) in enumerate(shown):
        left, top = MARGIN + step * (place % 4), sheet.y + 150 * (place // 4)
        sheet.text(left, top + 8, bank, "bold")
        for (row, column), weight in np.ndenumerate(kernel):
            x, y = left + cell * column, top + 18 + cell * row
            kind = CONVOLUTION if weight > 0 else ACTIVATION
            sheet.box(x, y, cell, cell, kind if weight else "frame", 0.65 * abs(weight) / np.abs(kernel).max() if weight else None)
            sheet.text(x + cell / 2, y + cell / 2 + 4, f"{weight:g}".replace("-", "−"), "mid")
        sheet.text(left, top + 18 + 3 * cell + 15, f"{name}, sum {kernel.sum():g}")
    sheet.y += 150 * -(-len(shown) // 4) - 12
    return sheet.svg()


def _crops() -> str:
    """Draw the five crops of an image as `five_crops` cuts them, for AlexNet's images and for those of the study."""
    sheet = Sheet("Five crops", f"Each has {tta.CROP:g} of the side; enlarged to the whole side again, everything in it is larger.")
    for place, size in enumerate((256, 16)):
        side, corners = tta.crop_corners(size)
        left, scale = MARGIN + 275 * place, 200 / size
        sheet.box(left, sheet.y, 200, 200)
        for top, start in corners:
            sheet.box(left + start * scale, sheet.y + top * scale, side * scale, side * scale, POOLING, 0.08)
        sheet.text(left, sheet.y + 218, f"{side} of {size} pixels: {size / side:.2f} times as large", "bold")
    sheet.y += 222
    return sheet.svg()


def _fields() -> str:
    """Draw the fields of VGG-16's layers on its image, as the graph of the running network gives them."""
    size = 224
    rows = network_table.describe(network_table.graph("vgg16", size, 3, 1000, {}))
    fields = {row.name: (row.receptive_field, row.output) for row in rows if row.receptive_field and "pool" not in row.name}
    last = {name: field for name, field in fields.items() if name in ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")}
    sheet = Sheet(
        "What a unit of VGG-16 depends on", f"Fields of the last convolution of each stage, on an image of {size} pixels."
    )
    sheet.box(MARGIN, sheet.y, size, size)
    for place, (name, (field, output)) in enumerate(sorted(last.items(), reverse=True)):
        corner = (size - field) / 2
        sheet.box(MARGIN + corner, sheet.y + corner, field, field, CONVOLUTION)
        y = sheet.y + corner + (field / 2 if field < 20 else 0)
        label = sheet.y + 14 + 42 * place
        sheet.line([(MARGIN + corner + field, y), (MARGIN + size + 24, label - 4)])
        text = f"{name}: {field} pixels, maps of {output[1]} × {output[2]}"
        sheet.text(MARGIN + size + 28, label, text, "bold")
    sheet.y += size
    return sheet.svg()


def _schedules() -> str:
    """Draw the learning rate over a run, by the functions that set it."""
    steps, width, height = 138, 92.0, 70.0
    sheet = Sheet("Five schedules", f"The share of the highest learning rate, over {steps} steps.")
    for place, name in enumerate(sorted(SCHEDULES, key=["constant", "step", "linear", "cosine", "one_cycle"].index)):
        left, top = MARGIN + (width + 18) * place, sheet.y + 20
        sheet.text(left, sheet.y + 10, name.replace("_", " "), "bold")
        sheet.box(left, top, width, height)
        points = [(left + width * step / steps, top + height * (1 - SCHEDULES[name](step, steps, 0))) for step in range(steps)]
        sheet.line(points, CONVOLUTION)
    sheet.y += 20 + height
    return sheet.svg()


def _policies() -> str:
    """Draw the transforms of each policy with their ranges, as Albumentations has them, for images of 32 pixels."""
    sheet = Sheet("Augmentation policies", "Transforms of a view of 32 pixels in their order, with the probability of each.")
    for name, transforms in POLICIES.items():
        sheet.text(MARGIN, sheet.y + 16, name, "bold")
        x = MARGIN + 90.0
        top = sheet.y
        for transform in transforms(32):
            lines = _describe_transform(transform)
            width = max(text_width(line, SMALL if i else TEXT, bold=not i) for i, line in enumerate(lines)) + 16
            if x + width > WIDTH - MARGIN:
                x, top = MARGIN + 90.0, sheet.y
            height = 14 * len(lines) + 10
            sheet.box(x, top, width, height, POOLING)
            for i, line in enumerate(lines):
                sheet.text(x + 8, top + 15 + 14 * i, line, "bold" if not i else "faint")
            x += width + 8
            sheet.y = max(sheet.y, top + height + 8)
        if not transforms(32):
            sheet.text(MARGIN + 90, sheet.y + 16, "the image as it is")
            sheet.y += 30
        sheet.y += 6
    return sheet.svg()


def _describe_transform(transform: Any) -> list[str]:
    """Return the name of a transform with its probability, and the settings that are pairs and do something."""
    name = f"{type(transform).__name__}, {100 * transform.p:g}%"
    if not hasattr(transform, "get_transform_init_args"):  # one of several
        return [name, *(type(child).__name__ for child in transform.transforms)]
    lines = []
    for key, value in transform.get_transform_init_args().items():
        if isinstance(value, Mapping):  # one range for each axis, equal ones in all policies
            value = value["x"]
        is_range = isinstance(value, tuple) and len(value) == 2 and key != "size" and value[0] != value[1]
        if is_range or key in ("alpha", "sigma"):
            text = " … ".join(f"{part:.3g}" for part in value) if is_range else f"{value:g}"
            lines.append(f"{key} {text}".replace("-", "−"))
    return [name, *lines]


def _search_space() -> str:
    """Draw the space of the search in studies/params.yaml, and the default in it."""
    settings = study_params.read(study_params.FILE).tune.quick  # type: ignore[attr-defined]
    space = yaml.safe_load(study_params.FILE.read_text(encoding="utf-8"))["tune"]["quick"]["space"]
    sheet = Sheet("The space of the search", "What a trial may draw, and the default settings (filled).")
    left, width = 130.0, WIDTH - 150.0
    for name, item in space.items():
        default = getattr(settings, name)
        sheet.text(MARGIN, sheet.y + 16, name, "bold")
        if "choices" in item:
            step = width / len(item["choices"])
            for i, choice in enumerate(item["choices"]):
                sheet.box(left + step * i, sheet.y, step - 6, 24, LINEAR if choice == default else "frame", STRONG / 2)
                sheet.text(left + step * i + step / 2 - 3, sheet.y + 16, f"{choice}".replace("_", " "), "mid")
        else:
            scale = Scale(item["low"], item["high"], item["log"])
            sheet.box(left, sheet.y + 8, width - 6, 8, CONVOLUTION)
            sheet.box(left + (width - 6) * scale.position(default) - 4, sheet.y + 3, 8, 18, LINEAR, STRONG)
            sheet.text(left, sheet.y + 32, f"{item['low']:g}")
            sheet.text(left + width - 6, sheet.y + 32, f"{item['high']:g}", "faint end")
            middle = left + (width - 6) * scale.position(default)
            sheet.text(middle + 8, sheet.y + 32, f"{default:g}{', logarithmic' if item['log'] else ''}")
        sheet.y += 46
    sheet.y -= 14
    return sheet.svg()


def _trained_parts() -> str:
    """Draw which blocks of MobileNetV2 are trained, as the study freezes them: those whose weights have gradients."""
    features = factory.build_features(factory.make_spec("torchvision/mobilenet_v2", 32))
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("head", new_head(features.dim, 10, 0))
    blocks = split_blocks(features)
    parts = [[p for module in block for p in module.parameters()] for block in blocks] + [list(network.head.parameters())]
    rows = {}
    for label, count in {"the new layer": 0, "one block too": 1, "three blocks": 3, "all": None}.items():
        if count is None:
            network.requires_grad_(True)
        else:
            PartlyFrozen(network, count)
        rows[label] = [float(any(p.requires_grad for p in part)) for part in parts]
    text = f"Its {len(blocks)} blocks from the image to the new layer; filled ones are trained, and their parameters counted."
    return _draw_parts("Trained parts of MobileNetV2", text, rows, [sum(p.numel() for p in part) for part in parts])


def _fine_tuned_parts() -> str:
    """Draw which blocks of MobileNetV2 the recipe alpaca-mobilenet trains in its two stages, and at which share of the rate."""
    settings = yaml.safe_load(Path("recipes/alpaca-mobilenet.yaml").read_text(encoding="utf-8"))["finetune"]
    spec = factory.make_spec("torchvision/mobilenet_v2", 160)
    network = Network(factory.build_features(spec), Preprocessing(160, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3), 2)
    backbone = network.features
    parts = [list(backbone.block(i).parameters()) for i in range(backbone.block_count)] + [list(network.head.parameters())]
    _, groups = freezing.unfreeze(network, settings["unfreeze"], settings["lr_decay"])
    rates = {id(p): group.factor for group in groups for p in group.parameters}
    rows = {
        "transfer": [float(part is parts[-1]) for part in parts],
        "finetune": [max(rates.get(id(p), 0.0) for p in part) for part in parts],
    }
    shares = ", ".join(f"{share:.2f}" for share in rows["finetune"] if share)
    text = f"The 19 blocks and the new layer. Filled ones are trained, in stage finetune at {shares} of the learning rate."
    return _draw_parts("The two stages of training", text, rows, [sum(p.numel() for p in part) for part in parts])


def _draw_parts(title: str, text: str, rows: Mapping[str, Sequence[float]], sizes: Sequence[int]) -> str:
    """Draw a row of boxes for each way of training, filled by the share of the learning rate of each part."""
    sheet = Sheet(title, text)
    side, step = 16.0, 17.5
    for label, shares in rows.items():
        sheet.text(MARGIN, sheet.y + 13, label, "bold")
        for i, share in enumerate(shares):
            x = MARGIN + 100 + step * i + (5 if i == len(shares) - 1 else 0)
            sheet.box(x, sheet.y, side, side, LINEAR if share else "frame", STRONG * share if share else None)
        trained = sum(size for size, share in zip(sizes, shares, strict=True) if share)
        sheet.text(MARGIN + 100 + step * len(shares) + 10, sheet.y + 13, f"{trained:,}")
        sheet.y += 28
    sheet.y -= 8
    return sheet.svg()
