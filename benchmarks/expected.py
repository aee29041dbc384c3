"""What `darkroom plan` expects of each stage, against a run: seconds, memory and bytes.

    python benchmarks/expected.py FOLDER… [--weights WEIGHTS] [--size 160] [--backbones mobilenet_v2] [--digits]

Runs recipe `photos` on each folder, and with --digits the digits recipe, stage by stage in an empty workspace. A figure is
right where the larger of it and the real one is at most 1.5 times the smaller; differences of less than a second, 50 MiB or
5 MB count as right. Beside other load the seconds say nothing: the load of the machine is written beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import Workspace, report

RIGHT = 1.5
SMALL = {"s": 1.0, "MiB": 50.0, "MB": 5.0}


def measure(place: Path, name: str, *recipe: str) -> list[dict[str, Any]]:
    """Return a row for each stage of a recipe in a new workspace, and one for all."""
    workspace = Workspace(place)
    workspace.recipe(*recipe)
    command = [sys.executable, "-m", "darkroom", "plan", "--json"]
    done = subprocess.run(command, cwd=place, env=workspace.environment, capture_output=True, text=True, check=True)
    rows = []
    for expected in json.loads(done.stdout)["stages"]:
        before, load = used(place), os.getloadavg()[0]
        usage = workspace.measure("dvc", "repro", "--single-item", expected["stage"])
        rows.append({
            "run": name, "stage": expected["stage"], "load": load,
            "expected s": expected["seconds"], "s": usage.seconds, "cpu s": usage.cpu,
            "expected MiB": expected["memory"] / 2**20, "MiB": usage.memory,
            "expected MB": expected["written"] / 1e6, "MB": (used(place) - before) / 1e6,
        })  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    total = {key: sum(row[key] for row in rows) for key in ("expected s", "s", "cpu s", "expected MB", "MB")}
    peak = {key: max(row[key] for row in rows) for key in ("load", "expected MiB", "MiB")}
    return [*rows, {key: ({"run": name, "stage": "all"} | total | peak)[key] for key in rows[0]}]


def is_right(row: dict[str, Any], unit: str) -> bool:
    """Tell whether a figure is within the factor of the real one."""
    low, high = sorted((row[f"expected {unit}"], row[unit]))
    return bool(high - low <= SMALL[unit] or high <= RIGHT * low)


def used(place: Path) -> int:
    """Return the bytes of all files of a workspace, each inode once."""
    files = {(item.st_dev, item.st_ino): item.st_size for path in place.rglob("*") if (item := path.lstat()) and path.is_file()}
    return sum(files.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2"])
    parser.add_argument("--digits", action="store_true")
    options = parser.parse_args()
    runs = {
        folder.name: (
            "photos", "--data", str(folder.resolve()), "--weights", options.weights,
            "--set", f"backbones=[{', '.join(options.backbones)}]", f"ingest.image_size={options.size}",
        )
        for folder in options.folders
    } | ({"digits": ("digits",)} if options.digits else {})  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        rows = [row for number, name in enumerate(runs) for row in measure(Path(scratch) / str(number), name, *runs[name])]
    shares = {unit: sum(is_right(row, unit) for row in rows) for unit in SMALL}
    report("expected", rows, {"right": shares})
    print(f"within a factor of {RIGHT}, of {len(rows)}: " + ", ".join(f"{count} ({unit})" for unit, count in shares.items()))


if __name__ == "__main__":
    main()
