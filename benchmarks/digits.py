"""The digits recipe, cold, against the same recipe at another commit.

    python benchmarks/digits.py [--before 42ff00f] [--rounds 3]

Each round runs `dvc repro` in an empty workspace of the working tree and in one of the other commit, with
this environment; 42ff00f also needs lightning-fabric: `.venv/bin/uv pip install lightning-fabric`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from measuring import ROOT, Workspace, alternating, median, report

BEFORE = "42ff00f"  # the last commit before frozen networks ran in ONNX Runtime


def run(root: Path, accuracies: dict[str, Any]) -> float:
    """Run the recipe with the sources of `root`; return its seconds and fill in the test accuracies."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Workspace(Path(scratch) / "place", root)
        elapsed = place.run("dvc", "repro")
        place.run("darkroom", "sync")
        figures = json.loads((place.place / "reports/metrics.json").read_text())["models"]
        accuracies.update({name: round(figure["accuracy"], 4) for name, figure in figures.items()})
    print(f"{root.name}: {elapsed:.1f} s {accuracies}", flush=True)
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used")
    parser.add_argument("--before", default=BEFORE)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        other = Path(scratch) / "before"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", str(other), options.before], cwd=ROOT, check=True)
        try:
            accuracies: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
            times = alternating(options.rounds, lambda: run(other, accuracies[0]), lambda: run(ROOT, accuracies[1]))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=ROOT, check=True)
    rows = [
        {
            "version": version,
            "seconds": median(durations),
            "share of before": median([b / a for a, b in zip(times[0], durations, strict=True)]),
        }
        for version, durations in zip((f"before ({options.before})", "now"), times, strict=True)
    ]
    report("digits", rows, {"times": times, "accuracy": accuracies})


if __name__ == "__main__":
    main()
