"""Benchmarks: `python benchmarks FOLDER [--weights FOLDER] [--mnist FOLDER] [--only startup transfer …]`; all take two hours."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

VGG = ("--network", "vgg16", "--size", "128")
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "startup": ("startup.py",),
    "frozen": ("frozen.py", "WEIGHTS"),
    "transfer": ("transfer.py", "WEIGHTS"),
    "vgg": ("transfer.py", *VGG, "--finetune-epochs", "0", "--name", "transfer-vgg16"),  # the time does not depend on the weights
    "frozen-vgg": ("frozen.py", *VGG, "--images", "64"),
    "growth": ("growth.py",),
    "digits": ("digits.py",),
    "tracking": ("tracking.py",),
    "orchestration": ("orchestration.py",),
    "ingest": ("ingest.py",),
    "augmentation": ("augmentation.py",),
    "initialization": ("initialization.py", "MNIST"),
}


def main() -> int:
    parser = argparse.ArgumentParser("python benchmarks", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs, one folder per class")
    parser.add_argument("--weights", type=Path, help="a folder of weights; without one they are random")
    parser.add_argument("--mnist", type=Path, help="a folder with MNIST's files; without one its benchmark is left out")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    given = parser.parse_args()
    weights = ["--weights", str(given.weights)] if given.weights else []
    failed = []
    for name in given.only:
        script, *options = BENCHMARKS[name]
        folder = given.folder
        if "MNIST" in options:
            if not given.mnist:
                print(f"── {name}: left out, it needs --mnist", flush=True)
                continue
            options.remove("MNIST")
            folder = given.mnist
        words = [word for option in options for word in (weights if option == "WEIGHTS" else [option])]
        print(f"── {name}", flush=True)
        if subprocess.run([sys.executable, str(Path(__file__).with_name(script)), str(folder), *words]).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
