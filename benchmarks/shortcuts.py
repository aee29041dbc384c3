"""Stages with and without the code that only makes them faster: hand-written convolutions, imports without torch's compiler.

    python benchmarks/shortcuts.py [--rounds 3] [--threads 2] [--only matmul_conv compiler]

Each stage of the digits recipe runs as a process of its own, in turn with and without one of them. A hand-written convolution stays
where it makes a stage 1.25 times faster, an import trick where it saves 5% of a stage. CPU seconds are given beside wall
time: other processes change them less.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Workspace, alternating, median, report

WITHOUT = {
    "": "",
    "matmul_conv": (
        "from contextlib import nullcontext; from darkroom.training import matmul_conv; "
        "matmul_conv.as_products = lambda model, example: nullcontext()"
    ),
    "compiler": "import torch._dynamo, torchvision",
}
STAGES = {
    "matmul_conv": (
        ("weights", "vgg11_bn"), ("weights", "mobilenet_v3_small"), ("finetune", "vgg11_bn"), ("finetune", "mobilenet_v3_small"),
    ),
    "compiler": (("transfer", "mobilenet_v3_small"), ("finetune", "mobilenet_v3_small")),
}  # fmt: skip


def run(place: Workspace, shortcut: str, stage: str, backbone: str) -> tuple[float, float]:
    """Run a stage without a shortcut (with all of them for ""); return its wall and CPU seconds."""
    code = f"import sys; {WITHOUT[shortcut] or 'pass'}; from darkroom import cli; sys.argv = sys.argv[:1]; "
    code += f"raise SystemExit(cli.main(['{stage}', '{backbone}']))"
    started, before = time.perf_counter(), os.times()
    environment = place.environment | {"DARKROOM_TRACKING": "off"}
    done = subprocess.run([sys.executable, "-c", code], cwd=place.place, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, os.times()
    if done.returncode:
        raise SystemExit(f"{stage} {backbone} failed:\n{done.stderr[-4000:]}")
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def compare(place: Workspace, shortcut: str, stage: str, backbone: str, rounds: int) -> dict[str, object]:
    times = alternating(rounds, lambda: run(place, "", stage, backbone), lambda: run(place, shortcut, stage, backbone))
    (wall, cpu), (slow_wall, slow_cpu) = ([median(list(values)) for values in zip(*pairs, strict=True)] for pairs in times)
    return {
        "shortcut": shortcut, "stage": f"{stage} {backbone}", "with s": wall, "without s": slow_wall, "ratio": slow_wall / wall,
        "with CPU s": cpu, "without CPU s": slow_cpu, "CPU ratio": slow_cpu / cpu,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=list(STAGES))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Workspace(Path(scratch) / "digits")
        place.recipe("--set", f"compute.threads={options.threads}", "finetune.patience=99")
        place.run("dvc", "repro", "transfer")
        for shortcut in options.only:
            rows += [compare(place, shortcut, stage, backbone, options.rounds) for stage, backbone in STAGES[shortcut]]
    report("shortcuts", rows)


if __name__ == "__main__":
    main()
