"""`darkroom backbones rank`: a table, a picture, the best in params.yaml; and the networks of a library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.config import params, recipes
from darkroom.data import arrays
from darkroom.lab import backbone_embeddings
from tests.conftest import ROOT

PAIR = ("squeezenet1_1", "shufflenet_v2_x0_5")


@pytest.fixture
def project(folder, tmp_path, monkeypatch, capsys) -> Path:
    """Return a project with the images of a folder ingested at 32 pixels, and random weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    Path("data").mkdir()
    shutil.copy(ROOT / "data/label_fixes.csv", "data")
    requested = {"ingest.source": str(folder), "fetch.datasets": [], "ingest.image_size": 32, "weights.source": "random"}
    recipes.apply(Path("params.yaml"), requested, lambda settings: None)
    assert cli.main(["ingest", "--out", "data/ingested", "--report", "reports/data.html", "--fixes", "data/label_fixes.csv"]) == 0
    capsys.readouterr()
    return tmp_path


@pytest.mark.slow
def test_a_second_call_embeds_nothing(project, capsys, monkeypatch):
    """The table has every backbone, the picture is written, and a second call takes the kept embeddings and says the same."""
    assert cli.main(["backbones", "rank", *PAIR, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in first["ranked"]} == set(PAIR)
    assert first["images"] == sum(len(arrays.load_split(Path("data/ingested", split))[1]) for split in ("train", "val"))
    assert all(row["low"] <= row["difference"] <= row["high"] and row["milliseconds"] > 0 for row in first["ranked"])
    assert Path("reports/backbones.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(backbone_embeddings, "compute", lambda *_: pytest.fail("it embeds again"))
    assert cli.main(["backbones", "rank", *PAIR, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


@pytest.mark.slow
def test_the_best_is_written_and_comments_stay(project, capsys):
    """--write puts the best into params.yaml, whose comments stay; a limit that none keeps leaves the file alone."""
    before = Path("params.yaml").read_text()
    assert cli.main(["backbones", "rank", *PAIR, "--write", "--max-ms", "0.000001"]) == 2
    assert Path("params.yaml").read_text() == before
    capsys.readouterr()
    assert cli.main(["backbones", "rank", *PAIR, "--write", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["chosen"]
    assert params.read().backbones == best
    assert len(best) == 1
    assert "each in stages of its own" in Path("params.yaml").read_text()


@pytest.mark.slow
def test_a_backbone_without_weights_is_left_out_with_the_reason(project, capsys):
    """One whose weights cannot be had does not end the ranking of the others; alone it is an error."""
    (project / "weights").mkdir()
    assert cli.main(["backbones", "rank", *PAIR, "--weights", str(project / "weights")]) == 2
    assert "no backbone can be ranked" in capsys.readouterr().err
    assert cli.main(["backbones", "rank", "../x"]) == 2
    assert "cannot be the name of a backbone" in capsys.readouterr().err


@pytest.mark.slow
def test_test_images_have_no_part(project, capsys):
    """The ranking is the same without the test images."""
    shutil.rmtree("data/ingested/test")
    assert cli.main(["backbones", "rank", PAIR[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ranked"][0]["difference"] == 0


@pytest.mark.slow
def test_the_networks_of_a_library_are_listed(capsys):
    """`models list --source` shows input size, parameters and multiply-adds of the networks that fit a pattern."""
    assert cli.main(["models", "list", "--source", "torchvision", "squeezenet1_1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["size"], row["parameters"]) == ("torchvision/squeezenet1_1", 224, 1235496)
    assert cli.main(["models", "list", "--source", "torchvision", "nosuch*"]) == 2
    assert cli.main(["models", "list", "--source", "torchvisio"]) == 2
    assert cli.main(["models", "list", "vit*"]) == 2
