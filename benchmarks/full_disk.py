"""Run the whole graph on a disk that is full again and again, and compare every output with an undisturbed run's.

    python benchmarks/full_disk.py FOLDER [--step 2] [--images 30]

The project of `benchmarks/kills.py` lies on a disk of its own (a tmpfs, so as root or where user namespaces are allowed). At
first the disk has `--step` MB to spare; whenever `darkroom repro` stops because it is full, it gets some again. Each stop must say
so in a sentence, with exit code 75 or DVC's own message, without a traceback and without being ended by a signal;
the run after it goes on. In the end every output must have the bytes of an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from kills import SETTINGS, differing, finish, last_stage, outputs, prepare, repro, run_undisturbed
from measuring import Workspace, report

PLENTY = 2_000  # MB
NEEDED = re.compile(r"(?<!\()the disk is full: .* needs .* MB, and .* MB are free")  # not that a state to resume from is not kept
SENTENCE = re.compile(r"disk is full|No space left on device|Disk quota exceeded", re.IGNORECASE)


def mount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "darkroom", str(place)], check=True)


def set_free(place: Path, megabytes: float) -> None:
    """Let a disk have so many MB to spare."""
    size = shutil.disk_usage(place).used + int(megabytes * 1e6)
    mount(place, f"remount,size={size}")


def fault(code: int | None, output: str) -> str:
    """Return what is wrong with the end of a run on a full disk; empty where nothing is."""
    if code is None or code < 0 or re.search(r"exited with (-\d+|13[4-9])", output):
        return f"ended by a signal, or hangs ({code})"
    if "Traceback" in output:
        return "traceback"
    return "" if SENTENCE.search(output) else "no sentence about the disk"


def attempt(workspace: Workspace, disk: Path, step: float) -> list[dict[str, object]]:
    """Run `darkroom repro` to its end on a disk that has `step` MB to spare, and half more after each stop in the same stage;
    return a row for each stop.
    """
    rows: list[dict[str, object]] = []
    log = disk.with_name("repro.log")
    free, before = step, ""
    while True:
        set_free(disk, free)
        code, began = repro(workspace, log, 1800)
        stage = last_stage(began)
        output = log.read_text(errors="replace")
        if code == 0:
            return rows
        free, before = free * 1.5 if stage == before else step, stage
        rows.append({"stage": stage, "exit code": code, "fault": fault(code, output), "says needed": bool(NEEDED.search(output))})
        lines = [line for line in output.splitlines() if SENTENCE.search(line)]
        message = next(filter(NEEDED.search, lines), next(iter(lines), output[-300:]))
        print(f"stop {len(rows)} in {stage}, exit code {code}: {message[:180]}", flush=True)
        if len(rows) > 500:
            raise SystemExit("it does not come to an end")


def main() -> None:
    parser = argparse.ArgumentParser("python benchmarks/full_disk.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs, one folder per class")
    parser.add_argument("--step", type=float, default=2, help="MB to spare after each stop")
    parser.add_argument("--images", type=int, default=30, help="of each class")
    options = parser.parse_args()
    if os.geteuid():
        os.execvp("unshare", ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch).resolve()
        expected, _ = run_undisturbed(place, options.folder, options.images)
        disk = place / "disk"
        disk.mkdir()
        mount(disk, f"size={PLENTY}m")
        try:
            workspace = prepare(disk / "project", place / "photos")
            rows = attempt(workspace, disk, options.step)
            lost = differing(expected, outputs(workspace.place))
            set_free(disk, PLENTY)
            finish(workspace)
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
    faults = [row for row in rows if row["fault"]]
    stops = Counter(str(row["stage"]) for row in rows)
    faulty = Counter(str(row["stage"]) for row in faults)
    named = Counter(str(row["stage"]) for row in rows if row["says needed"])
    columns = {"stops": stops, "faults": faulty, "with what was needed": named}
    table = [{"stage": stage} | {name: counts[stage] for name, counts in columns.items()} for stage in sorted(stops)]
    report("full_disk", table, {"stops": rows, "lost": lost, "settings": SETTINGS})
    print(f"{len(rows)} stops, {named.total()} with what was needed, {len(faults)} faults; differing: {', '.join(lost) or 'none'}")
    raise SystemExit(1 if lost or faults else 0)


if __name__ == "__main__":
    main()
