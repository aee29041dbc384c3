"""List the layers of a model by name, with their output for one image, in the order of their use."""

from __future__ import annotations

import argparse

from darkroom.commands.lab import network_resolver


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("darkroom lab layers", description=__doc__)
    network_resolver.arguments(parser)
    parser.add_argument("--all", action="store_true", help="blocks of layers too")
    given = parser.parse_args(arguments)
    import torch

    from darkroom.lab import layers

    subject = network_resolver.find(given)
    known = layers.layers(subject.network)
    blank = torch.zeros(1, subject.size, subject.size, 3, dtype=torch.uint8)
    found = layers.record(subject.network, blank)
    rows = []
    for name, output in found.items():
        module = known[name.partition("#")[0]]
        if given.all or next(module.children(), None) is None:
            parameters = sum(item.numel() for item in module.parameters())
            rows.append(
                (name, type(module).__name__, "×".join(map(str, output.shape[1:])), f"{parameters:,}" if parameters else "")
            )
    header = ("layer", "kind", "output", "parameters")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(4)]
    for row in [header, *rows]:
        print(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}".rstrip())
    print(f"{len(rows)} layers of {subject.said}, images of {subject.size} pixels a side")
