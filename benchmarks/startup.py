"""Start-up: each stage as a process of its own on 60 tiny images, against a process that imports just torch.

    python benchmarks/startup.py [--rounds 3]

The time that a stage takes on almost no data is its start-up: interpreter, imports, params, the network, its
export.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import Workspace, alternating, median, report, seconds
from PIL import Image

TORCH = {"baseline", "weights", "embed", "transfer", "finetune", "evaluate", "diagnose"}
MATRIX = {"weights", "embed", "transfer", "finetune"}
STAGES = ("ingest", "augment", "baseline", "weights", "embed", "transfer", "finetune", "evaluate", "register", "diagnose")


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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Workspace(Path(scratch) / "place")
        place.recipe("--set", "fetch.datasets=[]", f"ingest.source={images(Path(scratch) / 'images')}", "augment.views=1",
                     "backbones=[mobilenet_v2]", "weights.source=random", "baseline.epochs=1", "transfer.epochs=1",
                     "finetune.epochs=1")  # fmt: skip
        place.run("dvc", "repro")

        def run(stage: str) -> float:
            return place.run("darkroom", stage, *(["mobilenet_v2"] if stage in MATRIX else []))

        def process(*command: str, **environment: str) -> float:
            settings = {"check": True, "capture_output": True, "cwd": place.place, "env": os.environ | environment}
            return seconds(lambda: subprocess.run([sys.executable, *command], **settings))

        tab = {"_DARKROOM_COMPLETE": "bash_complete", "COMP_WORDS": "darkroom embed ", "COMP_CWORD": "2"}
        works = [lambda stage=stage: run(stage) for stage in STAGES]
        works += [lambda: process("-c", "import torch"), lambda: process("-m", "darkroom", "--help")]
        works += [lambda: process("-m", "darkroom", **tab)]
        times = [median(values) for values in alternating(options.rounds, *works)]
        place.run("dvc", "repro")  # the costs that stages wrote outside of DVC
        times.append(median(alternating(options.rounds, lambda: place.run("dvc", "repro"))[0]))
    base = times[len(STAGES)]
    names = [*STAGES, "import torch", "darkroom --help", "the tab key", "dvc repro, nothing to do"]
    limits = {stage: base + 1.5 if stage in TORCH else 2.0 for stage in STAGES} | {names[-3]: 0.15, names[-2]: 0.3}
    rows = [
        {"process": name, "seconds": round(duration, 2), "above torch": round(duration - base, 2) if name in TORCH else "",
         "limit": round(limits[name], 2) if name in limits else "",
         "met": "" if name not in limits else str(duration <= limits[name])}
        for name, duration in zip(names, times, strict=True)
    ]  # fmt: skip
    report("startup", rows)


if __name__ == "__main__":
    main()
