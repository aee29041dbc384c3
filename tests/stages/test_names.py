"""The stage `names`, with the real DVC: what params.yaml names reaches no shell and no path unchecked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from darkroom import cli
from darkroom.commands import repro
from darkroom.core import checksums
from darkroom.models import factory
from tests.conftest import NOT_SOURCES, ROOT

TABLES = ("data/label_fixes.csv", "data/splits.csv", "backbones/README.md")
NETWORK = """from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
"""


def dvc(*words: str) -> subprocess.CompletedProcess[str]:
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"),
        "DARKROOM_TRACKING": "off",
    }  # fmt: skip
    return subprocess.run([sys.executable, "-m", "dvc", *words], env=os.environ | own, capture_output=True, text=True)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Return a project with a photo that nothing else has."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns(*NOT_SOURCES))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", *TABLES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    Path("data/photos").mkdir()
    Path("data/photos/1.jpg").write_text("a photo")
    subprocess.run(["git", "init", "-q"], check=True)
    assert dvc("init", "-q").returncode == 0
    return tmp_path


def set_line(old: str, new: str) -> None:
    file = Path("params.yaml")
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("backbones: [vgg11_bn,", "backbones: ['x; touch attacked; true',"),
        ("datasets: [digits]", "datasets: [../photos, '`touch attacked`']"),
    ],
)
def test_a_name_that_is_none_ends_the_run_before_it_is_used(project, old, new):
    """A plain `dvc repro` with a name that has a command or a path in it runs no command of the name's and deletes nothing: the
    stage `names` comes first, and its message names the key."""
    set_line(old, new)
    done = dvc("repro")
    assert done.returncode != 0
    assert old.partition(":")[0] in done.stderr
    assert "remedy:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Running stage 'names'" in done.stdout
    assert done.stdout.count("Running stage") == 1
    assert (project / "data/photos/1.jpg").exists()
    assert not (project / "attacked").exists()


@pytest.mark.pipeline
def test_a_path_for_a_backbone_is_refused_by_dvc(project):
    """A backbone whose name leads out of its folder makes two stages with the same output, which DVC refuses before it does
    anything."""
    set_line("backbones: [vgg11_bn,", "backbones: [../../data/photos,")
    done = dvc("repro")
    assert done.returncode != 0
    assert "is specified in" in done.stderr
    assert (project / "data/photos/1.jpg").exists()


def outputs_of(backbones: str) -> dict[str, bytes]:
    """Return what the stage writes for a list of backbones, by path."""
    set_line("backbones: [vgg11_bn, mobilenet_v3_small]", f"backbones: [{backbones}]")
    assert cli.main(["names", "--out", "out/names.txt", "--backbones", "out/backbones"]) == 0
    return {path.relative_to("out").as_posix(): path.read_bytes() for path in Path("out").rglob("*.txt")}


def test_the_check_runs_nothing_else_again(tmp_path, monkeypatch):
    """What `names` writes of a backbone is the same whatever others there are, so that the stages of each run only for changes of
    its own: also where the code of another one is edited."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    Path("backbones").mkdir()
    Path("backbones/one.py").write_text(NETWORK)
    Path("backbones/two.py").write_text(NETWORK)
    first, second = outputs_of("vgg11_bn"), outputs_of("mobilenet_v2, own/one.Net, own/two.Net")
    assert first["names.txt"] == second["names.txt"]
    assert {path.removeprefix("backbones/") for path in second if path != "names.txt"} == {
        "mobilenet_v2.txt", "own/one.Net.txt", "own/two.Net.txt",
    }  # fmt: skip
    Path("backbones/two.py").write_text(NETWORK + "# a comment\n")
    third = outputs_of("mobilenet_v2, own/one.Net, own/two.Net")
    assert [path for path in third if third[path] != second[path]] == ["backbones/own/two.Net.txt"]


@pytest.mark.pipeline
def test_an_edited_network_runs_its_own_stages_again(project):
    """After an edit of one of two own networks, `dvc repro` runs the stages of that one alone, and then none."""
    for name in ("one", "two"):
        Path(f"backbones/{name}.py").write_text(NETWORK)
    set_line("backbones: [vgg11_bn, mobilenet_v3_small]", "backbones: [own/one.Net, own/two.Net]")
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("source: pretrain ", "source: random "))
    Path("data/weights").mkdir()
    runs = []
    for edit in ("", "# a comment\n", ""):
        Path("backbones/two.py").write_text(Path("backbones/two.py").read_text() + edit)
        done = dvc("repro", "weights")
        assert done.returncode == 0, done.stderr
        runs.append(
            [stage for stage in ("names", "weights@own/one.Net", "weights@own/two.Net") if f"'{stage}'" in ran(done.stdout)]
        )
    assert runs == [["names", "weights@own/one.Net", "weights@own/two.Net"], ["names", "weights@own/two.Net"], []]


@pytest.mark.pipeline
def test_a_replaced_weight_file_runs_its_stages_again(project, capsys, monkeypatch):
    """A file with other weights under the same name and of the same size is seen: `dvc status` and `darkroom check` name it, and
    `dvc repro` reads it."""
    name = "squeezenet1_1"
    set_line("backbones: [vgg11_bn, mobilenet_v3_small]", f"backbones: [{name}]")
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("source: pretrain ", "source: folder "))
    Path("data/weights").mkdir()
    file = Path(f"data/weights/{name}.pth")
    provenance = Path(f"models/weights/{name}.json")
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    digests = []
    for seed in (0, 1):
        torch.save(factory.build_backbone(factory.backbone_spec(name, 32, "pooled"), seed).weights(), file)
        assert f"weights@{name}" in dvc("status", "weights").stdout
        assert cli.main(["check"]) == 0
        assert (f"{file.name} has changed since it was used: `weights@{name}`" in capsys.readouterr().out) == bool(digests)
        done = dvc("repro", "weights")
        assert done.returncode == 0, done.stderr
        digests.append(json.loads(provenance.read_text())["sha256"])
        assert digests[-1] == checksums.of_file(file)
    assert digests[0] != digests[1]


def ran(output: str) -> str:
    """Return the lines of DVC's output that name a stage that ran."""
    return "\n".join(line for line in output.splitlines() if line.startswith("Running stage"))


def test_darkroom_repro_checks_before_it_starts_dvc(tmp_path, monkeypatch, capsys):
    """`darkroom repro` refuses a wrong name before DVC runs, also where its arguments name a single stage."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.setattr(repro.subprocess, "Popen", lambda *_, **__: pytest.fail("DVC was started"))
    set_line("backbones: [vgg11_bn,", "backbones: [../photos,")
    assert cli.main(["repro", "--single-item", "weights@../photos"]) == 2
    assert "backbones" in capsys.readouterr().err


@pytest.mark.slow
def test_the_exit_code_of_repro_is_that_of_the_stage(project, monkeypatch, capfd):
    """`darkroom repro` ends with the code of the stage that failed, where `dvc repro` ends with 255, and with DVC's own code where
    DVC failed."""
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    Path("data/empty").mkdir()
    set_line("source: data/raw/digits", "source: data/empty")
    assert cli.main(["repro", "ingest"]) == 2
    assert "error: " in capfd.readouterr().err
    assert cli.main(["repro", "no-such-stage"]) == 255
