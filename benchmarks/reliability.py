"""What Darkroom survives, in one table: damaged files, kills, full disks, wrong requests, a fortnight of flows.

    python benchmarks/reliability.py FOLDER [--inputs 5000] [--moments 50] [--minutes 30] [--flows 200]
                                            [--only fuzz kills full_disk serving soak]

Each part is a benchmark of its own, whose output is shown while it runs: `fuzz.py` feeds damaged files to everything that reads
one, `kills.py` kills the graph at random moments, `full_disk.py` runs it on a disk that is full again and again, `serving.py`
sends wrong requests to a served model, `soak.py` kills scheduled flows of a simulated fortnight. `lost` are failures of `fuzz.py`,
wrong responses, and outputs that do not have the bytes of an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring import REPORTS, report

FUZZ = Path("reports/fuzz/results.json")


def fuzz() -> dict[str, Any]:
    results = json.loads(FUZZ.read_text())
    failures = sum(sum(result["kinds"].values()) for result in results)
    tried = sum(result["inputs"] for result in results)
    return {"part": f"damaged files of {len(results)} kinds", "tried": tried, "survived": tried - failures, "lost": failures}


def kills() -> dict[str, Any]:
    content = json.loads((REPORTS / "kills.json").read_text())
    tried, lost = len(content["moments"]), len(content["lost"])
    return {"part": "kills of the graph", "tried": tried, "survived": tried - min(tried, lost), "lost": lost}


def full_disk() -> dict[str, Any]:
    content = json.loads((REPORTS / "full_disk.json").read_text())
    tried, faults = len(content["stops"]), sum(bool(stop["fault"]) for stop in content["stops"])
    return {"part": "stops by a full disk", "tried": tried, "survived": tried - faults, "lost": len(content["lost"])}


def serving() -> dict[str, Any]:
    rows = json.loads((REPORTS / "serving.json").read_text())["rows"]
    tried, faults = sum(row["sent"] for row in rows), sum(row["faults"] for row in rows)
    return {"part": "requests to a served model", "tried": tried, "survived": tried - faults, "lost": faults}


def soak() -> dict[str, Any]:
    content = json.loads((REPORTS / "soak.json").read_text())
    tried, lost = content["rows"][-1]["flows"], len(content["faults"])
    return {"part": "flows of a fortnight", "tried": tried, "survived": tried - min(tried, lost), "lost": lost}


PARTS = {"fuzz": fuzz, "kills": kills, "full_disk": full_disk, "serving": serving, "soak": soak}


def run(script: str, *arguments: str) -> int:
    print(f"── {script}", flush=True)
    return subprocess.run([sys.executable, str(Path(__file__).with_name(script)), *arguments]).returncode


def main() -> int:
    parser = argparse.ArgumentParser("python benchmarks/reliability.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs, one folder per class")
    parser.add_argument("--inputs", type=int, default=5_000, help="damaged files of each kind")
    parser.add_argument("--moments", type=int, default=50, help="kills")
    parser.add_argument("--minutes", type=float, default=30, help="of requests")
    parser.add_argument("--flows", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    arguments: Mapping[str, Sequence[str]] = {
        "fuzz": ("--inputs", str(options.inputs)), "kills": (str(options.folder), "--moments", str(options.moments)),
        "full_disk": (str(options.folder),), "serving": (str(options.folder), "--minutes", str(options.minutes)),
        "soak": (str(options.folder), "--flows", str(options.flows)),
    }  # fmt: skip
    failed = [name for name in options.only if run(f"{name}.py", *arguments[name])]
    report("reliability", [PARTS[name]() for name in options.only])
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
