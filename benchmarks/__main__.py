"""Benchmarks: `python benchmarks FOLDER [--weights FOLDER] [--mnist FOLDER] [--only startup transfer …]`; all
take two hours.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

VGG = ("--network", "vgg16", "--size", "128")
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "startup": ("startup.py",),
    "shortcuts": ("shortcuts.py",),
    "frozen": ("frozen.py", "WEIGHTS"),
    "transfer": ("transfer.py", "WEIGHTS"),
    "vgg": ("transfer.py", *VGG, "--finetune-epochs", "0", "--name", "transfer-vgg16"),  # the time does not depend on the weights
    "frozen-vgg": ("frozen.py", *VGG, "--images", "64"),
    "growth": ("growth.py",),
    "digits": ("digits.py",),
    "tracking": ("tracking.py",),
    "orchestration": ("orchestration.py",),
    "ingest": ("ingest.py",),
    "splits": ("splits.py",),
    "gate": ("gate.py",),
    "monitor": ("monitor.py", "WEIGHTS"),
    "zip_names": ("zip_names.py",),
    "kills": ("kills.py",),
    "expected": ("expected.py", "WEIGHTS"),
    "augmentation": ("augmentation.py",),
    "initialization": ("initialization.py", "MNIST"),
}


def main() -> int:
    parser = argparse.ArgumentParser("python benchmarks", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs, one folder per class")
    parser.add_argument("--weights", type=Path, help="a folder of weights; without one they are random")
    parser.add_argument("--mnist", type=Path, help="a folder with MNIST's files; without one its benchmark is left out")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    options = parser.parse_args()
    weights = ["--weights", str(options.weights)] if options.weights else []
    failed = []
    for name in options.only:
        script, *arguments = BENCHMARKS[name]
        folder = options.folder
        if "MNIST" in arguments:
            if not options.mnist:
                print(f"── {name}: left out, it needs --mnist", flush=True)
                continue
            arguments.remove("MNIST")
            folder = options.mnist
        command = [word for argument in arguments for word in (weights if argument == "WEIGHTS" else [argument])]
        print(f"── {name}", flush=True)
        if subprocess.run([sys.executable, str(Path(__file__).with_name(script)), str(folder), *command]).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
