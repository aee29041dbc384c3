"""Take the pictures of the documents: `.venv/bin/python docs/pictures.py report|mlflow|prefect|monitoring|blocks|lab [FOLDER]`.

Those of the report, of docs/mlflow.md and of `monitor` want a workspace in which the pipeline has run (`make repro`), those of
the report also heat maps (`darkroom predict holiday/ --explain`), those of docs/mlflow.md also a study (`darkroom study
initialization`). Those of Prefect want the server of `make schedule`, a run of
`darkroom flow repro --force`, and for `prefect-drift` and `prefect-runs` one of `darkroom flow monitor` that has found drift.
`lab` wants a workspace with models/baseline of the digits; its photographs are scikit-learn's.
All want Chromium, except `lab`, and `blocks`, which draws docs/images/blocks from the code of the architectures.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (1600, 950)
COLOURS = 96
PATIENCE = 40_000  # milliseconds of the page's own time, in which its charts are there
DRAWN = 5_000  # milliseconds in which MLflow's charts are drawn once their data is there


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("report", "mlflow", "prefect", "monitoring", "blocks", "lab"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    if options.what == "blocks":
        return _blocks(options.folder / "blocks")
    if options.what == "lab":
        return _lab(options.folder)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        print("Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 2
    options.folder.mkdir(parents=True, exist_ok=True)
    return {"report": _report, "mlflow": _mlflow, "prefect": _prefect, "monitoring": _monitoring}[options.what](
        chromium, options.folder
    )


def _report(chromium: str, folder: Path) -> int:
    """Show how the report begins, its test images, confusions and map, copies in the page of the data, and heat maps.

    These are the pictures of README.md, docs/evaluation.md and docs/tutorial.md.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1240, "height": 900})

        def take(name: str, heading: str, height: int) -> Image.Image:
            """Take a part of the page, from a heading on; without a name it is returned alone."""
            top = page.evaluate(f"(document.querySelector('{heading}')?.getBoundingClientRect().top ?? 16) + window.scrollY")
            clip = {"x": 0, "y": top - 16, "width": 1240, "height": height}
            data = page.screenshot(clip=clip, full_page=True, **({"type": "jpeg", "quality": 75} if name else {}))
            if name:
                (folder / name).write_bytes(data)
                print(folder / name)
            return Image.open(io.BytesIO(data)).convert("RGB")

        page.goto(Path("reports/report.html").resolve().as_uri())
        begin, images = take("", "top", 480), take("", "#images", 300)
        shown = Image.new("RGB", (begin.width, begin.height + images.height))
        shown.paste(begin)
        shown.paste(images, (0, begin.height))
        shown.save(folder / "report.jpg", quality=74, optimize=True)
        take("report-images.jpg", "#confusions", 900)
        take("report-map.jpg", "#map", 900)
        page.goto(Path("reports/data.html").resolve().as_uri())
        take("tutorial-copies.jpg", "#duplicates", 570)
        page.goto(Path("reports/explained/index.html").resolve().as_uri())
        take("tutorial-heat-maps.jpg", "top", 620)
        browser.close()
    return 0


def _mlflow(chromium: str, folder: Path) -> int:
    """Show the pages that docs/mlflow.md describes, on a server of its own."""
    from playwright.sync_api import sync_playwright

    from darkroom.commands import ui
    from darkroom.tracking import home, mlflow_client, queries, registry, views

    trained = [run for run in queries.runs() if run.metrics.get("test_accuracy") and run.stage != "pipeline" and not run.reused]
    newest = {run.stage: run.id for run in trained}
    versions = registry.versions("darkroom")
    shown = next((version for version in versions if registry.CHAMPION in version.aliases), versions[0])
    with socket.socket() as probe:
        probe.bind((ui.HOST, 0))
        base = f"http://{ui.HOST}:{probe.getsockname()[1]}"
    addresses = mlflow_client.view_addresses(base)
    experiment = mlflow_client.experiment(mlflow_client.client())
    studies = [key for key in addresses if key.startswith(views.STUDY)]
    if not studies:
        print("no study has run: `darkroom study initialization`", file=sys.stderr)
        return 2
    compared = (
        f"runs={urllib.parse.quote(json.dumps(list(newest.values())))}&experiments={urllib.parse.quote(json.dumps([experiment]))}"
    )
    keys = urllib.parse.quote(json.dumps(["val_accuracy"]))
    metric = f"metric=%22val_accuracy%22&x_axis=step&plot_metric_keys={keys}"
    pages = {  # each with a text that is there once it is drawn
        "mlflow-experiment": (addresses[views.PIPELINES], "first run"),
        "mlflow-models": (addresses[views.MODELS], "baseline"),
        "mlflow-study": (addresses[studies[0]], "val_accuracy"),
        "mlflow-compare": (f"{base}/#/compare-runs?{compared}&{views.MODE}", "Parallel Coordinates Plot"),
        "mlflow-curves": (f"{base}/#/metric?{compared}&{metric}&{views.MODE}", "val_accuracy"),
        "mlflow-version": (f"{base}/#/models/darkroom/versions/{shown.version}?{views.MODE}", "Checks"),
    }
    port = base.rpartition(":")[2]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", home.uri(), "--port", port, "--workers", "1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ui.ENVIRONMENT | os.environ)
    try:
        _wait(f"{base}/health")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
            page.set_default_timeout(3 * PATIENCE)  # a study has a chart for each metric
            for name, (address, text) in pages.items():
                page.goto("about:blank")  # else the next address is a move within the page, which keeps what it shows
                page.goto(address)
                page.get_by_text(text).first.wait_for()
                for label in ("Close", "Hide banner"):  # of the assistant, and of the message that a view is shared
                    button = page.get_by_role("button", name=label, exact=True)
                    if button.count():
                        button.first.click()
                page.wait_for_timeout(DRAWN)
                page.screenshot(path=folder / f"{name}.png")
                _small(folder / f"{name}.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()
    return 0


def _prefect(chromium: str, folder: Path) -> int:
    sys.path.insert(0, str(Path.cwd()))
    from playwright.sync_api import sync_playwright

    from pipelines import server

    api = server.scheduled_address()
    if not api:
        print("no server of `make schedule` answers", file=sys.stderr)
        return 2

    def query(table: str, **content: Any) -> Any:
        return server.request(api, f"{table}/filter", content)

    done = {"state": {"name": {"any_": ["Completed"]}}}
    tasks = query("task_runs", flow_runs=done, flows={"name": {"any_": ["repro"]}}, task_runs=done, sort="END_TIME_DESC")
    if not tasks:
        print("no run of the flow `repro` in which a stage ran: `darkroom flow repro --force`", file=sys.stderr)
        return 2
    run = tasks[0]["flow_run_id"]
    longest = max((task for task in tasks if task["flow_run_id"] == run), key=lambda task: task["total_run_time"])
    pages = {
        "prefect-run": f"runs/flow-run/{run}",
        "prefect-task": f"runs/task-run/{longest['id']}",
    }
    shown = {item["key"]: item["latest_id"] for item in query("artifacts/latest")}
    pages |= {f"prefect-{key}": f"artifacts/artifact/{shown[key]}" for key in ("leaderboard", "drift") if key in shown}
    if "drift" in shown:
        pages["prefect-runs"] = "runs"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        page.goto(f"{api.removesuffix('/api')}/runs")
        page.get_by_placeholder("admin:pass").fill(server.password())
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs")
        for name, address in pages.items():
            page.goto(f"{api.removesuffix('/api')}/{address}", wait_until="networkidle")
            page.wait_for_timeout(DRAWN)
            page.screenshot(path=folder / f"{name}.png")
            _small(folder / f"{name}.png")
        browser.close()
    return 0


def _monitoring(chromium: str, folder: Path) -> int:
    """Show printed characters to a model of handwritten digits."""
    from darkroom.core.errors import DRIFTED
    from darkroom.data import glyphs

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "characters"
        place.mkdir()
        for number, pixels in enumerate(glyphs.render_cached(200, 32, 0)[0]):
            Image.fromarray(pixels).save(place / f"{number}.png")
            os.utime(place / f"{number}.png", (1e9, 1e9))
        command = [sys.executable, "-m", "darkroom", "monitor", str(place), "--out", scratch]
        if subprocess.run(command).returncode != DRIFTED:
            print("no drift to show", file=sys.stderr)
            return 2
        _take(chromium, f"file://{scratch}/index.html", folder / "monitoring.png")
    return 0


def _lab(folder: Path) -> int:
    """Make the pictures of docs/case-studies/kernels.md and looking-inside.md that are about one image."""
    import numpy as np
    from sklearn.datasets import load_sample_image

    from darkroom import cli

    if not Path("models/baseline/model.json").is_file():
        print("the baseline of the digits is missing: `make repro`", file=sys.stderr)
        return 2
    images, labels = (np.load(f"data/ingested/val/{name}.npy") for name in ("images", "labels"))
    filters = ["--layer", "stages.0.1.0", "--filter", "2"]
    with tempfile.TemporaryDirectory() as scratch:
        flower, china, digit = (Path(scratch, name) for name in ("flower.jpg", "china.jpg", "digit.png"))
        for path in (flower, china):
            picture = Image.fromarray(load_sample_image(path.name))
            picture.resize((300, 200), Image.Resampling.LANCZOS).save(path, quality=95)
        Image.fromarray(images[list(labels).index(8)]).save(digit)
        named = ["--name", "sobel", "--name", "gabor", "--kernel", "0 -1 0; -1 5 -1; 0 -1 0"]
        calls = {
            "kernels": ["kernels", str(flower), *named],
            "corners": ["kernels", str(china), "--name", "colour", "--name", "corners"],
            "pooling": ["pooling", str(flower)],
            "filters": ["filters", "models/baseline", "--before"],
            "feature-maps": ["feature-maps", "models/baseline", str(digit), "--before", "--most", "6"],
            "one-filter": ["feature-maps", "models/baseline", str(digit), *filters],
            "symmetry": ["symmetry"],
            "occlusion": ["occlusion", "models/baseline", str(digit), "--patch", "6", "--stride", "2"],
        }
        for name, call in calls.items():
            picture_file = folder / f"lab-{name}.png"
            if cli.main(["lab", *call, "--out", str(picture_file), "--overwrite"]):
                return 2
            _small(picture_file, 256)  # hues are what some of them are about
    return 0


def _blocks(folder: Path) -> int:
    """Draw blocks, whole networks and settings, each from the code that it shows."""
    sys.path.insert(0, str(Path.cwd()))
    from darkroom.lab import network_diagram
    from docs import drawings

    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in drawings.drawings().items():
        network_diagram.save(folder / f"{name}.svg", svg)
    print(*sorted(folder.iterdir()), sep="\n")
    return 0


def _take(chromium: str, address: str, picture_file: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--hide-scrollbars", "--disable-background-networking", f"--user-data-dir={profile}",
            f"--window-size={SIZE[0]},{SIZE[1]}", f"--virtual-time-budget={PATIENCE}", f"--screenshot={picture_file}", address,
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
    _small(picture_file)


def _small(picture_file: Path, colours: int = COLOURS) -> None:
    with Image.open(picture_file) as shown:  # a clone of the project carries it
        shown.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(picture_file, optimize=True)
    print(picture_file)


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
    raise SystemExit(main())
