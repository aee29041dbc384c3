"""Serve a model for half an hour, to clients of which half of the requests are wrong: memory, statuses, latency, predictions.

    python benchmarks/serving.py FOLDER [--minutes 30] [--clients 8]

FOLDER has photographs, one folder per class, from which a small model is made; or it is a project that has a champion,
which is served then. It is served as docs/models.md says: `mlflow models serve -m models:/darkroom@champion`. Every client
sends one request after the other (`serving_requests.py`). A response is a fault where its status is not among those that the
request may have, where a row of an image that `darkroom predict` reads has no probabilities or others (by more than 0.001), where
a row of anything else has some, or where an image gets other probabilities than before. Memory is the resident memory of the
server and its children, sampled every two seconds; the slope is that of a line through the tenth percentiles of windows of half
a minute after the first fifth: what the server holds between large requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from kills import copy_photos
from measuring import Workspace, report
from serving_requests import MLFLOW_FAILS, Request, Requests, Sample, write_files

SETTINGS = ("compute.threads=1", "backbones=[]", "ingest.image_size=64", "augment.views=1", "baseline.epochs=4",
            "diagnose.robustness_images=10")  # fmt: skip
PHOTOS = 30  # of each class, for the model
TOLERANCE = 1e-3  # of a probability, between the exported program and the checkpoint, as in docs/models.md
INTERVAL = 2.0  # seconds between two samples of memory
WINDOW = 30.0  # seconds
WARM_UP = 0.2  # of the time, before memory is expected to be flat
START_TIMEOUT = 180.0
TIMEOUT = 120.0  # seconds for a response
KEEP_ALIVE = 5.0  # seconds after which uvicorn closes a connection that is not used
FAULTS = 20  # that are shown in full


class Server:
    """`mlflow models serve` of a project's champion, in a process group of its own."""

    def __init__(self, project: Path, environment: dict[str, str], log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        model = ["-m", "models:/darkroom@champion", "--env-manager", "local", "--port", str(self.port)]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "models", "serve", *model], cwd=project, stdout=file, stderr=file,
                env=environment | {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT
        while not self._responds():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server does not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)

    def _responds(self) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def processes(self) -> list[psutil.Process]:
        server = psutil.Process(self.process.pid)
        return [server, *server.children(recursive=True)]

    def memory(self) -> float:
        """Return the resident memory of all its processes in MiB."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total / 2**20

    def stop(self) -> list[psutil.Process]:
        """End it as Ctrl+C does; return what has not ended by itself."""
        processes = self.processes()
        os.killpg(self.process.pid, 2)
        self.process.wait(60)
        _, alive = psutil.wait_procs(processes, 20)
        for process in alive:
            process.kill()
        return alive


class Results:
    """What all clients have seen."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.statuses: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.faults: Counter[str] = Counter()
        self.examples: list[str] = []
        self.first: dict[bytes, dict[str, float]] = {}  # the first prediction of each image

    def add(self, request: Request, status: str, seconds: float, fault: str) -> None:
        with self.lock:
            self.statuses[request.kind][status] += 1
            self.seconds[request.kind].append(seconds)
            if fault:
                self.faults[request.kind] += 1
                if len(self.examples) < FAULTS:
                    self.examples.append(f"{request.kind}: {fault}; the request began {request.body[:120]!r}")

    def check(self, request: Request, status: int, body: bytes) -> str:
        """Return what is wrong with a response; empty where nothing is."""
        if status not in request.statuses:
            return f"status {status}: {body[:300].decode(errors='replace')}"
        if status != 200:
            return ""
        try:
            rows = json.loads(body, parse_constant=lambda word: 1 / 0)["predictions"]
        except (ValueError, KeyError, ZeroDivisionError):
            return f"not JSON with predictions: {body[:300]!r}"
        if request.rows is None:
            return "" if all(row["error"] for row in rows) else "a row of no image has no error"
        if len(rows) != len(request.rows):
            return f"{len(rows)} rows for {len(request.rows)}"
        return "; ".join(filter(None, map(self._check_row, request.rows, rows)))

    def _check_row(self, sample: Sample | None, row: dict[str, Any]) -> str:
        expected, probabilities = sample.probabilities if sample else None, row["probabilities"]
        if expected is None:
            return "" if row["error"] and probabilities is None else f"a row of no image has {row}"
        if not probabilities:
            return f"a row of an image has the error {row['error']}"
        assert sample
        with self.lock:
            first = self.first.setdefault(sample.content, probabilities)
        if not np.allclose(list(first.values()), list(probabilities.values()), atol=1e-6, rtol=0):
            return f"another prediction than before: {first}, {probabilities}"
        if max(abs(expected[name] - probabilities[name]) for name in expected) > TOLERANCE:
            return f"`darkroom predict` says {expected}, the server {probabilities}"
        return ""


def client(port: int, requests: Requests, results: Results, deadline: float) -> None:
    """Send one request after the other over one connection.

    It is opened again where the server has closed it: after a 500, and where the client was idle for KEEP_ALIVE seconds.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    used = time.monotonic()
    while time.monotonic() < deadline:
        request = requests.next()
        started = time.perf_counter()
        status, body = "cut", b""
        try:
            if request.is_cut:
                _cut(port, request.body)
            else:
                before, used = used, time.monotonic()
                response = _post(connection, request, before)
                status, body = str(response.status), response.read()
                if status == str(MLFLOW_FAILS):  # uvicorn closes the connection then
                    connection.close()
            fault = "" if request.is_cut else results.check(request, int(status), body)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            status, fault = type(error).__name__, f"no response: {error!r}"
        results.add(request, status, time.perf_counter() - started, fault)
    connection.close()


def _post(connection: http.client.HTTPConnection, request: Request, used: float) -> http.client.HTTPResponse:
    """Send a request; once more where the one before was sent so long ago that the server may have closed the connection since."""
    for is_last in (False, True):
        try:
            connection.request("POST", "/invocations", request.body, request.headers)
            return connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):
            if is_last or connection.sock is None or time.monotonic() - used < KEEP_ALIVE:
                raise
            connection.close()
    raise AssertionError


def _cut(port: int, body: bytes) -> None:
    """Send a part of a request and close the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: len(body) // 2])


def make_project(photos: Path, place: Path) -> Workspace:
    """Make a project with a champion."""
    copy_photos(photos, place / "photos", PHOTOS)
    workspace = Workspace(place / "project")
    shutil.move(place / "photos", workspace.place / "photos")
    workspace.recipe("photos", "--data", "photos", "--set", *SETTINGS)
    workspace.run("dvc", "repro")
    workspace.run("darkroom", "sync")
    workspace.run("darkroom", "promote", "1", "--force", "--why", "a benchmark")
    return workspace


def predictions(project: Path, environment: dict[str, str], files: list[Path]) -> list[Sample]:
    """Return what `darkroom predict` says about files."""
    command = [sys.executable, "-m", "darkroom", "predict", "--json", "-"]
    names = "\n".join(map(str, files))
    result = subprocess.run(command, cwd=project, env=environment, input=names, capture_output=True, text=True)
    rows = json.loads(result.stdout)["predictions"]
    return [Sample(file.read_bytes(), row["probabilities"]) for file, row in zip(files, rows, strict=True)]


def slope(samples: list[tuple[float, float]]) -> float:
    """Return how the memory that is held between large requests grows after the warm-up, in MiB a minute."""
    windows = defaultdict(list)
    for seconds, memory in samples:
        if seconds >= WARM_UP * samples[-1][0]:
            windows[int(seconds // WINDOW)].append(memory)
    if len(windows) < 3:
        return float("nan")
    floors = [float(np.quantile(values, 0.1)) for _, values in sorted(windows.items())]
    return float(np.polyfit(np.arange(len(floors)) * WINDOW / 60, floors, 1)[0])


def serve(
    server: Server, samples: list[Sample], minutes: float, clients: int, seed: int
) -> tuple[Results, list[tuple[float, float]]]:
    """Let clients send requests; return what they saw, and the memory of the server over time."""
    results, memory = Results(), []
    started = time.monotonic()
    deadline = started + 60 * minutes
    threads = [
        threading.Thread(target=client, args=(server.port, Requests(samples, seed * clients + number), results, deadline))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    reported = started
    while any(thread.is_alive() for thread in threads):
        if time.monotonic() < deadline:
            memory.append((time.monotonic() - started, server.memory()))
        if time.monotonic() - reported > 60:
            reported = time.monotonic()
            sent = sum(sum(counts.values()) for counts in results.statuses.values())
            faults = sum(results.faults.values())
            print(f"{(reported - started) / 60:.0f} min: {memory[-1][1]:.0f} MiB, {sent} requests, {faults} faults", flush=True)
        time.sleep(INTERVAL)
    return results, memory


def main() -> int:
    parser = argparse.ArgumentParser("python benchmarks/serving.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs, one folder per class, or a project with a champion")
    parser.add_argument("--photos", type=Path, help="photographs to send, where FOLDER is a project")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="of the requests")
    options = parser.parse_args()
    is_project = (options.folder / "dvc.yaml").exists()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch).resolve()
        if is_project:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            project, environment = options.folder.resolve(), os.environ | {"PATH": path}
        else:
            workspace = make_project(options.folder, place)
            project, environment = workspace.place, workspace.environment
        samples = predictions(project, environment, write_files(options.photos or options.folder, place / "sent", 12))
        log = place / "server.log"
        server = Server(project, environment, log)
        before = server.memory()
        try:
            results, memory = serve(server, samples, options.minutes, options.clients, options.seed)
        finally:
            left = server.stop()
        log_size = log.stat().st_size
    rows = [
        {
            "requests": kind, "sent": sum(counts.values()),
            "statuses": ", ".join(f"{status} {count}" for status, count in sorted(counts.items())),
            "p50 (ms)": 1000 * float(np.quantile(results.seconds[kind], 0.5)),
            "p99 (ms)": 1000 * float(np.quantile(results.seconds[kind], 0.99)), "faults": results.faults[kind],
        }
        for kind, counts in sorted(results.statuses.items())
    ]  # fmt: skip
    growth, values = slope(memory), [value for _, value in memory]
    faults = sum(results.faults.values())
    details = {
        "minutes": options.minutes, "clients": options.clients, "seed": options.seed, "memory": memory, "memory before": before,
        "slope": growth, "examples": results.examples, "left": len(left), "log": log_size,
    }  # fmt: skip
    report("serving", rows, details)
    print("\n".join(results.examples))
    print(f"memory: {before:.0f} MiB before the first request, median {statistics.median(values):.0f}, highest {max(values):.0f}, "
          f"last {values[-1]:.0f}; slope after the warm-up {growth:+.2f} MiB a minute; {log_size / 2**20:.1f} MiB of log; "
          f"{len(left)} processes left; {faults} faults")  # fmt: skip
    return int(bool(faults or left))


if __name__ == "__main__":
    sys.exit(main())
