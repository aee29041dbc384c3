"""Cut the power while `darkroom repro` runs, again and again, and compare every output with an undisturbed run's.

    python benchmarks/power_loss.py FOLDER [--moments 20] [--seed 0] [--images 30]

The project of `benchmarks/kills.py` lies on a disk that loses what was not brought to it (`volatile_disk.py`: Linux, root, libfuse,
`pip install mfusepy`). At a random moment all processes are killed and the disk is what it would be after a power failure; the
next `darkroom repro` starts there. Moments are drawn as by `kills.py`: half of them after the start of the command, the others
within a stage that has had the fewest. Projects follow each other until there are so many. Lost is what the command refuses, and
every output that does not have the bytes of an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from kills import LIMIT, differing, draw_moment, kill, last_stage, outputs, prepare, repro, run_undisturbed
from measuring import Workspace, report

DISK = Path(__file__).with_name("volatile_disk.py")


class Power:
    """A project's folder on a disk whose power can be cut."""

    def __init__(self, place: Path, draw: random.Random) -> None:
        self.place, self.draw, self.cuts = place, draw, 0
        self.content = place.with_name(f"{place.name}-0")
        place.rename(self.content)
        place.mkdir()
        self.process = self._on()

    def _on(self) -> subprocess.Popen[bytes]:
        self.cuts += 1
        after = self.place.with_name(f"{self.place.name}-{self.cuts}")
        command = [sys.executable, str(DISK), str(self.content), str(self.place), str(after), str(self.draw.randrange(10**6))]
        process = subprocess.Popen(command)
        while not self.place.is_mount():
            assert process.poll() is None, "the disk cannot be mounted"
            time.sleep(0.05)
        shutil.rmtree(self.content)
        self.content = after
        return process

    def cut(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)
        self.process.wait()

    def fail(self) -> None:
        """Cut the power, and bring it back."""
        self.cut()
        self.process = self._on()


def sweep(
    workspace: Workspace,
    power: Power,
    draw: random.Random,
    durations: Mapping[str, float],
    rows: list[dict[str, object]],
    most: int,
) -> str:
    """Run `darkroom repro` to its end through power failures; add a row for each, `most` in all. `durations` are the seconds of
    undisturbed stages.

    Return what it refused to go on from; empty where it has ended.
    """
    log = workspace.place.with_name("repro.log")
    failures: Counter[str] = Counter()
    stage = ""
    while True:
        seconds, within = 2 * LIMIT, None  # to its end
        if len(rows) < most:
            seconds, within = draw_moment(draw, rows, workspace.place, durations, failures[stage])
        code, began = repro(workspace, log, seconds, within)
        stage = last_stage(began)
        repaired = [line for line in log.read_text().splitlines() if "damaged" in line]
        if repaired:
            print(f"  repaired: {'; '.join(repaired)}", flush=True)
        if code is not None:
            return log.read_text()[-3000:] if code else ""
        kill(workspace, with_uploader=True)
        power.fail()
        failures[stage] += 1
        rows.append({"moment": round(seconds, 1), "drawn within": within, "stage": stage})
        print(f"the power failed after {seconds:.1f} s{f' of {within}' if within else ''} in {stage}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser("python benchmarks/power_loss.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs, one folder per class")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=30, help="of each class")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("to mount a disk takes root")
    draw = random.Random(options.seed)
    rows: list[dict[str, object]] = []
    lost: list[str] = []
    refused, number, checked = "", 0, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch).resolve()
        expected, durations = run_undisturbed(place, options.folder, options.images)
        while len(rows) < options.moments and not refused:
            number += 1
            workspace = prepare(place / f"project-{number}", place / "photos")
            power = Power(workspace.place, draw)
            try:
                refused = sweep(workspace, power, draw, durations, rows, options.moments)
                if not refused:
                    lost += [f"sweep {number}: {path}" for path in differing(expected, outputs(workspace.place))]
                    checked += workspace.run("darkroom", "verify", "--cache")
            finally:
                kill(workspace, with_uploader=True)
                power.cut()
    counts = Counter(str(row["stage"]) for row in rows)
    stages = [*durations, *sorted(counts.keys() - durations.keys())]
    report("power_loss", [{"stage": stage, "failures": counts[stage]} for stage in stages], {
        "moments": rows, "lost": lost, "refused": refused, "sweeps": number, "seed": options.seed, "verify": checked,
    })  # fmt: skip
    print(f"{len(rows)} power failures in {number} sweeps; refused: {refused or 'nothing'}; "
          f"outputs that differ: {', '.join(lost) or 'none'}")  # fmt: skip
    raise SystemExit(1 if lost or refused else 0)


if __name__ == "__main__":
    main()
