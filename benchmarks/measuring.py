"""Shared by the benchmarks: a workspace of their own, wall time, medians of alternating rounds, a table and
its JSON.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from darkroom.core import tables

ROOT = Path(__file__).parents[1]
REPORTS = Path("reports/bench")


class Usage(NamedTuple):
    """What a command took: seconds of the clock and of all cores, and MiB of resident memory at most, without mapped files."""

    seconds: float
    cpu: float
    memory: float


class Workspace:
    """A project in an empty folder: the sources and the graph of `root`, a git and a DVC repository, no
    outputs.
    """

    def __init__(self, place: Path, root: Path = ROOT) -> None:
        self.place = place
        for name in ("src", "recipes"):
            shutil.copytree(root / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in (
            "dvc.yaml",
            "params.yaml",
            ".dvcignore",
            ".gitignore",
            "data/label_fixes.csv",
            "data/splits.csv",
            "backbones/README.md",
            "data/weights/.gitignore",
            "models/transfer/.keep",
            "models/finetune/.keep",
        ):
            if (root / name).exists():  # an older commit lacks some
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, place / name)
        gone = ("MLFLOW_TRACKING_URI", "DARKROOM_PIPELINE", "DVC_STAGE", "DARKROOM_TRACKING")
        self.environment = {key: value for key, value in os.environ.items() if key not in gone}
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(place / "src"),
            "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true",
        }  # fmt: skip
        command = place / ".venv/bin/darkroom"  # what dvc.yaml finds first: the sources here, whatever is installed
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m darkroom "$@"\n')
        command.chmod(0o755)
        subprocess.run(["git", "init", "-q"], cwd=place, check=True)
        self.run("dvc", "init", "-q")
        self.run("compileall", "-q", "src")

    def run(self, *command: str, **environment: str) -> float:
        """Run `python -m command` and return its wall time in seconds; a failure shows its output."""
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=self.place, env=self.environment | environment, capture_output=True, text=True
        )
        elapsed = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}")
        return elapsed

    def recipe(self, *arguments: str) -> None:
        self.run("darkroom", "recipe", *arguments)

    def measure(self, *command: str, **environment: str) -> Usage:
        """Run `python -m command`; return what it took. A failure shows the end of its output."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.place, env=self.environment | environment, stdout=output, stderr=output
            )
            peak = 0
            while process.poll() is None:
                peak = max(peak, _own_memory(process.pid))
                time.sleep(0.05)
            elapsed = time.perf_counter() - started
            if process.returncode:
                output.seek(0)
                raise SystemExit(f"{' '.join(command)} failed:\n{output.read()[-4000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Usage(elapsed, cpu, peak / 2**20)


def _own_memory(pid: int) -> int:
    """Return the resident bytes of a process and its children, without the files that they map, DVC and the uploader."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for process in processes:
        try:
            command = process.cmdline()
            if not {"dvc", "darkroom.config.dvc_process", "darkroom.tracking.uploader_process"} & set(command):
                memory = process.memory_info()
                total += memory.rss - memory.shared
        except psutil.Error:
            continue
    return total


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternating(rounds: int, *works: Callable[[], Any]) -> list[list[Any]]:
    """Call each in turn, `rounds` times over, and return their results: a drift of the machine affects all
    alike.
    """
    results: list[list[Any]] = [[] for _ in works]
    for _ in range(rounds):
        for work, into in zip(works, results, strict=True):
            into.append(work())
    return results


def median(values: list[float]) -> float:
    return statistics.median(values)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("torch", "torchvision", "onnxruntime", "albumentations", "dvc", "mlflow")}
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    } | libraries


def report(name: str, rows: list[Mapping[str, Any]], details: Mapping[str, Any] | None = None) -> None:
    """Print rows as a table and write them, with the machine and the details, to `reports/bench/<name>.json`."""
    columns = list(rows[0])
    tables.show(columns, [[_cell(row[column]) for column in columns] for row in rows], right=columns[1:])
    REPORTS.mkdir(parents=True, exist_ok=True)
    content = {"rows": rows, "machine": machine(), **(details or {})}
    (REPORTS / f"{name}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")
    print(f"written to {REPORTS / name}.json\n", flush=True)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
