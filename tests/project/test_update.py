"""`darkroom new` and `darkroom update`: a project is made whole or not at all, and follows a newer Darkroom without a loss."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import darkroom
from darkroom import cli
from darkroom.commands import flow
from darkroom.config import params, stage_code
from darkroom.config.yaml_files import parse_yaml
from darkroom.preflight import project as preflight
from darkroom.project import template
from tests.conftest import ROOT
from tests.skeletons import git

pytestmark = pytest.mark.slow
SHIPPED = template._shipped


@pytest.fixture(scope="module")
def new_project(tmp_path_factory) -> Path:
    """Return a project that `darkroom new` has made of a folder of photographs, named relative to where it ran."""
    place = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    for number in range(40):
        file = place / "photos" / ("cat" if number % 2 else "dog") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert cli.main(["new", "flowers", "--data", "photos", "--set", "backbones=[]"]) == 0
    return place / "flowers"


@pytest.fixture
def project(new_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the project, committed."""
    shutil.copytree(new_project, tmp_path / "flowers", symlinks=True)
    monkeypatch.chdir(tmp_path / "flowers")
    git("commit", "-qm", "a project")
    return tmp_path / "flowers"


VERSION = darkroom.__version__


def release(monkeypatch: pytest.MonkeyPatch, replaced: dict[str, tuple[str, str]]) -> None:
    """Let the installed Darkroom be 9.0.0, with other texts in its files."""
    monkeypatch.setattr(darkroom, "__version__", "9.0.0")

    def shipped(path: str) -> str:
        text, (before, after) = SHIPPED(path), replaced.get(path, ("", ""))
        assert before in text
        return text.replace(before, after) if before else text

    monkeypatch.setattr(template, "_shipped", shipped)


def append(path: str, text: str) -> None:
    Path(path).write_text(Path(path).read_text() + text)


def test_a_project_is_what_a_run_needs(project):
    """DVC and git know it, nothing is missing for a run, the recipe and the options are in params.yaml, and its README names it."""
    settings = params.read()
    preflight.check(settings)
    stage_code.check()
    assert cli.main(["check"]) == 0
    assert (settings.backbones, settings.weights.source, settings.fetch.datasets) == ([], "imagenet", [])
    assert Path(settings.ingest.source).is_absolute()
    assert Path("README.md").read_text().startswith("# flowers\n")
    for path in (".dvc/config", ".dvc/plots/offline.html"):
        assert Path(path).read_bytes() == (ROOT / path).read_bytes()
    assert subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True).stdout == ""


def test_nothing_is_overwritten(project, capsys):
    """A folder that is not empty is refused, and keeps its files."""
    before = sorted(project.rglob("*"))
    assert cli.main(["new", str(project)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize("options", [["--data", "nowhere"], ["--set", "transfer.lr=fast"], ["--recipe", "nothing"]])
def test_a_wrong_option_leaves_no_folder(tmp_path, monkeypatch, options):
    """Where an option is refused, nothing is made."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "flowers", *options]) == 2
    assert not os.listdir(tmp_path)


def test_in_a_repository_it_is_a_part_of_it(tmp_path, monkeypatch):
    """In a git repository no other one is made, and DVC has its root in the project; an empty folder may be there."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    Path("deep/flowers").mkdir(parents=True)
    assert cli.main(["new", "deep/flowers"]) == 0
    assert not Path("deep/flowers/.git").exists()
    monkeypatch.chdir("deep/flowers")
    preflight.check(params.read())


def test_without_a_newer_darkroom_nothing_changes(project, capsys):
    """A project of this Darkroom is up to date, with changes of a person's in any file, and keeps every byte."""
    append("dvc.yaml", "# mine\n")
    append(".gitignore", "/mine\n")
    before = {path: Path(path).read_bytes() for path in template.files("flowers")}
    assert cli.main(["update"]) == 0
    assert "up to date with Darkroom" in capsys.readouterr().out
    assert {path: Path(path).read_bytes() for path in before} == before


def test_a_newer_darkroom_brings_its_files(project, monkeypatch, capsys):
    """Files without changes become those of the new version; new params come beside a person's values."""
    append("params.yaml", "# mine\n")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(re.sub(r"  top_k: 3.*\n", "", text))
    release(monkeypatch, {"prefect.yaml": ("older_than: 90", "older_than: 60"), "dvc.yaml": ("# The architecture", "# The graph")})
    assert cli.main(["update"]) == 0
    assert "older_than: 60" in Path("prefect.yaml").read_text()
    assert Path("dvc.yaml").read_text().startswith("# The graph")
    assert Path("params.yaml").read_text() == text
    printed = capsys.readouterr().out
    assert "params.yaml: evaluate.top_k: 3 is new" in printed
    assert f"{VERSION} → 9.0.0" in printed
    assert cli.main(["update"]) == 0
    assert "up to date with Darkroom 9.0.0" in capsys.readouterr().out


def test_changes_of_both_are_merged(project, monkeypatch):
    """A file that a person has changed in other places than the new version has both changes."""
    Path("prefect.yaml").write_text(Path("prefect.yaml").read_text().replace('"0 3 * * *"', '"0 4 * * *"'))
    release(monkeypatch, {"prefect.yaml": ("older_than: 90", "older_than: 60")})
    assert cli.main(["update"]) == 0
    text = Path("prefect.yaml").read_text()
    assert '"0 4 * * *"' in text
    assert "older_than: 60" in text
    git("commit", "-qam", "merged")
    release(monkeypatch, {"prefect.yaml": ("older_than: 90", "older_than: 30")})
    assert cli.main(["update"]) == 0
    text = Path("prefect.yaml").read_text()
    assert '"0 4 * * *"' in text
    assert "older_than: 60" not in text


MINE = "\n  mine:\n    cmd: touch mine\n    outs: [mine]\n"


def test_stages_that_both_add_at_the_end_are_kept(project, monkeypatch, capsys):
    """A stage of a person's at the end of the graph stays where the new version has one more there too."""
    append("dvc.yaml", MINE)
    last = SHIPPED("dvc.yaml").rstrip("\n").splitlines()[-1]
    theirs = "\n\n  theirs:\n    cmd: touch theirs\n    outs: [theirs]"
    release(monkeypatch, {"dvc.yaml": (last, last + theirs)})
    assert cli.main(["update"]) == 0
    assert "dvc.yaml: has the changes of the new version beside yours" in capsys.readouterr().out
    graph = parse_yaml(Path("dvc.yaml").read_text(), "dvc.yaml")["stages"]
    assert (graph["mine"]["cmd"], graph["theirs"]["cmd"]) == ("touch mine", "touch theirs")


def test_one_name_for_two_stages_is_left_to_the_person(project, monkeypatch, capsys):
    """A merged graph with a stage twice is none: nothing is written."""
    append("dvc.yaml", MINE)
    last = SHIPPED("dvc.yaml").rstrip("\n").splitlines()[-1]
    release(monkeypatch, {"dvc.yaml": (last, last + "\n\n  mine:\n    cmd: touch theirs\n    outs: [theirs]")})
    assert cli.main(["update"]) == 2
    assert "dvc.yaml has changes of yours" in capsys.readouterr().err
    assert Path("dvc.yaml").read_text().endswith(MINE)


def test_params_of_an_older_version_are_not_called_mistakes(project, monkeypatch, capsys):
    """Before `darkroom update` every command that reads params.yaml names the update, which then takes the old keys over."""
    text = Path("params.yaml").read_text().replace("  robustness_images:", "  images_of_old:")
    Path("params.yaml").write_text(text)
    assert cli.main(["check"]) == 2
    assert 'unknown key "diagnose.images_of_old"' in capsys.readouterr().err
    recorded = Path("code.yaml").read_text()
    Path("code.yaml").write_text(re.sub(r"(  evaluate: ).*", rf"\g<1>{'0' * 32}", recorded))
    for command in (["check"], ["plan"], ["recipe", "--set", "transfer.lr=0.01"]):
        assert cli.main(command) == 2
        assert "`darkroom update` takes it over" in capsys.readouterr().err
    assert cli.main(["update"]) == 2
    assert 'unknown key "diagnose.images_of_old"' in capsys.readouterr().err


def test_changes_in_the_same_place_are_left_to_the_person(project, monkeypatch, capsys):
    """Where both have changed the same lines nothing is written, and the file is named; moved away, it is written anew."""
    text = Path("prefect.yaml").read_text().replace("older_than: 90", "older_than: 7")
    Path("prefect.yaml").write_text(text)
    release(monkeypatch, {"prefect.yaml": ("older_than: 90", "older_than: 60"), "dvc.yaml": ("# The architecture", "# The graph")})
    before = {path: Path(path).read_bytes() for path in template.FOLLOWED}
    assert cli.main(["update"]) == 2
    assert "prefect.yaml has changes of yours" in capsys.readouterr().err
    assert {path: Path(path).read_bytes() for path in before} == before
    Path("prefect.yaml").rename("prefect.yaml.mine")
    assert cli.main(["update"]) == 0
    assert "older_than: 60" in Path("prefect.yaml").read_text()


def test_stages_whose_code_has_changed_are_named(project, monkeypatch, capsys):
    """An update says which stages run again, and the project is then of the installed code."""
    digests = stage_code.digests()
    monkeypatch.setattr(stage_code, "digests", lambda: digests | {"evaluate": "0" * 32})
    assert cli.main(["update"]) == 0
    assert "run again, since their code has changed: evaluate;" in capsys.readouterr().out
    assert stage_code.read()["stages"]["evaluate"] == "0" * 32


def test_a_value_that_the_new_version_refuses_is_named_first(project, monkeypatch, capsys):
    """Params that no stage could use are refused before a file is written."""
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("  top_k: 3", "  top_k: 0"))
    release(monkeypatch, {"prefect.yaml": ("older_than: 90", "older_than: 60")})
    assert cli.main(["update"]) == 2
    assert "evaluate.top_k" in capsys.readouterr().err
    assert "older_than: 90" in Path("prefect.yaml").read_text()


def test_flows_of_a_project_need_the_wheel(project, monkeypatch, capsys):
    """An installation from the repository has no package of the flows: a sentence says so, before Python is started for it."""
    monkeypatch.setattr(flow, "find_spec", lambda name: None)
    assert cli.main(["flow", "repro"]) == 2
    assert "install the wheel" in capsys.readouterr().err
