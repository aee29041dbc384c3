"""What each second of a run is: the processor time of every stage, and of the functions of Darkroom's in it.

    python benchmarks/stage_profile.py FOLDER --weights WEIGHTS [--recipe photos] [--backbone mobilenet_v2] [--functions 12]

Each stage is a process of its own in an empty workspace. `cpu` are the seconds of all cores, its imports included; the functions
are those with the most seconds from their call to their return, by all threads of the process. Other programs hardly change them.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import json
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from measuring import Workspace, report

from darkroom.config import dvc_graph

MATRIX = {"weights", "embed", "transfer", "finetune"}
ORDER = (
    "ingest", "augment", "baseline", "weights", "embed", "transfer", "finetune", "cross_validate", "evaluate", "register",
    "diagnose",
)  # fmt: skip
PACKAGE = "/darkroom/"


def profile(stage: str, backbone: str | None) -> dict[str, Any]:
    """Run a stage in this process; return its processor seconds and those of the package's functions."""
    module = importlib.import_module(f"darkroom.stages.{stage}")
    options = {key: Path(value) for key, value in dvc_graph.command_options(stage, backbone).items()}
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(module.run, *([backbone] if backbone else []), **options)
    calls = pstats.Stats(profiler).stats.items()  # type: ignore[attr-defined]
    functions = {f"{file.rpartition(PACKAGE)[2]}:{name}": row[3] for (file, _, name), row in calls if PACKAGE in file}
    process = psutil.Process().cpu_times()
    own, children = process.user + process.system, process.children_user + process.children_system
    return {"cpu": own + children, "functions": dict(sorted(functions.items(), key=lambda item: -item[1]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--recipe", default="photos")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--functions", type=int, default=12, help="that are named, of each stage")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    backbone = options.backbone if options.stage in MATRIX else None
    if options.stage:
        print(json.dumps(profile(options.stage, backbone)))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Workspace(Path(scratch) / "place")
        weights = str(options.weights.resolve()) if options.weights else "random"
        place.recipe(options.recipe, "--data", str(options.folder.resolve()), "--weights", weights, "--set",
                     f"backbones=[{options.backbone}]")  # fmt: skip
        place.run("dvc", "repro", "names")
        for stage in ORDER:
            command = [sys.executable, __file__, "--stage", stage, "--backbone", options.backbone]
            done = subprocess.run(command, cwd=place.place, env=place.environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{stage} failed:\n{(done.stdout + done.stderr)[-4000:]}")
            result = json.loads(done.stdout.splitlines()[-1])
            rows.append({"stage": stage, "cpu": result["cpu"]})
            print(f"{stage}: {result['cpu']:.1f} s", flush=True)
            for name, seconds in list(result["functions"].items())[: options.functions]:
                print(f"  {seconds:8.2f}  {name}", flush=True)
    total = sum(row["cpu"] for row in rows)
    report("stage-profile", [{**row, "share": row["cpu"] / total} for row in rows])


if __name__ == "__main__":
    main()
