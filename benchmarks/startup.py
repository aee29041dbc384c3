"""Start-up: each stage as a process of its own on 60 tiny images, against a process that imports just torch.

    python benchmarks/startup.py [--rounds 3]

What a stage takes on almost no data is what it costs to start: interpreter, imports, params, the network, its export. The
limits are for a stage on its own (DARKROOM_WARM=0); "forked" is the same from the process that has torch in memory, on Linux.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import Workspace, alternating, median, report, seconds
from PIL import Image

TORCH = {"baseline", "weights", "embed", "transfer", "finetune", "evaluate"}
MATRIX = {"weights", "embed", "transfer", "finetune"}
STAGES = ("ingest", "augment", "baseline", "weights", "embed", "transfer", "finetune", "evaluate", "register")


def images(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    for i in range(60):
        file = folder / ("even", "odd")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(file)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Workspace(Path(scratch) / "place")
        place.recipe("--set", "fetch.datasets=[]", f"ingest.source={images(Path(scratch) / 'images')}", "augment.views=1",
                     "backbones=[mobilenet_v2]", "weights.source=random", "baseline.epochs=1", "transfer.epochs=1",
                     "finetune.epochs=1")  # fmt: skip
        place.run("dvc", "repro")

        def run(stage: str, warm: str) -> float:
            return place.run("darkroom", stage, *(["mobilenet_v2"] if stage in MATRIX else []), DARKROOM_WARM=warm)

        def process(*command: str) -> float:
            return seconds(lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=place.place))

        torch = ["-c", "import torch"]
        works = [lambda stage=stage: run(stage, "0") for stage in STAGES]
        works += [lambda: process(*torch), lambda: process("-m", "darkroom", "--help")]
        works += [lambda: process("-m", "darkroom", "complete", "embed", "")]
        works += [lambda stage=stage: run(stage, "60") for stage in sorted(TORCH)]
        times = [median(values) for values in alternating(given.rounds, *works)]
        times, forked = times[: -len(TORCH)], dict(zip(sorted(TORCH), times[-len(TORCH) :], strict=True))
        place.run("dvc", "repro")  # the costs that stages wrote by hand
        times.append(median(alternating(given.rounds, lambda: place.run("dvc", "repro"))[0]))
    base = times[len(STAGES)]
    names = [*STAGES, "import torch", "darkroom --help", "darkroom complete", "dvc repro, nothing to do"]
    limits = {stage: base + 1.5 if stage in TORCH else 2.0 for stage in STAGES} | dict.fromkeys(names[-3:-1], 0.3)
    rows = [
        {"process": name, "seconds": round(taken, 2), "forked": round(forked[name], 2) if name in forked else "",
         "above torch": round(taken - base, 2) if name in TORCH else "",
         "limit": round(limits[name], 2) if name in limits else "", "met": "" if name not in limits else str(taken <= limits[name])}
        for name, taken in zip(names, times, strict=True)
    ]  # fmt: skip
    report("startup", rows)


if __name__ == "__main__":
    main()
