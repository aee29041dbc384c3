"""A project that DVC accepts, without the code that it names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from darkroom.config import params
from darkroom.preflight import project
from tests.conftest import ROOT


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True)


def enter_skeleton(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the real graph and params, and empty files for the code that the graph names; change into the folder."""
    place.mkdir(exist_ok=True)
    monkeypatch.chdir(place)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, name)
    for path in project.read_graph(params.read()).inputs:
        if path.startswith("src/"):
            target = Path(path) if "." in Path(path).name else Path(path, ".keep")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    for folder in ("backbones", "models/transfer", "models/finetune", ".dvc", "data/weights"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, ".keep").touch()
    Path("data/label_fixes.csv").write_text("image,label\n")
    Path("data/splits.csv").write_text("image,split\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "all")
    return place
