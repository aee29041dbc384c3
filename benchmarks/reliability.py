"""What Darkroom survives, in one table: damaged files, kills, power failures, full disks, wrong requests, a fortnight of flows.

    python benchmarks/reliability.py FOLDER [--inputs 5200] [--moments 50] [--minutes 30] [--flows 200] [--seed 0]
                                            [--only fuzz kills power_loss full_disk serving soak]

Each part is a benchmark of its own, whose output is shown while it runs: `fuzz.py` feeds damaged files to everything that reads
one, `kills.py` kills the graph at random moments, `power_loss.py` cuts the power of its disk (root and `pip install mfusepy`; it is
left out elsewhere), `full_disk.py` runs it on a disk that is full again and again, `serving.py` sends wrong requests to a served
model, `soak.py` kills scheduled flows of a simulated fortnight. `lost` are failures of `fuzz.py`, wrong responses, what is refused
after a power failure, and outputs that do not have the bytes of an undisturbed run. A part that ends with an error has lost at
least one, and its figures are those of this run or none.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring import REPORTS, report

FUZZ = Path("reports/fuzz/results.json")
Row = dict[str, Any]


def fuzz(results: Any) -> Row:
    failures = sum(sum(result["kinds"].values()) for result in results)
    tried = sum(result["inputs"] for result in results)
    return _row(f"damaged files of {len(results)} kinds", tried, failures)


def kills(content: Any) -> Row:
    return _row("kills of the graph", len(content["moments"]), len(content["lost"]))


def power_loss(content: Any) -> Row:
    return _row("power failures", len(content["moments"]), len(content["lost"]) + bool(content["refused"]))


def full_disk(content: Any) -> Row:
    tried, faults = len(content["stops"]), sum(bool(stop["fault"]) for stop in content["stops"])
    return {"part": "stops by a full disk", "tried": tried, "survived": tried - faults, "lost": len(content["lost"])}


def serving(content: Any) -> Row:
    rows = content["rows"]
    return _row("requests to a served model", sum(row["sent"] for row in rows), sum(row["faults"] for row in rows))


def soak(content: Any) -> Row:
    return _row("flows of a fortnight", content["rows"][-1]["flows"], len(content["faults"]))


def _row(part: str, tried: int, lost: int) -> Row:
    return {"part": part, "tried": tried, "survived": tried - min(tried, lost), "lost": lost}


PARTS: dict[str, Callable[[Any], Row]] = {
    "fuzz": fuzz, "kills": kills, "power_loss": power_loss, "full_disk": full_disk, "serving": serving, "soak": soak,
}  # fmt: skip


def run(script: str, *arguments: str) -> int:
    print(f"── {script}", flush=True)
    return subprocess.run([sys.executable, str(Path(__file__).with_name(script)), *arguments]).returncode


def measure(name: str, *arguments: str) -> Row:
    """Run a part; return its row. Figures of an earlier run are removed first, so that they never stand for a part that crashed."""
    figures = FUZZ if name == "fuzz" else REPORTS / f"{name}.json"
    figures.unlink(missing_ok=True)
    code = run(f"{name}.py", *arguments)
    try:
        row = PARTS[name](json.loads(figures.read_text()))
    except (FileNotFoundError, ValueError):  # none, or half of them
        return {"part": f"{name}.py did not end: exit code {code}", "tried": 0, "survived": 0, "lost": 1}
    return row | {"lost": max(row["lost"], int(bool(code)))}


def can_cut_power() -> bool:
    """Tell whether `power_loss.py` can mount its disk."""
    return os.geteuid() == 0 and importlib.util.find_spec("mfusepy") is not None


def main() -> int:
    parser = argparse.ArgumentParser(
        "python benchmarks/reliability.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="photographs, one folder per class")
    parser.add_argument("--inputs", type=int, default=5_200, help="damaged files of each kind: of 39 kinds 202,800")
    parser.add_argument("--moments", type=int, default=50, help="kills, and power failures")
    parser.add_argument("--minutes", type=float, default=30, help="of requests")
    parser.add_argument("--flows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn: damage, moments, changes, flows")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}")
    options = parser.parse_args()
    seed, moments = ("--seed", str(options.seed)), ("--moments", str(options.moments))
    arguments: Mapping[str, Sequence[str]] = {
        "fuzz": ("--inputs", str(options.inputs), *seed), "kills": (str(options.folder), *moments, *seed),
        "power_loss": (str(options.folder), *moments, *seed), "full_disk": (str(options.folder),),
        "serving": (str(options.folder), "--minutes", str(options.minutes), *seed),
        "soak": (str(options.folder), "--flows", str(options.flows), *seed),
    }  # fmt: skip
    names = options.only or list(PARTS)
    if "power_loss" in names and not can_cut_power():
        reason = "power_loss takes root and `pip install mfusepy`"
        if options.only:
            parser.error(reason)
        print(f"{reason}: left out", flush=True)
        names.remove("power_loss")
    rows = [measure(name, *arguments[name]) for name in names]
    report("reliability", rows, {"seed": options.seed})
    return int(any(row["lost"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
