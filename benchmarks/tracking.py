"""What records cost: the baseline's network trained with and without them, alternating, the delivering process at work beside it.

    python benchmarks/tracking.py [--rounds 60]

A pair is the same 4 epochs on 1,243 images of 32 pixels (some 5 s), once with a journal and once without; the first of a pair
changes from round to round. The first pair, in which the delivering process starts, is left out: that happens once in a pipeline.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable

import numpy as np
from measuring import median, report

from darkroom.config.params import Compute, Training
from darkroom.models.base import Network, Preprocessing
from darkroom.models.architectures.compact import Compact
from darkroom.models.specs import CompactSpec
from darkroom.tracking import records, uploader
from darkroom.training.batches import Examples
from darkroom.training.loop import fit

COMPUTE = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
HYPER = Training(
    epochs=4, batch_size=64, optimizer="adamw", lr=0.003, weight_decay=0.05, warmup_epochs=1.0, label_smoothing=0.05,
    class_weights="none", patience=4,
)  # fmt: skip
PREPROCESSING = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used")
    parser.add_argument("--rounds", type=int, default=60)
    given = parser.parse_args()
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (1, 1243, 32, 32, 3), np.uint8), draw.integers(0, 10, 1243)
    train, val = Examples(images, labels), Examples(images[:, :200], labels[:200])

    def trained(on_epoch: Callable[[dict[str, float]], None] | None) -> float:
        network = Network(Compact(CompactSpec(32, 16)), PREPROCESSING, 10)
        started = time.monotonic()
        fit(network, train, val, HYPER, COMPUTE, 10, on_epoch=on_epoch)
        return time.monotonic() - started

    def recorded() -> float:
        with records.run("baseline", {f"some.param{i}": i for i in range(60)}, []) as run:
            return trained(run.epoch)

    pairs = []
    here = os.getcwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        os.chdir(scratch)
        for number in range(given.rounds + 1):
            if number % 2:
                plain, kept = trained(None), recorded()
            else:
                kept, plain = recorded(), trained(None)
            pairs.append((plain, kept))
        uploader.sync()
        os.chdir(here)
    ratios = sorted(kept / plain for plain, kept in pairs[1:])
    rows = [{
        "pairs": given.rounds, "seconds without": round(median([pair[0] for pair in pairs[1:]]), 2),
        "with": round(median([pair[1] for pair in pairs[1:]]), 2), "median ratio": round(median(ratios), 4),
        "least": round(ratios[0], 3), "most": round(ratios[-1], 3),
    }]  # fmt: skip
    report("tracking", rows, {"ratios": ratios})


if __name__ == "__main__":
    main()
