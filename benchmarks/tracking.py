"""What records cost: the baseline trained with and without them, alternating, a delivering process at work beside it.

    python benchmarks/tracking.py [--rounds 6] [--epochs 12]

The seconds are those of the stage's own clock (`models/cost/baseline.json`), so that they hold nothing of its start-up. The
processor time of the delivering process while a stage trains is given as a share of what the machine could have done meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import psutil
from measuring import Workspace, median, report


def delivering(place: Path) -> float:
    """Return the processor seconds that the delivering process of a workspace has used."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if "darkroom.tracking.deliver" in (process.info["cmdline"] or []) and process.info["cwd"] == str(place):
            times = process.cpu_times()
            return float(times.user + times.system)
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Workspace(Path(scratch).resolve() / "place")
        place.recipe("--set", f"baseline.epochs={given.epochs}")
        place.run("dvc", "repro", "augment")
        cost = place.place / "models" / "cost" / "baseline.json"

        def trained(tracking: str) -> tuple[float, float, float]:
            """Return the seconds of the stage's own clock and of the wall, and the processor time of the delivering process."""
            before, started = delivering(place.place), time.perf_counter()
            place.run("darkroom", "baseline", DARKROOM_TRACKING=tracking)
            return json.loads(cost.read_text())["seconds"], time.perf_counter() - started, delivering(place.place) - before

        trained("on")  # the process that has torch, and the one that delivers
        rounds = []
        for number in range(given.rounds):  # the first of a pair changes from round to round
            pair = {tracking: trained(tracking) for tracking in (("off", "on"), ("on", "off"))[number % 2]}
            rounds.append((pair["off"], pair["on"]))
        place.run("darkroom", "sync")  # nobody writes here any more
        shares = [recorded[2] / (recorded[1] * (os.cpu_count() or 1)) for _, recorded in rounds if recorded[2] > 0]
        off, on = (median([pair[i][0] for pair in rounds]) for i in (0, 1))
        ratios = sorted(pair[1][0] / pair[0][0] for pair in rounds)
    rows = [{
        "seconds without": round(off, 2), "with": round(on, 2), "ratio": round(median(ratios), 4),
        "delivering process": f"{median(shares):.2%} of the machine",
    }]  # fmt: skip
    report("tracking", rows, {"ratios": ratios, "shares": shares})


if __name__ == "__main__":
    main()
