"""The notebooks of the course: made from the pages, valid, and executed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from darkroom.course import lessons
from docs import notebooks
from tests.conftest import NOT_SOURCES, ROOT

PAGE = """# Title

**Predict before you run.** Some words.
1. How [many](x.md)? <!-- summary: depth | 20 layers | residual | accuracy -->
2. Why ![so](../images/y.png)?

```
# first
darkroom study depth             # three seeds
darkroom study depth --set lr=1
darkroom study depth --size full
darkroom lab kernels photo.jpg
darkroom lab filters models/baseline --out a.png
```

<details><summary>Answers</summary>

1. Ten, see [below](#below).
2. So.
</details>

```
darkroom study depth --set lr=2
dvc repro transfer@vgg11_bn
darkroom recipe alpaca-mobilenet --data ~/photos    # yours
dvc repro
darkroom leaderboard
darkroom lab filters models/baseline
darkroom lab kernels flower
darkroom recipe alpaca-mobilenet --set augment.views=1
```

**The code.** `studies/base.py` and `summary.py`.
"""
INSTALLS = ["install", "--quiet", "--editable", "."]  # arguments of pip


def cells_of(page: str) -> list[tuple[str, str]]:
    return [(cell.kind, cell.source) for cell in notebooks.cells(lessons.parse(3, "page", "", page))]


def test_the_notebooks_are_those_of_the_pages(monkeypatch):
    """What is in docs/case-studies/notebooks is what docs/notebooks.py makes of the pages as they are."""
    monkeypatch.chdir(ROOT)
    made = notebooks.notebooks()
    there = [*(lessons.PAGES / "notebooks").iterdir(), *Path("docs").glob("*.ipynb")]
    assert sorted(made) == sorted(there), "run docs/notebooks.py"
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is not its page: run docs/notebooks.py"


def test_the_notebooks_are_valid(monkeypatch):
    """Each is a notebook of nbformat 4.5, and its links lead to files."""
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.chdir(ROOT)
    for path, text in notebooks.notebooks().items():
        nbformat.validate(json.loads(text))
        for cell in json.loads(text)["cells"]:
            for _, target in notebooks._LINK.findall("".join(cell["source"])) if cell["cell_type"] == "markdown" else ():
                assert (path.parent / target.partition("#")[0]).exists(), f"{path} links to {target}"


def test_a_page_becomes_cells(monkeypatch):
    """Questions have cells to answer in, what runs is code, links move. What needs a file or hours, or replaces results that an
    earlier block has shown, is a comment; so is a recipe, and what follows it and would show other data runs in its project.
    """
    monkeypatch.chdir(ROOT)
    cells = cells_of(PAGE)
    assert cells[:2] == [("markdown", "# Title"), ("code", notebooks.SETUP)]
    markdown = [source for kind, source in cells if kind == "markdown"]
    assert markdown[1:6] == [
        "**Predict before you run.** Some words.", "**1.** How [many](../x.md)?", "*Your prediction:* ",
        "**2.** Why ![so](../../images/y.png)?", "*Your prediction:* ",
    ]  # fmt: skip
    assert "[below](../page.md#below)" in markdown[6]
    code = [source for kind, source in cells if kind == "code"]
    models, commands, results = code[2:5]
    assert 'needed = ["models/baseline/model.json"]' in models
    assert commands.splitlines() == [
        "# first",
        "!darkroom study depth    # three seeds",
        "!darkroom lab filters models/baseline --out a.png",
        'display(Image("a.png"))',
        notebooks.REPLACES,
        "# !darkroom study depth --set lr=1",
        "# Takes hours:",
        "# !darkroom study depth --size full",
        "# With files of your own:",
        "# !darkroom lab kernels photo.jpg",
    ]
    assert 'read_csv("studies/results/depth/results.csv")' in results
    assert code[6].splitlines() == [
        "!dvc repro transfer@vgg11_bn",
        "!darkroom lab kernels flower",
        'display(Image("reports/lab/kernels.png"))',
        notebooks.REPLACES,
        "# !darkroom study depth --set lr=2",
        notebooks.OWN_PROJECT,
        "# !darkroom new ../alpaca-mobilenet --recipe alpaca-mobilenet --data ~/photos    # yours",
        "# !cd ../alpaca-mobilenet && dvc repro",
        "# !cd ../alpaca-mobilenet && darkroom leaderboard",
        "# !cd ../alpaca-mobilenet && darkroom lab filters models/baseline",
        "# !cd ../alpaca-mobilenet && darkroom recipe alpaca-mobilenet --set augment.views=1",
    ]
    assert [source.splitlines()[-1] for source in code[7:]] == [
        'Code("src/darkroom/studies/base.py")', 'Code("src/darkroom/studies/summary.py")',
    ]  # fmt: skip


def test_equal_pages_give_equal_bytes():
    """A cell keeps its id where another one changes, and equal cells have ids of their own."""
    cell, other = notebooks.Cell("code", "1"), notebooks.Cell("code", "2")
    ids = [[item["id"] for item in json.loads(notebooks.to_json(cells))["cells"]] for cells in ([cell, cell], [other, cell, cell])]
    assert len(set(ids[0])) == 2
    assert ids[1][1:] == ids[0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the project whose studies have the smoke size and two initialisations."""
    for name in ("docs", "src", "studies", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns(*NOT_SOURCES, "results", "images", ".dvc"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    path = tmp_path / "studies/params.yaml"
    text = path.read_text(encoding="utf-8").replace("\nsize: quick ", "\nsize: smoke ")
    all_schemes = "[zeros, ones, constant, uniform, uniform_fan, normal, xavier, kaiming, orthogonal, lsuv]"
    path.write_text(text.replace(all_schemes, "[zeros, kaiming]"), encoding="utf-8")
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "src"), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


@pytest.mark.slow
def test_a_notebook_runs(project, monkeypatch):
    """A notebook that is opened in its own folder runs to its end, and shows what its commands have written."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.chdir(project)
    path = project / lessons.read("initialization").notebook
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    assert str(project) in printed
    assert "error:" not in printed, printed
    assert not [output.evalue for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3  # of the study, and two of the lab
    assert any("text/html" in output.get("data", {}) for output in outputs)


def start(folder: Path, monkeypatch: pytest.MonkeyPatch, repository: str = "", *, is_installed: bool = False) -> list[list[str]]:
    """Run the first cell in a folder, with `git clone` and `pip install` in place of which files are made; return what it ran."""
    pytest.importorskip("IPython")
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)

    def install() -> None:
        (programs / "darkroom").touch(mode=0o755)

    ran: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        ran.append(command[1 if command[0] == "git" else 3 :])
        if "clone" in command:
            (Path(command[-1]) / "src/darkroom").mkdir(parents=True)
            (Path(command[-1]) / "dvc.yaml").touch()
        else:
            install()

    if is_installed:
        install()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("sys.executable", str(folder / "python"))
    source = notebooks.SETUP.replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"')
    assert repository in source
    exec(compile(source, "cell", "exec"), {})
    return ran


def test_the_first_cell_installs_the_project_once(tmp_path, monkeypatch):
    """Opened elsewhere it clones and installs the project; run again it does neither, and it ends in the project's folder."""
    assert start(tmp_path, monkeypatch, "the-address") == [["clone", "the-address", "darkroom"], INSTALLS]
    assert Path.cwd() == tmp_path / "darkroom"
    assert start(tmp_path, monkeypatch, "the-address") == []
    assert Path.cwd() == tmp_path / "darkroom"


def test_the_first_cell_installs_nothing_unasked(tmp_path, monkeypatch):
    """In a project of the reader's own machine that is not installed it says how; a hosted machine, begun anew, gets it again."""
    (tmp_path / "src/darkroom").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    with pytest.raises(SystemExit, match="make install"):
        start(tmp_path, monkeypatch)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    assert start(tmp_path, monkeypatch) == [INSTALLS]


def test_the_first_cell_asks_for_an_address(tmp_path, monkeypatch):
    """Opened elsewhere without an address it says what lacks, and runs nothing."""
    with pytest.raises(SystemExit, match="REPOSITORY"):
        start(tmp_path, monkeypatch)
