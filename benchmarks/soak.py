"""Hundreds of scheduled flows over a simulated fortnight, a third of them killed: what is lost, what is left, how the disk grows.

    python benchmarks/soak.py FOLDER [--flows 200] [--days 14] [--keep-days 3] [--seed 0] [--no-tidy]

The project has a few photographs of each class, a CNN that trains for two epochs, MLflow, and the server and the worker of
`make schedule`. Its deployments run one after the other: `retrain`, `repro`, also with --temporary, and `monitor`. Before a
flow an image is added or removed, a param is changed and committed, or an image arrives in data/inbox. A third of the flows
is killed with SIGKILL, its whole process group, at a random moment. After each flow the times of files and of the databases'
rows are moved back by DAYS / FLOWS; three times a simulated week the deployment `tidy` removes what is older than KEEP-DAYS.

At the end a last `repro` is not disturbed. A fault is: an output that has not the bytes of a run in a new project; an image that
the manifest does not name; a version that a completed flow registered and that `darkroom models` does not have, though it is
among those that `tidy` keeps; a champion that does not predict; a flow run that is for ever running; a process, a lock or an
unfinished file that is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import chdir, closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from kills import outputs, processes
from measuring import ROOT, Workspace, median, report
from PIL import Image

from darkroom.core.errors import WorkspaceError

sys.path.insert(0, str(ROOT))
from pipelines import server

SETTINGS = (
    "compute.threads=1", "backbones=[]", "ingest.image_size=32", "augment.views=1", "baseline.epochs=2", "baseline.width=8",
    "diagnose.robustness_images=4", "diagnose.views=none", "register.max_calibration_error=1",
)  # fmt: skip
FLOWS = {"retrain": 0.45, "repro": 0.25, "temporary": 0.1, "monitor": 0.2}
DEPLOYMENTS = {
    "retrain": "retrain/soak-nightly", "repro": "repro/soak-on-demand", "temporary": "repro/soak-on-demand",
    "monitor": "monitor/soak-hourly", "tidy": "tidy/soak-weekly",
}  # fmt: skip
KILLED = 1 / 3
IMAGES = 14  # of each class at first
SIDE = 96  # pixels of an image
LIMIT = 600.0  # seconds for a flow
PATIENCE = 5  # requests that are repeated
DAY = 86_400.0
PARTS = {
    "dvc cache": [".dvc/cache"], "worktrees": [".darkroom/worktrees"], "mlruns": ["mlruns"], "mlflow.db": ["mlflow.db"],
    "backups": [".darkroom/backups"], "prefect": [".prefect"], "logs": [".darkroom/schedule", ".darkroom/journal"],
    "versions": [".darkroom/versions", ".darkroom/manifests"], "decoded": [".darkroom/decoded"],
}  # fmt: skip
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
TIMES = (  # columns of mlflow.db in milliseconds since 1970
    ("runs", "start_time"), ("runs", "end_time"), ("model_versions", "creation_time"), ("model_versions", "last_updated_time"),
    ("logged_models", "creation_timestamp_ms"), ("logged_models", "last_updated_timestamp_ms"),
)  # fmt: skip
PREFECT_TIMES = (("flow_run", "start_time"), ("flow_run", "end_time"), ("events", "occurred"))  # of Prefect's database, as text


class Soak:
    """A project with its server and worker, and what has happened to it."""

    def __init__(self, place: Path, photos: Path, seed: int, keep_days: float) -> None:
        self.draw = random.Random(seed)
        self.pool = {folder.name: sorted(folder.glob("*.jpg")) for folder in sorted(photos.iterdir()) if folder.is_dir()}
        self.workspace = Workspace(place / "project")
        self.place = self.workspace.place
        self.number = 0  # of images that were added
        self.seconds: dict[str, list[float]] = defaultdict(list)  # of flows that nothing has killed
        self.states: Counter[tuple[str, str]] = Counter()
        self.registered: set[str] = set()  # versions of completed flows
        self.faults: list[str] = []
        self._prepare(keep_days)

    def _prepare(self, keep_days: float) -> None:
        workspace = self.workspace
        shutil.copytree(ROOT / "pipelines", self.place / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "prefect.toml", self.place)
        hour = (time.localtime().tm_hour + 12) % 24  # no schedule is due meanwhile
        (self.place / "prefect.yaml").write_text(re.sub(r'cron: "0 \S+ ', f'cron: "0 {hour} ', (ROOT / "prefect.yaml").read_text()))
        for name in self.pool:
            for _ in range(IMAGES):
                self.add_image(name)
        workspace.recipe("photos", "--data", "photos", "--set", *SETTINGS)
        with (self.place / ".git/info/exclude").open("a") as file:
            file.write("photos/\n*.log\n")
        workspace.environment |= {
            "DARKROOM_PROJECT": "soak", "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5", "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "60",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(keep_days * DAY), "OMP_NUM_THREADS": "1",
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
        }  # fmt: skip
        self.commit("as it is")
        workspace.run("dvc", "repro")
        workspace.run("darkroom", "sync")
        workspace.run("darkroom", "promote", "1", "--force", "--why", "the first one")
        self.commit("a run")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        workspace.run("pipelines.schedule", "start", "--port", port)
        with chdir(self.place):
            self.api = server.read_state()["api"]

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.place, env=self.workspace.environment, check=True, capture_output=True)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message, "--allow-empty")

    def add_image(self, name: str, folder: str = "photos") -> None:
        """Add a photograph that no other one resembles closely."""
        photo = self.pool[name][self.number % len(self.pool[name])]
        self.number += 1
        picture = Image.open(photo).convert("RGB")
        side = min(picture.size)
        left, top = (self.draw.randrange(length - side + 1) for length in picture.size)
        target = self.place / folder / name / f"{self.number:05}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE)).save(target, quality=90)

    def images(self) -> list[Path]:
        return sorted((self.place / "photos").rglob("*.jpg"))

    def change(self) -> str:
        """Change what the next flow finds; return a word for it."""
        change = self.draw.choices(["image added", "image removed", "param", "arrival", "nothing"], [30, 15, 20, 15, 20])[0]
        if change == "image removed" and len(self.images()) <= 2 * IMAGES:
            change = "image added"
        if change == "image added":
            self.add_image(self.draw.choice(list(self.pool)))
        elif change == "image removed":
            self.draw.choice(self.images()).unlink()
        elif change == "arrival":
            self.add_image(self.draw.choice(list(self.pool)), "data/inbox")
        elif change == "param":
            self.workspace.recipe("--set", f"baseline.lr={self.draw.uniform(0.001, 0.01):.4f}")
            self.commit("another rate")
        return change

    def request(self, path: str, content: dict[str, Any] | None = None, method: str = "") -> Any:
        """Ask the server, which is late beside other load."""
        for _ in range(PATIENCE):
            with chdir(self.place), suppress(WorkspaceError):
                return server.request(self.api, path, content, method)
        with chdir(self.place):
            return server.request(self.api, path, content, method)

    def run(self, flow: str, parameters: dict[str, Any], is_killed: bool) -> str:
        """Run a deployment to its end, or kill it; return the name of its state."""
        identity = self.request(f"deployments/name/{DEPLOYMENTS[flow]}")["id"]
        run_id = self.request(f"deployments/{identity}/create_flow_run", {"parameters": parameters})["id"]
        started = time.monotonic()
        moment = self.draw.uniform(0, 1.1 * median(self.seconds[flow] or [30.0])) if is_killed else float("inf")
        while time.monotonic() - started < LIMIT:
            state = self.request(f"flow_runs/{run_id}")["state"]
            if state["type"] in FINAL:
                break
            if time.monotonic() - started > moment and self.kill(run_id):
                moment = float("inf")
            time.sleep(0.3)
        else:
            self.faults.append(f"{flow} has not ended in {LIMIT:.0f} s: {state['name']}")
            return "endless"
        if not is_killed:
            self.seconds[flow].append(time.monotonic() - started)
        self.states[(flow, state["name"])] += 1
        expected = ("Completed", "Skipped", *(["Crashed"] if is_killed else []), *(["Drifted"] if flow == "monitor" else []))
        if state["name"] not in expected:
            self.faults.append(f"{flow} ended as {state['name']}: {state['message']}")
        if state["name"] == "Completed":
            self.note_version(f".darkroom/worktrees/{flow}" if flow in ("retrain", "temporary") else ".")
        return str(state["name"])

    def kill(self, run_id: str) -> bool:
        """Kill the process group of a flow run; return whether there was one."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if process.environ().get("PREFECT__FLOW_RUN_ID") == run_id and "prefect" in " ".join(process.cmdline()):
                    group = os.getpgid(process.pid)
                    if group == process.pid:
                        os.killpg(group, signal.SIGKILL)
                    else:  # it has the group of its worker
                        process.kill()
                    return True
        return False

    def note_version(self, folder: str) -> None:
        file = self.place / folder / "reports/promotion.json"
        if file.exists():
            self.registered.add(str(json.loads(file.read_text())["registered"]["version"]))

    def age(self, days: float) -> None:
        """Move the times of files and of the databases' rows back."""
        seconds = days * DAY
        for pattern in (".darkroom/backups/*", ".darkroom/versions/*", ".darkroom/manifests/*", ".darkroom/retrained.json"):
            for path in self.place.glob(pattern):
                with suppress(FileNotFoundError):
                    changed = path.stat().st_mtime - seconds
                    os.utime(path, (changed, changed))
        with closing(sqlite3.connect(self.place / "mlflow.db", 60)) as connection, connection:
            for table, column in TIMES:
                connection.execute(f"UPDATE {table} SET {column} = {column} - ?", (int(1000 * seconds),))
        with closing(sqlite3.connect(self.place / ".prefect/prefect.db", 60)) as connection, connection:
            for table, column in PREFECT_TIMES:
                moved = f"strftime('%Y-%m-%d %H:%M:%f', {column}, '-{seconds:.0f} seconds') || '000'"
                connection.execute(f"UPDATE {table} SET {column} = {moved} WHERE {column} IS NOT NULL")

    def sizes(self) -> dict[str, float]:
        """Return MiB by part of the project."""
        sizes = {name: sum(_size(self.place / path) for path in paths) / 2**20 for name, paths in PARTS.items()}
        sizes["all"] = _size(self.place) / 2**20
        return sizes

    def stop(self) -> None:
        """End server, worker and uploader, and name what is left."""
        self.workspace.run("pipelines.schedule", "stop")
        deadline = time.monotonic() + 60
        while (left := processes(self.workspace)) and time.monotonic() < deadline:
            time.sleep(1)
        for process in left:
            with suppress(psutil.Error):
                self.faults.append(f"a process is left: {' '.join(process.cmdline())}")
                process.kill()
        partial = [path for path in self.place.rglob("*.partial") if ".venv" not in path.parts]
        self.faults += [f"left over: {path.relative_to(self.place)}" for path in partial]

    def check(self, keep: int | None) -> None:
        """Compare the end with a run that nothing has disturbed."""
        place = self.place
        fresh = Workspace(place.parent / "fresh")
        shutil.copytree(place / "photos", fresh.place / "photos")
        shutil.copy(place / "params.yaml", fresh.place / "params.yaml")
        fresh.run("dvc", "repro", DARKROOM_TRACKING="off")
        names = "reports/promotion.json"
        expected, found = outputs(fresh.place), outputs(place)
        self.faults += [
            f"{path} differs from that of an undisturbed run"
            for path in sorted(expected.keys() | found.keys())
            if path != names and expected.get(path) != found.get(path)
        ]
        named = set(pd.read_parquet(place / "data/ingested/manifest.parquet")["path"])
        missing = [path for path in self.images() if not any(str(path).endswith(name) for name in named)]
        self.faults += [f"the manifest does not name {path}" for path in missing]
        with closing(sqlite3.connect(place / "mlflow.db")) as connection:
            query = "SELECT version FROM model_versions WHERE current_stage != 'Deleted_Internal'"
            versions = {str(version) for (version,) in connection.execute(query)}
            running = connection.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()[0]
            newest = sorted(map(int, versions))[-1]
        kept = {version for version in self.registered if keep is None or int(version) > newest - keep}
        self.faults += [f"version {version} is lost" for version in sorted(kept - versions, key=int)]
        if running:
            self.faults.append(f"{running} runs of MLflow are running for ever")
        self.workspace.run("darkroom", "predict", str(self.images()[0]), "--model", "champion")
        with closing(sqlite3.connect(place / ".prefect/prefect.db")) as connection:
            for table in ("flow_run", "task_run"):
                query = f"SELECT name, state_type FROM {table} WHERE state_type IN ('RUNNING', 'PENDING', 'CANCELLING')"
                self.faults += [f"{table} {name} is {state} for ever" for name, state in connection.execute(query)]


def _size(path: Path) -> int:
    """Return the bytes that a file or the files of a folder take; links are not followed."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def main() -> int:
    parser = argparse.ArgumentParser("python benchmarks/soak.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs, one folder per class")
    parser.add_argument("--flows", type=int, default=200)
    parser.add_argument("--days", type=float, default=14, help="simulated")
    parser.add_argument("--keep-days", type=float, default=3, help="what `tidy` keeps; simulated")
    parser.add_argument("--keep-versions", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no flow after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tidy", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    step = options.days / options.flows
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        soak = Soak(Path(scratch).resolve(), options.folder.resolve(), options.seed, options.keep_days)
        kills, number = 0, 0
        try:
            rows.append({"flows": 0, "day": 0.0, "kills": 0, **soak.sizes()})
            while number < options.flows and time.monotonic() - started < 60 * options.minutes:
                number += 1
                change = soak.change()
                flow = soak.draw.choices(list(FLOWS), list(FLOWS.values()))[0]
                is_killed = soak.draw.random() < KILLED
                parameters: dict[str, Any] = {}
                if flow == "temporary":
                    parameters = {"temporary": True, "set_params": {"baseline.lr": round(soak.draw.uniform(0.001, 0.01), 4)}}
                elif flow == "monitor":
                    parameters = {"min_images": 2}
                state = soak.run(flow, parameters, is_killed)
                kills += state == "Crashed"
                soak.age(step)
                if options.tidy and int(number * step * 3 / 7) > int((number - 1) * step * 3 / 7):
                    soak.run("tidy", {"older_than": options.keep_days, "keep_versions": options.keep_versions}, False)
                killed = " (to be killed)" if is_killed else ""
                print(f"{number}: {change}; {flow}{killed}: {state}; {soak.sizes()['all']:.0f} MiB", flush=True)
                if number % max(1, options.flows // 10) == 0:
                    rows.append({"flows": number, "day": number * step, "kills": kills, **soak.sizes()})
            soak.run("repro", {}, False)
            soak.workspace.run("darkroom", "sync")
        finally:
            soak.stop()
        soak.check(options.keep_versions if options.tidy else None)
        rows.append({"flows": number, "day": number * step, "kills": kills, **soak.sizes()})
    states = {f"{flow}: {state}": count for (flow, state), count in sorted(soak.states.items())}
    details = {"states": states, "faults": soak.faults, "seconds": {flow: median(times) for flow, times in soak.seconds.items()},
               "versions": len(soak.registered), "seed": options.seed}  # fmt: skip
    report("soak", rows, details)
    print("; ".join(f"{name} {count}" for name, count in states.items()))
    print(f"{number} flows, {kills} killed, {len(soak.registered)} versions; faults: {len(soak.faults)}", *soak.faults, sep="\n  ")
    return int(bool(soak.faults))


if __name__ == "__main__":
    sys.exit(main())
