"""Take the pictures of docs/mlflow.md from the MLflow of this folder: `.venv/bin/python docs/pictures.py [FOLDER]`.

It wants a workspace in which the pipeline has run (`make repro`), and Chromium.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from darkroom.tracking import reading, registry, store

SIZE = (1600, 950)
PATIENCE = 40_000  # milliseconds of the page's own time, in which its charts are there


def main(folder: Path) -> int:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        print("Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 2
    trained = [run for run in reading.runs() if run.metrics.get("test_accuracy") and run.status == "FINISHED" and not run.reused]
    newest = {run.stage: run for run in trained}
    compared = [run for stage, run in newest.items() if stage == "baseline" or stage.startswith("finetune@")]
    versions = registry.versions("darkroom")
    experiment = store.experiment(store.client())
    ids = urllib.parse.quote(json.dumps([run.id for run in compared]))
    experiments, keys = urllib.parse.quote(json.dumps([experiment])), urllib.parse.quote(json.dumps(["val_accuracy"]))
    shown = next((version for version in versions if registry.CHAMPION in version.aliases), versions[0])
    val = "metric=%22val_accuracy%22&x_axis=step"
    pages = {
        "mlflow-experiment": f"experiments/{experiment}/runs?",
        "mlflow-compare": f"compare-runs?runs={ids}&experiments={experiments}",
        "mlflow-curves": f"metric?runs={ids}&{val}&experiments={experiments}&plot_metric_keys={keys}",
        "mlflow-version": f"models/darkroom/versions/{shown.version}?",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri(), "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/health")
        folder.mkdir(parents=True, exist_ok=True)
        for name, page in pages.items():
            with tempfile.TemporaryDirectory() as profile:
                taken = folder / f"{name}.png"
                command = [
                    chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                    "--hide-scrollbars", "--disable-background-networking", f"--user-data-dir={profile}",
                    f"--window-size={SIZE[0]},{SIZE[1]}",
                    f"--virtual-time-budget={PATIENCE}", f"--screenshot={taken}", f"http://127.0.0.1:{port}/#/{page}&{store.PAGES}",
                ]  # fmt: skip
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
                print(taken)
    finally:
        server.terminate()
        server.wait()
    return 0


def _wait(url: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(url)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")))
