"""The cost of records: the baseline is trained with and without one, in turns, while the uploader runs.

    python benchmarks/tracking.py [--rounds 60]

A pair is the same 4 epochs on 1,243 images of 32 pixels (some 5 s), once with a record and once without; the order alternates.
The first pair, in which the uploader starts, is left out: that happens once in a pipeline.
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
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network, Preprocessing
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
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (1, 1243, 32, 32, 3), np.uint8), rng.integers(0, 10, 1243)
    train, val = Examples(images, labels), Examples(images[:, :200], labels[:200])

    def run_training(on_epoch: Callable[[dict[str, float]], None] | None) -> float:
        network = Network(Compact(CompactSpec(32, 16)), PREPROCESSING, 10)
        started = time.monotonic()
        fit(network, train, val, HYPER, COMPUTE, 10, on_epoch=on_epoch)
        return time.monotonic() - started

    def train_recorded() -> float:
        with records.start_run("baseline", {f"some.param{i}": i for i in range(60)}, []) as run:
            return run_training(run.log_epoch)

    pairs = []
    here = os.getcwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        os.chdir(scratch)
        for number in range(options.rounds + 1):
            if number % 2:
                plain, with_record = run_training(None), train_recorded()
            else:
                with_record, plain = train_recorded(), run_training(None)
            pairs.append((plain, with_record))
        uploader.sync()
        os.chdir(here)
    ratios = sorted(with_record / plain for plain, with_record in pairs[1:])
    rows = [{
        "pairs": options.rounds, "seconds without": round(median([pair[0] for pair in pairs[1:]]), 2),
        "with": round(median([pair[1] for pair in pairs[1:]]), 2), "median ratio": round(median(ratios), 4),
        "least": round(ratios[0], 3), "most": round(ratios[-1], 3),
    }]  # fmt: skip
    report("tracking", rows, {"ratios": ratios})


if __name__ == "__main__":
    main()
