"""Show an architecture layer by layer: output shapes, parameters, multiply-adds. Without other words, for what it was made for.

NAME is a classic architecture (`--list`), or any torchvision classifier; where both have a name, it is ours, and
`torchvision/NAME` theirs.
"""

from __future__ import annotations

import argparse
import ast
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from darkroom.core.errors import ParamsError
from darkroom.models import factory, torchvision_names
from darkroom.models.architectures import registry
from darkroom.models.factory import COMPACT, THEIRS

if TYPE_CHECKING:
    from torch import nn


class Chosen(NamedTuple):
    """An architecture and the images and classes that it is described for; `entry` is None for torchvision's and `compact`."""

    name: str
    entry: registry.Entry | None
    size: int
    channels: int
    classes: int
    options: dict[str, Any]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom models describe", description=__doc__)
    parser.add_argument("name", nargs="?", help="an architecture")
    parser.add_argument("--list", action="store_true", help="list the names, with their papers")
    parser.add_argument("--size", type=int, help="pixels a side")
    parser.add_argument("--channels", type=int, choices=(1, 3))
    parser.add_argument("--classes", type=int)
    parser.add_argument("--set", metavar="OPTION=VALUE", nargs="+", default=[], help="options of the architecture: width=0.5")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if given.list:
        _list()
        return 0
    if not given.name:
        raise ParamsError("describe what?", "name an architecture: `darkroom models describe --list` shows them")
    for key in ("size", "classes"):
        if getattr(given, key) is not None and getattr(given, key) < 1:
            raise ParamsError(f"--{key} is a number from 1 on, not {getattr(given, key)}", "leave it out for the paper's own")
    chosen = _choose(given.name, given.size, given.channels, given.classes, dict(_option(text) for text in given.set))
    rows = _rows(chosen)
    if given.json:
        known = {key: value for key, value in chosen._asdict().items() if key != "entry"}
        known |= {"paper": chosen.entry.paper, "options": chosen.entry.options | chosen.options} if chosen.entry else {}
        totals = {key: sum(row[key] for row in rows) for key in ("parameters", "multiply_adds")}
        print(json.dumps({**known, **totals, "layers": rows}, indent=2))
    else:
        _show(chosen, rows)
    return 0


def known() -> list[str]:
    """Return every name that can be described."""
    return [*factory.known(), *registry.names(registry.AUTOENCODER)]


def _choose(name: str, size: int | None, channels: int | None, classes: int | None, options: dict[str, Any]) -> Chosen:
    entry = registry.entries().get(name)
    usual = factory.made_for(name)
    size, channels = size or usual[0], channels or usual[1]
    if entry:
        return Chosen(name, entry, size, channels, classes or entry.classes, options)
    if name == COMPACT:
        return Chosen(name, None, size, channels, classes or 10, options)
    factory.description(name, size, channels, options)  # what it refuses
    return Chosen(THEIRS + name.removeprefix(THEIRS), None, size, 3, classes or 1000, {})


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ParamsError(f'"{text}" is not OPTION=VALUE', "for example --set width=0.5")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _rows(chosen: Chosen) -> list[dict[str, Any]]:
    from darkroom.models import macs

    try:
        found = macs.layers(_network(chosen), (chosen.channels, chosen.size, chosen.size))
    except (RuntimeError, ValueError) as error:
        raise ParamsError(f"{chosen.name} cannot take images of {chosen.size} pixels: {error}", "give it larger ones") from error
    rows = [asdict(layer) for layer in found]
    for row in rows:
        for prefix in ("features.body.", "features.neck.", "features."):
            row["name"] = row["name"].removeprefix(prefix)
    return rows


def _network(chosen: Chosen) -> nn.Module:
    """Build a whole classifier, or an autoencoder, on torch's meta device: shapes and no memory."""
    from collections import OrderedDict

    import torch
    from torch import nn

    if chosen.name == COMPACT:
        from darkroom.models.base import build_features, width

        features = build_features(factory.description(COMPACT, chosen.size, chosen.channels, chosen.options))
        return nn.Sequential(OrderedDict(features=features, head=nn.Linear(width(features), chosen.classes)))
    if chosen.entry is None:
        from darkroom.models import backbones

        return backbones.classifier(chosen.name.removeprefix(THEIRS), chosen.size, chosen.classes)
    with torch.device("meta"):
        if chosen.entry.kind == registry.AUTOENCODER:
            from darkroom.models.architectures import autoencoder

            return autoencoder.build(chosen.name, chosen.size, chosen.channels, None, chosen.options)
        from darkroom.models.architectures import features as classic

        return classic.classifier(chosen.name, chosen.classes, chosen.channels, chosen.size, None, chosen.options)


def _show(chosen: Chosen, rows: list[dict[str, Any]]) -> None:
    said = f"{chosen.name} ({chosen.entry.paper}): {chosen.entry.summary}" if chosen.entry else chosen.name
    options = "".join(f", {key} {value}" for key, value in chosen.options.items())
    classes = "" if chosen.entry and chosen.entry.kind == registry.AUTOENCODER else f", {chosen.classes} classes"
    print(f"{said}\n{chosen.size} pixels, {chosen.channels} channel{'s' if chosen.channels > 1 else ''}{classes}{options}\n")
    parameters, products = (sum(row[key] for row in rows) for key in ("parameters", "multiply_adds"))
    lines = [("layer", "kind", "output", "parameters", "multiply-adds", "share")]
    for row in rows:
        share = f"{row['multiply_adds'] / max(products, 1):.1%}" if row["multiply_adds"] else ""
        output = " × ".join(map(str, row["output"]))
        lines.append(
            (row["name"] or "(its own)", row["kind"], output, _number(row["parameters"]), _number(row["multiply_adds"]), share)
        )
    lines.append(("all", "", "", f"{parameters:,}", f"{products:,}", "100.0%"))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.ljust(width) if i < 3 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _list() -> None:
    head = [("name", "paper", "made for", "what it is")]
    lines = head + [
        (entry.name, entry.paper, f"{entry.size} px, {entry.channels} ch.", entry.summary) for entry in registry.entries().values()
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(f"\n{COMPACT}, Darkroom's own, and torchvision's classifiers (`{THEIRS}NAME` where the name is above too):")
    print(", ".join(torchvision_names.names()))
