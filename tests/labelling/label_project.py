"""A project with images to label: a folder of two classes, one conflict, one doubtful label, and an inbox."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.data import manifest
from darkroom.labelling import inbox, queues
from darkroom.labelling.arrivals import Arrivals
from darkroom.labelling.growth import Predicted
from darkroom.labelling.session import Session
from tests.conftest import ROOT

LOG, FIXES = Path("data/label_decisions.jsonl"), Path("data/label_fixes.csv")
CLASSES = ("cat", "dog")


def row(path: str, split: str = "train", **values: str) -> manifest.Row:
    label = path.split("/")[0]
    return manifest.Row(
        **{"path": path, "label": label, "source_label": label, "split": split, "sha256": f"sha {path}", "pixel_hash": f"px {path}"}
        | values
    )


ROWS = [
    row("cat/1.png"), row("cat/2.png"), row("cat/3.png", "test"), row("dog/1.png"), row("dog/2.png"),
    row("cat/both.png", status="quarantined", reason="label_conflict", pixel_hash="px both"),
    row("dog/both.png", status="quarantined", reason="label_conflict", pixel_hash="px both"),
    row("dog/cut.png", status="quarantined", reason="truncated"),
]  # fmt: skip


def write(file: Path, seed: int, size: tuple[int, int] = (20, 30)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(file)


def enter(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the project in a folder, and change into it."""
    monkeypatch.chdir(place)
    shutil.copy(ROOT / "dvc.yaml", place)
    text = (ROOT / "params.yaml").read_text().splitlines()
    Path("params.yaml").write_text(
        "\n".join("  source: photos" if line.startswith("  source: data/raw") else line for line in text)
    )
    Path("data/ingested").mkdir(parents=True)
    Path("reports").mkdir()
    FIXES.write_text("image,label\n")
    for i, item in enumerate(ROWS):
        write(Path("photos") / item.path, i)
    manifest.write(Path("data/ingested/manifest.parquet"), ROWS)
    with Path("reports/label_issues.csv").open("w", newline="") as file:
        csv.writer(file).writerows([
            ["path", "sha256", "label", "suggested", "quality"], ["cat/1.png", "sha cat/1.png", "cat", "dog", "0.01"],
            ["cat/3.png", "sha cat/3.png", "cat", "dog", "0.02"], ["cat/2.png", "another file", "cat", "dog", "0.03"],
        ])  # fmt: skip
    for i in range(6):
        write(Path(f"new/{i}.png"), 100 + i)


def session(name: str = "Ada") -> Session:
    """Return a session with all that the command shows, and three images of the inbox."""
    from darkroom.commands.label import Workplace

    place = Workplace.open()
    arrived = queues.arrivals(["0.png", "1.png", "2.png"], Path("new"), {"0.png": "dog"}, {}, inbox.read(Path("new")))
    return place.session([*place.in_source(), arrived], name)


NEW = 40  # images of `seen_inbox`
EMBEDDINGS = np.random.default_rng(0).normal(size=(NEW, 8)).astype(np.float32)


def seen_inbox() -> Arrivals:
    """Return an inbox of which a model is least certain of the images with the first names."""
    margins = np.linspace(0.0, 0.9, NEW)
    paths = [f"{i:02}.png" for i in range(NEW)]
    return Arrivals(Path("new"), CLASSES, paths, np.stack([(1 + margins) / 2, (1 - margins) / 2], 1), EMBEDDINGS, {})


class Head:
    """A head that is least certain of those with the last names, and takes all for a class that the model lacks; it measures
    nothing."""

    def __init__(self, is_taught: bool = True) -> None:
        self.is_taught, self.calls, self.measured = is_taught, [], []

    def measure(self, count: int, labels: Sequence[str], new: Mapping[Path, str]) -> None:
        pass

    def predict(self, files: Sequence[Path], labels: Sequence[str], new: Mapping[Path, str]) -> Predicted | None:
        self.calls.append((list(files), list(labels), dict(new)))
        if not self.is_taught:
            return None
        numbers = [int(file.stem) for file in files]
        margins = np.linspace(0.9, 0.0, NEW)[numbers]
        return Predicted(["cat", "emu"], list(files), np.stack([(1 - margins) / 2, (1 + margins) / 2], 1), EMBEDDINGS[numbers])


def item_of(session: Session, path: str) -> str:
    """Return the id of an image."""
    return next(id for id, item in session.items.items() if item.path == path)
