"""Two processes of one thread against one process of two threads: images a second of training, in a project that has run.

python benchmarks/processes.py [BACKBONE] [--rounds 2] [--pretraining]

Of each round: a head on the embeddings of the project, and the last blocks on random feature maps of the size of the real ones. The
first number is the median over epochs, the second the largest.

With --pretraining, which needs no project: steps of the whole network on 64 random images of 32 pixels, as if gradients of halves
could be summed (batch normalisation would have to be, too, and the stage `weights` does not do it); also one thread alone. The
milliseconds of a step are the median and those of processor time of one process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from darkroom.config import params
from darkroom.core import platforms, ranks
from darkroom.data import arrays
from darkroom.models import checkpoint as checkpoints
from darkroom.models import factory
from darkroom.models.base import IMAGENET, Backbone, Network, Preprocessing
from darkroom.stages import finetune, transfer
from darkroom.training import devices, freezing, matmul_conv, processes
from darkroom.training.batches import Examples
from darkroom.training.stepper import ParamGroup, Stepper

MODES = ((1, 2), (2, 1))  # processes and threads
BATCH, SIDE, CLASSES, STEPS = 64, 32, 62, 25


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


def pretrain(name: str, count: int, threads: int) -> None:
    """Train a whole network in this process, one of `count`, each with its part of the batch; the first prints the times."""
    compute = params.Compute(seed=0, threads=threads, accelerator="cpu", precision="32-true", processes=count)
    devices.prepare(compute)
    if count > 1:
        processes.join(compute)
    backbone = factory.build_features(factory.backbone_spec(name, SIDE, "pooled", Path("data/weights")))
    network = Network(backbone, Preprocessing(SIDE, "crop", (0, 0, 0), *IMAGENET), CLASSES).train()
    rng = np.random.default_rng(processes.rank())
    images = torch.from_numpy(rng.integers(0, 256, (BATCH // count, SIDE, SIDE, 3), np.uint8))
    labels = torch.from_numpy(rng.integers(0, CLASSES, len(images)))
    reduce = processes.sum_gradients if count > 1 else None
    stepper = Stepper([ParamGroup(list(network.parameters()))], "adamw", 0.002, 0.01, reduce=reduce)
    times: list[float] = []
    with matmul_conv.as_products(network, images[:2]):
        for number in range(STEPS + 3):
            if number == 3:
                used = time.process_time()
            started = time.perf_counter()
            stepper(torch.nn.functional.cross_entropy(network(images), labels) / count)
            times.append(1000 * (time.perf_counter() - started))
    used = 1000 * (time.process_time() - used) / STEPS
    if processes.rank() == 0:
        text = f"{statistics.median(times[3:]):.0f} ms a step, {used:.0f} of processor time in a process"
        print(f"processes {count}, threads {threads}: {text}; load {platforms.load_average():.1f}", flush=True)
    processes.go_on_alone()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbone", nargs="?", default="mobilenet_v3_small")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pretraining", action="store_true", help="time steps of pretraining in place of these trainings")
    parser.add_argument("--mode", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        with ranks.member():
            (pretrain if options.pretraining else measure)(options.backbone, *options.mode)
        return
    more, modes = (["--pretraining"], (*MODES, (1, 1))) if options.pretraining else ([], MODES)
    for count, threads in modes * options.rounds:
        command = [sys.executable, __file__, options.backbone, *more, "--mode", str(count), str(threads)]
        if count == 1:
            subprocess.run(command, check=True)
        else:
            ranks.launch(command, count)


if __name__ == "__main__":
    main()
