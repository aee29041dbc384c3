"""Measure what the state of a training costs that a run after a kill goes on from, by its size.

python benchmarks/training_state.py [MEGABYTES ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile

import torch

from darkroom.training.resume import Resume

TENSORS, REPEATS = 50, 5


def seconds(megabytes: float) -> list[float]:
    """Return the sorted seconds of a file of so many megabytes, written several times."""
    tensors = {f"tensor{i}": torch.randn(int(megabytes * 1e6 / 4 / TENSORS)) for i in range(TENSORS)}
    resume, costs = Resume("state"), []
    for _ in range(REPEATS):
        resume.save(tensors, {})
        costs.append(resume.cost)
    return sorted(costs)


def main() -> None:
    parser = argparse.ArgumentParser("python benchmarks/training_state.py", description=__doc__)
    parser.add_argument("megabytes", nargs="*", type=float, default=[10, 50, 100, 300, 1000])
    sizes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for megabytes in sizes:
            costs = seconds(megabytes)
            print(f"{megabytes:g} MB: {statistics.median(costs):.2f} s ({costs[0]:.2f} to {costs[-1]:.2f})", flush=True)


if __name__ == "__main__":
    main()
