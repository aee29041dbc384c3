"""Convolutions on small maps, forth and back: the library's and those as matrix products (`training/matmul_conv.py`).

    python benchmarks/convolutions.py [--batch 64] [--rounds 5]

Milliseconds of processor time of one thread, the least of the rounds. `ratio` is the library's time over the product's: where it
is above 1, products are worth their limit on this processor. Other programs hardly change it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from measuring import report
from torch import nn

from darkroom.training import matmul_conv

ALWAYS = matmul_conv.Limits(10**6, 1.0)
STEPS = 5  # of a round
KINDS = (  # channels before and after, kernel, groups, sides of the map
    (160, 960, 1, 1, (1, 2, 3, 4, 5, 7)),
    (960, 160, 1, 1, (1, 2, 3, 4, 5, 7)),
    (512, 512, 3, 1, (1, 2, 3, 4)),
    (240, 240, 5, 240, (1, 2, 3, 4, 5, 7)),
    (960, 960, 3, 960, (1, 2, 3, 4, 5, 7)),
)


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Return the least time of a call on this thread."""
    work()
    times = []
    for _ in range(rounds):
        started = time.thread_time()
        for _ in range(STEPS):
            work()
        times.append((time.thread_time() - started) / STEPS)
    return 1000 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    usual = matmul_conv.limits()
    matmul_conv.limits = lambda: ALWAYS  # type: ignore[assignment,misc]
    matmul_conv.DEPTHWISE = matmul_conv.DEPTHWISE_3 = 10**6
    rows: list[dict[str, Any]] = []
    for before, after, kernel, groups, sides in KINDS:
        for side in sides:
            layer = nn.Conv2d(before, after, kernel, padding=kernel // 2, groups=groups, bias=False)
            layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            maps = torch.randn(options.batch, before, side, side).contiguous(memory_format=torch.channels_last)
            maps.requires_grad_()

            def step(layer: nn.Module = layer, maps: torch.Tensor = maps) -> None:
                output = layer(maps)
                output.backward(torch.ones_like(output))

            library = milliseconds(step, options.rounds)
            with matmul_conv.as_products(layer, maps[:2].detach()):
                product = milliseconds(step, options.rounds)
            name = f"{kernel} × {kernel}, {before} to {after}{', depthwise' * (groups > 1)}"
            row = {"convolution": name, "map": f"{side} × {side}", "library": library, "product": product}
            rows.append(row | {"ratio": library / product})
    report("convolutions", rows, {"limits of this processor": usual._asdict()})


if __name__ == "__main__":
    main()
