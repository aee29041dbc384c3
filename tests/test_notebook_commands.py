"""What the notebooks run is there: in a project of the digits each works from its first cell to its last."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
import yaml
from PIL import Image

from darkroom import cli
from darkroom.config import dvc_graph
from darkroom.config.yaml_files import read_yaml
from darkroom.course import lessons
from darkroom.data.datasets import DATASETS, DatasetOptions, write_digits
from darkroom.lab import initial_network
from darkroom.models import factory
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.specs import BackboneSpec, CompactSpec, NetworkSpec
from docs import notebooks
from tests.conftest import ROOT

NOTEBOOKS = sorted([*(ROOT / lessons.PAGES / "notebooks").glob("*.ipynb"), ROOT / "docs/python.ipynb"])
ITEM = re.compile(r"\$\{item[^}]*\}")
PATH = re.compile(r'"((?:data|models|reports)/[\w/.-]*)')  # in Python; up to what the code fills in
FILLED = re.compile(r"\{\w+\}")
OWN_TABLES = "reports/lab"  # what a notebook itself writes
RUNS_PIPELINE = re.compile(r"^\s*!(darkroom|dvc) repro", re.MULTILINE)
FILES = {"data": DATASETS, "source": ("download",), "weights": ("imagenet",)}  # settings that may name files, and what else
CLASSES = tuple("0123456789")
# the notebooks that look into networks; in place of minutes, a few steps and small images
EXECUTED = ("kernels", "looking-inside", "receptive-field")
QUICKER = {"maximize": ["--steps=2"], "vgg16": ["--size=32"], "torchvision/resnet50": ["--size=32"]}


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def commands(cell: str) -> list[list[str]]:
    """Return the commands that a cell runs, as words; 1 stands for what a loop fills in."""
    lines = [FILLED.sub("1", line.strip()[1:]) for line in cell.splitlines() if line.strip().startswith("!")]
    return [shlex.split(line, comments=True) for line in lines]


def parse(words: list[str]) -> dict[str, Any]:
    """Return the arguments and options of a `darkroom` command, as the command gets them; `command` is its name."""
    command: click.Command = cli.group
    names = list(words)
    while isinstance(command, click.Group):
        name = names.pop(0)
        subcommand = command.get_command(click.Context(command), name)
        assert subcommand, f"there is no command {name}"
        command = subcommand
    return command.make_context(name, names).params | {"command": name}


def read_paths(cell: str) -> list[str]:
    """Return the paths of the pipeline's that a cell reads; none of one that shows an error."""
    if cell.startswith("try:"):
        return []
    code = "\n".join(line for line in cell.splitlines() if not line.startswith(("display(", "#")) and OWN_TABLES not in line)
    words = [word for command in commands(cell) for word in command]
    return [*PATH.findall(code), *(word for word in words if word.startswith(notebooks.OUTPUTS))]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project of the digits with their files, and the params and the graph of this one."""
    place = tmp_path_factory.mktemp("digits")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, place)
    write_digits(place / "data/raw/digits", DatasetOptions())
    return place


def outputs() -> set[str]:
    """Return what the stages of this project write."""
    paths_written = set()
    for name, stage in read_yaml(Path("dvc.yaml"))["stages"].items():
        items = [full.partition("@")[2] for full in dvc_graph.stage_names() if full.partition("@")[0] == name]
        declared = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        paths = [out if isinstance(out, str) else next(iter(out)) for out in declared]
        paths_written |= {ITEM.sub(item, path) for path in paths for item in items}
    return paths_written


def is_written(path: str) -> bool:
    """Return whether a path is one that the pipeline writes; of the digits' files, whether it is among them."""
    if path.startswith("data/raw/digits/"):
        return Path(path).is_file()
    return any(f"{path}/".startswith(f"{out}/") or f"{out}/".startswith(path) for out in outputs())


def check(words: list[str], studies: list[str]) -> None:
    """Fail where a command needs what is not there; add a study to those that have run."""
    assert words[0] in ("darkroom", "dvc"), words
    if words[0] == "dvc":
        assert words[1] == "repro", words
        assert set(words[2:]) <= set(dvc_graph.stage_names()), words
        return
    values = parse(words[1:])
    assert words[1] not in ("recipe", "new"), f"{words} changes params.yaml, or makes a project unasked"
    if words[1] == "study":
        assert values["name"] not in studies, f"{words} replaces results that are shown above"
        assert values.get("size") != "full", f"{words} takes hours"
        studies.append(values["name"])
    for key, value in (item.split("=", 1) for item in values.get("settings") or () if "=" in item):
        assert key not in FILES or value in FILES[key], f"{words} names files of the reader's"
    if words[1] == "lab" and "model" in values:
        model = values.pop("model")
        assert model in factory.names() or model in outputs(), f"{words}: there is no {model}"
    assert values.get("data") in (None, *DATASETS, "characters"), f"{words} names files of the reader's"
    for name, value in values.items():
        for path in value if isinstance(value, tuple) else [value]:
            if isinstance(path, Path) and name not in ("out", "diagram"):
                assert is_written(path.as_posix()) or path.exists(), f"{words}: there is no {path}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_runs_is_there(path, digits, monkeypatch):
    """No notebook names a stage, a model or a file that a project of the digits lacks, changes params.yaml, or replaces the results
    of a study that it has shown; and what the pipeline writes is read after a cell that runs it.
    """
    monkeypatch.chdir(digits)
    studies: list[str] = []
    has_run = False
    for cell in code_cells(path):
        for words in commands(cell):
            check(words, studies)
        has_run = has_run or bool(RUNS_PIPELINE.search(cell))
        for name in read_paths(cell):
            assert is_written(name), f"{name} is nothing that the pipeline writes"
            assert has_run, f"{name} is read before the pipeline runs"


def write_model(name: str, spec: NetworkSpec) -> Path:
    """Write a network with random weights as a trained model of the digits."""
    preprocessing = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)
    network = Network(factory.build_features(spec, 0), preprocessing, len(CLASSES), 0)
    folder = Path("models", name)
    folder.mkdir(parents=True)
    checkpoint = Checkpoint(name, spec, preprocessing, CLASSES, {}, {})
    save(folder, checkpoint, network.state_dict(), network.parameter_count(), [{"epoch": 1.0}])
    return folder


@pytest.fixture
def finished(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project of the digits with what the notebooks look into: few images, networks with random weights, their lock."""
    (tmp_path / "src").mkdir()
    (tmp_path / "data/raw").mkdir(parents=True)
    for name, place in (("dvc.yaml", ROOT), ("params.yaml", ROOT), ("src/darkroom", ROOT), ("data/raw/digits", digits)):
        (tmp_path / name).symlink_to(place / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    Path("data/ingested").mkdir()
    Path("data/ingested/classes.json").write_text(json.dumps(CLASSES), encoding="utf-8")
    for split, numbers in (("train", range(8)), ("val", range(8, 12)), ("test", range(12, 16))):
        files = [sorted(Path("data/raw/digits", label).iterdir())[i] for label in CLASSES for i in numbers]
        images = np.stack([np.asarray(Image.open(file).convert("RGB").resize((32, 32))) for file in files])
        Path("data/ingested", split).mkdir()
        np.save(f"data/ingested/{split}/images.npy", images)
        np.save(f"data/ingested/{split}/labels.npy", np.array([int(file.parent.name) for file in files]))
    small, vgg = CompactSpec(32, 16), BackboneSpec("vgg11_bn", 32)
    folders = [write_model(*pair) for pair in (("baseline", small), ("transfer/vgg11_bn", vgg), ("finetune/vgg11_bn", vgg))]
    md5 = {str(folder): initial_network.folder_md5(folder) for folder in folders}
    baseline, transfer, finetune = ([{"path": path, "md5": digest}] for path, digest in md5.items())
    stages = {
        "baseline": {"params": {"params.yaml": {"compute": {"seed": 0}}}, "outs": baseline},
        "finetune@vgg11_bn": {"params": {}, "deps": transfer, "outs": finetune},
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")
    return tmp_path


def test_the_pipeline_runs_where_its_outputs_are_missing(tmp_path, monkeypatch):
    """The cell runs `darkroom repro` only where something is missing; what is then not there is named, and the notebook ends."""
    inputtransformer2 = pytest.importorskip("IPython.core.inputtransformer2")
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []

    def run(file: str) -> None:
        shell = SimpleNamespace(system=lambda line: (ran.append(line), Path(file).touch()))
        code = inputtransformer2.TransformerManager().transform_cell(notebooks.PIPELINE.format(paths='["a", "b"]'))
        exec(compile(code, "cell", "exec"), {"get_ipython": lambda: shell, "Path": Path})

    with pytest.raises(SystemExit, match=r"^b is missing.*params\.yaml"):
        run("a")
    assert ran == ["darkroom repro"]
    run("b")
    run("c")
    assert ran == ["darkroom repro"] * 2


class Shell:
    """IPython's shell as far as a notebook uses it: `darkroom` runs in this process, with fewer steps and smaller images."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def system(self, line: str) -> None:
        program, *words = shlex.split(line, comments=True)
        assert program == "darkroom", line
        assert cli.main([*words, *(option for word in words for option in QUICKER.get(word, []))]) == 0, line
        self.ran.append(line)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXECUTED)
def test_a_notebook_runs_to_its_end(finished, name, monkeypatch):
    """Every cell of a notebook about networks of the digits works, and shows the picture that its command has just written."""
    inputtransformer2 = pytest.importorskip("IPython.core.inputtransformer2")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}")
    shell, shown = Shell(), []
    monkeypatch.setattr("IPython.display.display", lambda item: shown.append(item))
    namespace = {"get_ipython": lambda: shell}
    for cell in code_cells(ROOT / lessons.PAGES / "notebooks" / lessons.read(name).notebook.name):
        code = inputtransformer2.TransformerManager().transform_cell(cell)
        exec(compile(code, name, "exec"), namespace)
    pictures = [item for item in shown if type(item).__name__ == "Image"]
    assert len(pictures) == sum(line.split()[1] == "lab" for line in shell.ran)
    assert all(picture.data.startswith(b"\x89PNG") for picture in pictures)
    assert "darkroom repro" not in shell.ran
