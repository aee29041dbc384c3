"""The commands of the how-to pages, run in a finished project: `make docs-check`. Not part of `make test`.

A block ```sh is run by bash, a block ```python by Python, in the order of the page. A comment before a block changes
that: `<!-- check: skip, REASON -->`, `<!-- check: exit 3 -->`, `<!-- check: before COMMAND -->`, which runs a command that the
reader has run by then, `<!-- check: instead COMMAND -->`, which runs another one where the block takes long or downloads, or
`<!-- check: server URL -->`, which starts the block beside the following ones and waits until the URL answers.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.conftest import ROOT

# the last one changes what the project is about
PAGES = ("models", "mlflow", "scheduling", "labelling", "backbones", "tuning", "tutorial")
BLOCK = re.compile(r"^(?:<!-- check: (.+?) -->\n)?```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
QUICK = (
    "backbones=[mobilenet_v3_small]", "weights.source=random", "baseline.epochs=3", "transfer.epochs=3", "finetune.epochs=1",
    "register.min_accuracy=0", "register.max_calibration_error=1", "register.quantize=int8",
)  # fmt: skip
LONGEST = 600  # seconds for a block
UNSET = ("DARKROOM_", "MLFLOW_", "PREFECT_", "DVC_", "GIT_")


@dataclass(frozen=True)
class Block:
    """A block of a page, at a line of it, with the directive before it."""

    line: int
    language: str
    code: str
    directive: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return [Block(text.count("\n", 0, hit.start()) + 1, hit[2], hit[3], hit[1] or "") for hit in BLOCK.finditer(text)]


@dataclass(frozen=True)
class Project:
    """A finished project, and the environment of a new shell in it."""

    folder: Path
    environment: dict[str, str]

    def start(self, block: Block, log: Path) -> subprocess.Popen[bytes]:
        command = ["bash", "-e", "-o", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
        with log.open("wb") as out:
            return subprocess.Popen(
                [*command, block.code], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def run(self, code: str, expected: int = 0, language: str = "sh", line: int = 0) -> None:
        log = self.folder.parent / "output.txt"
        process = self.start(Block(line, language, code, ""), log)
        try:
            result = process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert result == expected, (
            f"line {line} ended with {result}, not {expected}:\n{code}\n{log.read_text(errors='replace')[-5000:]}"
        )


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Copy this project, with digits and short trainings, and run its pipeline."""
    place = tmp_path_factory.mktemp("docs")
    folder, home = place / "darkroom", place / "home"
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)  # with its time: make would install an environment again
    (folder / ".venv").symlink_to(Path(sys.prefix))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(UNSET)} | {
        "HOME": str(home), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "src"), "DO_NOT_TRACK": "1", "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
    }  # fmt: skip
    home.mkdir()
    write_images(folder, home)
    project = Project(folder, environment)
    project.run("git config --global user.name a && git config --global user.email a@b && git init -q -b main && dvc init -q -f")
    project.run("darkroom recipe digits --set " + " ".join(f"'{item}'" for item in QUICK))
    project.run("darkroom repro && darkroom sync && git add -A && git commit -qm 'a finished project'")
    yield project
    project.run("python -m pipelines.schedule stop || true")


def write_images(folder: Path, home: Path) -> None:
    """Write the files that the pages name."""
    digits = load_digits().images
    names = ["new.jpg", "holiday/1.jpg", "holiday/2.jpg", "archive/2025/a.png"]
    names += [f"data/inbox/{number}.png" for number in range(40)]
    paths = [folder / name for name in names] + [home / "camera" / f"{number}.png" for number in range(40)]
    paths += [home / "flowers" / label / f"{number}.jpg" for number in range(20) for label in ("daisy", "tulips")]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (digits[number % len(digits)] * 15.9).astype(np.uint8)
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(project, page, tmp_path):
    """Each command of the page, run as written in a finished project, ends with the exit code that the page states."""
    with contextlib.ExitStack() as servers:
        for block in blocks(page):
            kind, _, value = block.directive.partition(" ")
            if kind == "server":
                process = project.start(block, tmp_path / "server.txt")
                servers.callback(os.killpg, process.pid, signal.SIGTERM)
                wait_for(value, process, tmp_path / "server.txt")
                continue
            if kind == "before":
                project.run(value, line=block.line)
            if kind == "instead":
                project.run(value, line=block.line)
            elif kind != "skip,":
                project.run(block.code, int(value) if kind == "exit" else 0, block.language, block.line)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the URL answers."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5)
            return
        time.sleep(0.5)
    raise AssertionError(f"{url} does not answer:\n{log.read_text(errors='replace')[-5000:]}")
