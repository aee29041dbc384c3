"""`darkroom export` writes programs that run without Darkroom and describe themselves."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from PIL import Image

from darkroom.cli import main
from darkroom.commands.export import FORMATS
from darkroom.inference import export, web_page, web_runtime
from darkroom.inference.classifier import Classifier
from darkroom.inference.web_runtime import Runtime
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.factory import build_features
from darkroom.models.specs import CompactSpec

SIZE = 16
CLASSES = ("cat", 'dög | "owl"\n\'')


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Return a checkpoint of an untrained network."""
    folder = tmp_path_factory.mktemp("place") / "models" / "finetune" / "some"
    folder.mkdir(parents=True)
    architecture = CompactSpec(SIZE, 4)
    preprocessing = Preprocessing(SIZE, "pad", (1, 2, 3), (0.5,) * 3, (0.5,) * 3)
    network = Network(build_features(architecture), preprocessing, 2)
    checkpoint = Checkpoint("finetune/some", architecture, preprocessing, CLASSES, {}, {}, temperature=0.5)
    save(folder, checkpoint, network.state_dict(), 1, [{"epoch": 1.0}])
    return folder


@pytest.fixture(autouse=True)
def here(model, monkeypatch):
    monkeypatch.chdir(model.parents[2])


@pytest.fixture(scope="module")
def exported(model) -> Path:
    """Export the model in every format; return the folder."""
    folder = model.parents[2] / "out"
    formats = [word for name in ("onnx", "openvino", "pt2") for word in ("--format", name)]
    assert main(["export", "--model", str(model), "--out", str(folder), *formats]) == 0
    return folder


def metadata(folder: Path) -> dict[str, dict[str, str]]:
    """Return the metadata of each program."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    program = openvino.Core().read_model(str(folder / "model.xml"))
    extra = {"model.json": ""}
    torch.export.load(folder / "model.pt2", extra_files=extra)
    info = program.get_rt_info()["model_info"]
    return {
        "onnx": session.get_modelmeta().custom_metadata_map,
        "openvino": {name: info[name].astype(str) for name in ("classes", "preprocessing", "temperature", "input", "outputs")},
        "pt2": {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in json.loads(extra["model.json"]).items()
        },
    }


@pytest.mark.slow
def test_a_program_describes_itself(exported):
    """Class names, temperature, preprocessing, input and outputs are in each program's own metadata; mean and std, which
    the program applies itself, are nowhere."""
    for texts in metadata(exported).values():
        assert tuple(json.loads(texts["classes"])) == CLASSES
        assert float(texts["temperature"]) == 0.5
        preprocessing = json.loads(texts["preprocessing"])
        assert (preprocessing["image_size"], preprocessing["resize"], preprocessing["background"]) == (SIZE, "pad", [1, 2, 3])
        assert json.loads(texts["input"])["shape"] == ["N", SIZE, SIZE, 3]
        assert set(json.loads(texts["outputs"])) == {"logits", "probabilities"}
    assert not re.search(r"\bmean\b|\bstd\b", (exported / "model.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_code_of_the_readme_runs(exported, model, tmp_path, monkeypatch, capsys):
    """Each block of README.md, run beside a photograph of the network's size, prints the model's probabilities, without
    Darkroom and without a warning."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    shutil.copytree(exported, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    Image.fromarray(pixels).save("photo.jpg", format="PNG")
    blocks = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL)
    expected = Classifier.load(model).probabilities(pixels[None])[0]
    for block in blocks:
        assert "darkroom" not in block
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(block, {})
        answer = ast.literal_eval(capsys.readouterr().out)
        assert tuple(answer) == CLASSES
        assert list(answer.values()) == pytest.approx(list(expected), abs=1e-3)
    assert len(blocks) == 3


@pytest.mark.slow
def test_the_folder_has_the_models_name_and_is_never_overwritten(model, capsys):
    """Without --out a checkpoint's folder is named after it; a folder that exists is refused and stays as it is."""
    assert main(["export", "--model", "models/finetune/some", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["folder"] == "exported/finetune-some"
    assert set(result["bytes"]) == {"README.md", "model.json", "model.onnx"}
    before = {path: path.read_bytes() for path in Path("exported").rglob("*") if path.is_file()}
    assert main(["export", "--model", "models/finetune/some"]) == 2
    assert "--out" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in Path("exported").rglob("*") if path.is_file()}


def test_the_command_offers_the_formats_that_there_are():
    """The words of --format are the formats of the room `inference`, which the command must not import to know them,
    the one that `register` makes, and the page."""
    assert set(FORMATS) == {*export.FORMATS, "int8", "html"}


@pytest.fixture
def small_runtime(monkeypatch) -> None:
    """Let pages have an empty runtime, which is not downloaded."""
    monkeypatch.setattr(web_runtime, "load", lambda source=None: Runtime("export {}", b"wasm"))


@pytest.mark.slow
@pytest.mark.usefixtures("small_runtime")
def test_a_page_is_one_file_and_the_same_each_time(model, tmp_path, capsys):
    """The page loads nothing from elsewhere, names are escaped in it, it does not say in which folder the model is, and the
    same model gives the same bytes; that it is float32, for want of an int8 program, is said with what makes one."""
    for name in ("one", "two"):
        assert main(["export", "--model", str(model), "--format", "html", "--out", str(tmp_path / name)]) == 0
    assert "register.quantize: int8" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"model.html", "README.md"}
    content = (tmp_path / "one" / "model.html").read_bytes()
    assert content == (tmp_path / "two" / "model.html").read_bytes()
    text = content.decode()
    assert not re.search(r"(src|href)=\"(?!data:)", text.replace('href="#content"', ""))
    assert "dög | &#34;owl&#34;" in text
    assert str(model.parent) not in text
    assert "model.html" in (tmp_path / "one" / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("small_runtime")
def test_what_no_page_can_be_made_of_is_refused(model, tmp_path, monkeypatch, capsys):
    """A model without an int8 program where that is asked for, one that is too large for a page, and options of a page without
    one are refused with a remedy, and nothing is written."""
    monkeypatch.setattr(web_page, "MAX_BYTES", 100)
    page = ["--format", "html"]
    for words, remedy in (
        ([*page, "--engine", "int8"], "register.quantize: int8"), ([*page], "smaller backbone"),
        (["--engine", "float32"], "--format html"), (["--runtime", "x.tgz"], "--format html"),
    ):  # fmt: skip
        assert main(["export", "--model", str(model), "--out", str(tmp_path / "new"), *words]) == 2
        assert remedy in capsys.readouterr().err
        assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_format_that_cannot_be_made_is_named(model, monkeypatch, capsys, tmp_path):
    """Where one of several formats fails, the others are written, it is named, and the exit code is 1."""
    monkeypatch.setitem(export.FORMATS, "pt2", replace(export.FORMATS["pt2"], write=lambda *_: 1 / 0))
    formats = ["--format", "onnx", "--format", "pt2", "--format", "onnx"]
    assert main(["export", "--model", str(model), "--out", str(tmp_path / "new"), *formats]) == 1
    assert "model.pt2" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["README.md", "model.json", "model.onnx"]
    assert "model.pt2" not in (tmp_path / "new" / "README.md").read_text(encoding="utf-8")


def test_a_format_whose_package_is_missing_is_refused_first(model, monkeypatch, capsys, tmp_path):
    """Without OpenVINO its format is refused with the command that installs it, before anything is written."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert main(["export", "--model", str(model), "--format", "openvino", "--out", str(tmp_path / "new")]) == 2
    assert "pip install openvino" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
