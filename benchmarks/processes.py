"""Two processes of one thread against one process of two threads: images a second of training, in a project that has run.

python benchmarks/processes.py [BACKBONE] [--rounds 2]

Of each round: a head on the embeddings of the project, and the last blocks on random feature maps of the size of the real ones. The
first number is the median over epochs, the second the largest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from darkroom.config import params
from darkroom.core import platforms, ranks
from darkroom.data import arrays
from darkroom.models import checkpoint as checkpoints
from darkroom.models.base import Backbone
from darkroom.stages import finetune, transfer
from darkroom.training import freezing, processes
from darkroom.training.batches import Examples

MODES = ((1, 2), (2, 1))  # processes and threads


def measure(name: str, count: int, threads: int) -> None:
    """Train in this process, one of `count`; the first prints images a second."""
    settings = params.read()
    compute = settings.compute.model_copy(update={"processes": count, "threads": threads})
    settings = settings.model_copy(update={"compute": compute})
    if count > 1:
        processes.join(compute)
    embedded = Path("data/embedded") / name
    parts = [np.asarray(arrays.load(embedded / f"{part}.npy")) for part in ("train", "val")]
    labels = [arrays.load(embedded / f"{part}_labels.npy") for part in ("train", "val")]
    head: list[float] = []
    train, val = Examples(parts[0], labels[0]), Examples(parts[1][None], labels[1])
    transfer.train_head(train, val, int(labels[0].max()) + 1, settings, "head", lambda row: head.append(row["images_per_second"]))
    network, _ = checkpoints.load(Path("models/transfer") / name)
    backbone, side = network.features, settings.ingest.image_size
    assert isinstance(backbone, Backbone)
    with torch.inference_mode():
        black = network.normalize(torch.zeros(1, side, side, 3, dtype=torch.uint8))
        shape = backbone.lower(black, freezing.first_trained(backbone, settings.finetune.unfreeze)).shape[1:]
    train, val = (
        Examples(np.random.default_rng(0).standard_normal((1, len(rows), *shape)).astype(np.float32), rows) for rows in labels
    )
    blocks: list[float] = []
    network.distance = None
    finetune.train_blocks(network, True, train, val, settings, "blocks", lambda row: blocks.append(row["images_per_second"]))
    if processes.rank() == 0:
        figures = ", ".join(f"{part} {np.median(v):,.0f} {max(v):,.0f}" for part, v in (("head", head), ("blocks", blocks)))
        print(f"processes {count}, threads {threads}: {figures}; load {platforms.load_average():.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbone", nargs="?", default="mobilenet_v3_small")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--mode", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        with ranks.member():
            measure(options.backbone, *options.mode)
        return
    for count, threads in MODES * options.rounds:
        command = [sys.executable, __file__, options.backbone, "--mode", str(count), str(threads)]
        if count == 1:
            subprocess.run(command, check=True)
        else:
            ranks.launch(command, count)


if __name__ == "__main__":
    main()
