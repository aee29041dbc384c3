"""How near the page of `darkroom export --format html` comes to `darkroom predict`, in Chromium, on photographs as JPEG and as PNG.

    python benchmarks/web_page.py FOLDER [FOLDER …] [--model champion] [--engine int8] [--images 100] [--picture FILE]

In a project with a model. Each kind of file has the largest and the mean difference of a probability, and the images whose label
or `unknown` differs. `--picture` keeps a picture of the page with two photographs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from darkroom.api import model_resolver
from darkroom.cli import main as darkroom
from darkroom.core import tables

COLOURS = 128


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="of photographs as JPEG, one folder per class")
    parser.add_argument("--model", default="champion")
    parser.add_argument("--engine", default="int8", choices=("float32", "int8"))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    folder_files = [sorted(folder.rglob("*.jp*g")) for folder in options.folders]
    draw = random.Random(0)
    photographs = [
        path for paths in folder_files for path in draw.sample(paths, min(len(paths), options.images // len(folder_files)))
    ]
    classifier, _ = model_resolver.load(options.model, options.engine)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        words = ["--model", options.model, "--format", "html", "--engine", options.engine, "--out", str(place / "page")]
        if code := darkroom(["export", *words]):
            return code
        copies = [place / f"{number}.png" for number in range(len(photographs))]
        for photograph, copy in zip(photographs, copies, strict=True):
            Image.open(photograph).convert("RGB").save(copy, compress_level=1)
        rows = []
        for kind, files in (("JPEG", photographs), ("PNG", copies)):
            results = _open(place / "page" / "model.html", files, options.picture if kind == "JPEG" else None)
            expected = classifier.predict_files(path.read_bytes() for path in files)
            pairs = [(r, e) for r, e in zip(results, expected, strict=True) if e.probabilities is not None]
            gaps = np.array([np.abs(np.array(r["probabilities"]) - e.probabilities).max() for r, e in pairs])
            labels = sum(r["label"] != classifier.classes[int(e.probabilities.argmax())] for r, e in pairs)
            limit = classifier.threshold
            unknown = sum(r["unknown"] != limit.is_unknown(e.distance) for r, e in pairs) if limit else 0
            rows.append((kind, len(pairs), f"{gaps.max():.1e}", f"{gaps.mean():.1e}", labels, unknown))
    header = ("file", "images", "largest", "mean", "labels differ", "unknown differs")
    tables.show(header, rows, header[1:])
    return 0


def _open(page_file: Path, files: list[Path], picture: Path | None) -> list[dict[str, Any]]:
    """Return what the page says of files, in their order."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        sys.exit("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 760, "height": 900})
        page.goto(page_file.as_uri())
        _wait(page, "Ready")
        if picture:
            page.set_input_files("#files", [files[-1], files[1]])
            _wait(page, "classified")
            page.locator("article button").first.click()
            while page.locator("article button").first.inner_text() != "Without heat map":
                time.sleep(0.05)
            page.screenshot(path=picture, clip={"x": 0, "y": 0, "width": 760, "height": 640})
            Image.open(picture).convert("RGB").quantize(COLOURS).save(picture, optimize=True)
            page.click("#clear")
        page.set_input_files("#files", files)
        _wait(page, f"of {len(files)} images classified")
        results = page.evaluate("[...document.querySelectorAll('article')].map((card) => JSON.parse(card.dataset.result))")[::-1]
        browser.close()
    return results


def _wait(page: Any, text: str) -> None:
    while text not in page.inner_text("#status"):
        time.sleep(0.1)


if __name__ == "__main__":
    raise SystemExit(main())
