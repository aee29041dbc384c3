"""The pages of docs/contributing: what they say to write is written into a copy of the project, where what they say passes.

A block of code has the name of its file on the line above: `` `FILE`: `` is a new file, `` `FILE`, at the end: `` is appended,
`` `FILE`, at the end of `NAME`: `` is put before the line that closes a dictionary, `` `FILE`, after the line `LINE`: `` below it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.conftest import NOT_SOURCES, ROOT

pytestmark = pytest.mark.slow

PAGES = sorted((ROOT / "docs" / "contributing").glob("*.md"))
COPIED = (
    "backbones", "src", "tests", "docs", "pipelines", "recipes", "studies", "dvc.yaml", "params.yaml", "pyproject.toml",
    "mkdocs.yml",
)  # fmt: skip
NOT_COPIED = shutil.ignore_patterns(*NOT_SOURCES, "images", "notebooks", "results", ".dvc")
SNIPPET = re.compile(
    r"^`(?P<file>[^`\n]+)`(?P<end>, at the end)?(?: of `(?P<name>\w+)`)?(?:, after the line `(?P<line>[^`\n]+)`)?:\n"
    r"```\w+\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
PYTEST = [".venv/bin/python", "-m", "pytest"]
# in one process: each would import torch again
ALL = """
import json, sys
import pytest
from darkroom import cli
for words in json.loads(sys.argv[1]):
    is_command = words[0] == "darkroom"
    code = cli.main(words[1:]) if is_command else pytest.main([*words[3:], "-q", "-p", "no:cacheprovider", "-p", "no:xdist"])
    if code:
        sys.exit(f"{' '.join(words)}: exit code {int(code)}")
from docs import reference
reference.main()
"""
PASSES = re.compile(r"^## What passes\n```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Snippet(NamedTuple):
    """A block of code of a page, and where it goes."""

    file: str
    end: str | None
    name: str | None
    line: str | None
    text: str

    def paste(self, folder: Path) -> None:
        path = folder / self.file
        if not (self.end or self.name or self.line):
            assert not path.exists(), f"{self.file} is there already"
            path.write_text(self.text, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        place = len(lines)
        if self.name:
            start = next(i for i, line in enumerate(lines) if line.startswith(f"{self.name} = {{"))
            place = next(i for i, line in enumerate(lines) if i > start and line.startswith("}"))
        elif self.line:
            place = lines.index(self.line + "\n") + 1
        blank = "\n\n" if path.suffix == ".py" and place == len(lines) else ""
        lines.insert(place, blank + self.text)
        path.write_text("".join(lines), encoding="utf-8")


def snippets(page: Path) -> list[Snippet]:
    return [Snippet(**match.groupdict()) for match in SNIPPET.finditer(page.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with what all pages add to it."""
    folder = tmp_path_factory.mktemp("contribution")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=NOT_COPIED)
        else:
            shutil.copyfile(source, folder / name)
    (folder / "data" / "weights").mkdir(parents=True)
    for name in ("label_fixes.csv", "splits.csv"):
        shutil.copyfile(ROOT / "data" / name, folder / "data" / name)
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    for page in PAGES:
        for snippet in snippets(page):
            snippet.paste(folder)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "photo.jpg")
    return folder


def run(copy: Path, *arguments: str) -> None:
    """Run Python in the copy, with its code."""
    environment = os.environ | {"PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}", "DARKROOM_TRACKING": "off"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


def test_every_block_of_code_is_pasted():
    """Each block of Python or YAML of a page has its place on the line above."""
    assert len(PAGES) >= 5
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(snippets(page)) == len(re.findall(r"^```(?:python|yaml)$", text, re.MULTILINE)) > 0, page.name


@pytest.fixture(scope="module")
def passed(copy: Path) -> None:
    """Run the tests and commands at the end of each page, and write the reference, in one process."""
    commands = []
    for page in PAGES:
        own = [shlex.split(line) for line in PASSES.search(page.read_text(encoding="utf-8"))[1].splitlines()]
        assert any(words[:3] == PYTEST for words in own), page.name
        for words in own:
            if words[:2] == ["darkroom", "study"]:
                continue  # the tests of the page run it at a smaller size
            assert words[:3] == PYTEST or words[0] == "darkroom" or "dvc" in words, words
            commands += [words] if "dvc" not in words else []
    run(copy, "-c", ALL, json.dumps(commands))


@pytest.mark.usefixtures("passed")
def test_what_the_pages_say_passes():
    """The tests and commands at the end of each page pass; those of DVC, which needs a repository, have tests of their own."""


def test_the_new_code_is_as_ruff_wants_it(copy):
    """What the pages add is formatted, and has no fault that `make lint` would find."""
    files = sorted({snippet.file for page in PAGES for snippet in snippets(page) if snippet.file.endswith(".py")})
    run(copy, "-m", "ruff", "check", "--no-cache", *files)
    run(copy, "-m", "ruff", "format", "--no-cache", "--check", *files)


@pytest.mark.usefixtures("passed")
def test_the_reference_names_what_is_new(copy):
    """`make docs` writes what was added into the reference, and nobody else has to."""
    pages = {path.name: path.read_text(encoding="utf-8") for path in (copy / "docs").rglob("*.md")}
    for name, page in (
        ("tiny", "architectures.md"), ("faded", "params.md"), ("dropout", "studies.md"), ("reports/colours.csv", "files.md"),
        ("darkroom colours", "cli.md"),
    ):  # fmt: skip
        assert re.search(rf"\b{name}\b", pages[page]), f"{page} lacks {name}"
