"""What `darkroom check` says that a run takes, against the run: minutes and gigabytes.

    python benchmarks/expected.py FLOWERS [--weights WEIGHTS] [--size 64] [--only photos]

Runs the digits recipe, and recipe photos on FLOWERS with MobileNetV2 at a size, each in an empty workspace.
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


def measure(place: Path, name: str, *recipe: str) -> dict[str, Any]:
    """Return the expected and the real seconds and bytes of a recipe in a new workspace."""
    workspace = Workspace(place)
    workspace.recipe(*recipe)
    command = [sys.executable, "-m", "darkroom", "check", "--json"]
    done = subprocess.run(command, cwd=place, env=workspace.environment, capture_output=True, text=True, check=True)
    expected = json.loads(done.stdout)
    before = used(place)
    load = os.getloadavg()[0]
    seconds = workspace.run("dvc", "repro")
    estimate = sum(expected["seconds"]["stages"].values())
    return {
        "run": name, "expected s": estimate, "low": expected["seconds"]["low"], "high": expected["seconds"]["high"],
        "real s": seconds, "real/expected": seconds / estimate, "expected MB": sum(expected["bytes_written"].values()) / 1e6,
        "real MB": (used(place) - before) / 1e6, "load before": load,
    }  # fmt: skip


def used(place: Path) -> int:
    """Return the bytes of all files of a workspace, each inode once."""
    files = {(item.st_dev, item.st_ino): item.st_size for path in place.rglob("*") if (item := path.lstat()) and path.is_file()}
    return sum(files.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--only", choices=("digits", "photos"))
    options = parser.parse_args()
    photos = [
        "photos", "--data", str(Path(options.folder).resolve()), "--weights", options.weights,
        "--set", "backbones=[mobilenet_v2]", f"ingest.image_size={options.size}",
    ]  # fmt: skip
    runs = {"digits": ["digits"], "photos": photos}
    with tempfile.TemporaryDirectory() as scratch:
        rows = [measure(Path(scratch) / name, name, *runs[name]) for name in runs if options.only in (None, name)]
    report("expected", rows)


if __name__ == "__main__":
    main()
