"""`darkroom lab`: every command writes a complete picture, and a mistake is one message with a remedy."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from darkroom import cli
from darkroom.commands import lab
from darkroom.commands.lab import options
from darkroom.commands.lab.autoencoder import autoencoder_command
from darkroom.commands.lab.images import kernels_command
from darkroom.core.errors import ParamsError
from darkroom.lab import drawing, networks
from darkroom.models.checkpoint import Checkpoint, save
from tests.completion import completions
from tests.conftest import ROOT
from tests.lab.test_layers import PLAIN, compact


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of three classes, an image, and a folder of two of the classes."""
    place = tmp_path_factory.mktemp("lab")
    (place / "model").mkdir()
    network = compact()
    checkpoint = Checkpoint("small", network.features.spec, PLAIN, ("ant", "bee", "fly"), {}, {})
    save(place / "model", checkpoint, network.state_dict(), network.parameter_count(), [{"epoch": 1.0}])
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (place / "photos" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(place / f"photos/{name}/{i}.png")
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(place / "image.png")
    return place


@pytest.fixture
def workspace(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the inputs, in which the commands run."""
    place = shutil.copytree(inputs, tmp_path / "workspace")
    monkeypatch.chdir(place)
    return place


CALLS = {
    "images": ["--data=photos", "--size=8", "--images=3"],
    "kernels": ["image.png", "--kernel", "0 1; 2 3"],
    "pooling": ["image.png"],
    "filters": ["model", "stages.1.0.0", "--before", "--seed", "3"],
    "feature-maps": ["model", "image.png", "--before", "--most", "3", "--seed", "3"],
    "occlusion": ["model", "image.png", "--class", "bee"],
    "maximize": ["model", "--class", "fly", "--steps", "2"],
    "receptive-field": ["model", "--images", "1"],
    "augmentations": ["image.png", "--policy", "light", "--size", "32"],
    "embedding": ["photos", "--model", "model"],
    "symmetry": ["--data=photos", "--units=3", "--steps=5", "--size=8"],
    "autoencoder": ["--images=250", "--size=12", "--codes=4", "--epochs=3", "--conv-epochs=1", "--outliers=photos"],
}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("maximize", "autoencoder", "receptive-field") else ())
        for name in CALLS
    ],
)
def test_every_command_writes_a_picture(workspace, capsys, command):
    """The picture is where the command says, replaces an earlier one, and no other file is left beside it."""
    for _ in range(2 if command in ("kernels", "embedding") else 1):
        assert cli.main(["lab", command, *CALLS[command]]) == 0
    picture = Path("reports/lab", f"{command}.png")
    assert str(picture) in capsys.readouterr().out
    with Image.open(picture) as image:
        image.load()
        assert image.mode == "RGB"
        assert min(image.size) > 100
    suffixes = {"receptive-field": {".csv"}, "embedding": {".csv", ".html"}, "autoencoder": {".csv"}}.get(command, set())
    assert {path.suffix for path in picture.parent.iterdir()} == {".png"} | suffixes


def test_every_command_has_a_call_and_help():
    """Each command except `layers`, which draws nothing, has a call above; each option has help; the shell
    completes the names."""
    assert set(CALLS) | {"layers"} == set(lab.COMMANDS)
    assert completions("lab", "") == list(lab.COMMANDS)
    assert completions("lab", "rec") == ["receptive-field"]
    for name in lab.COMMANDS:
        options = [item for item in lab.command.load(name).params if isinstance(item, click.Option)]
        assert all(option.help for option in options), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [["filters", "--help"], ["kernels", "image.png"], ["augmentations", "image.png", "--policy", "light", "--size", "32"]],
)
def test_torch_is_imported_only_where_it_is_used(workspace, words):
    """Help, kernels and augmentations do not import torch."""
    code = f"import sys; from darkroom.cli import main; assert main({['lab', *words]!r}) == 0; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["kernel", "image.png"], 'did you mean "kernels"?'),
        (["kernels", "image.png", "--name", "sobl"], 'did you mean "sobel"?'),
        (["kernels", "image.png", "--kernel", "1 x"], '"x" in row 1'),
        (["kernels", "image.png", "--kernel-file", "image.png"], "image.png"),
        (["kernels", "none.png"], "none.png"),
        (["kernels", "model/model.json"], "model/model.json"),
        (["kernels", "image.png", "--out", "photos"], "photos.png"),
        (["kernels", "image.png", "--out", "image.png"], "not an earlier picture"),
        (["filters", "model", "stages.9"], "did you mean"),
        (["filters", "photos"], "photos"),
        (["layers", "mobilenet_v9"], "did you mean"),
        (["filters", "model", "--size", "64"], "--size"),
        (["feature-maps", "model", "image.png", "--layer", "head"], "spatial positions"),
        (
            ["feature-maps", "torchvision/resnet18", "image.png", "--layer", "layer4", "--size", "64"],
            "name one of layer4.0, layer4.1",
        ),
        (["occlusion", "model", "image.png", "--class", "be"], 'did you mean "bee"?'),
        (["occlusion", "compact", "image.png"], "never trained"),
        (["occlusion", "model", "image.png", "--patch", "99"], "--patch may be 1 to 32"),
        (["feature-maps", "model", "image.png", "--filter", "99"], "--filter may be 0 to 3"),
        (["feature-maps", "model", "image.png", "--filter", "0", "--layer", "head"], "not a convolution"),
        (["pooling", "image.png", "--size", "12"], "--size 16"),
        (["maximize", "model", "--layer", "stages.0.0.0", "--channel", "99"], "has no channel 99"),
        (["maximize", "model", "--channel", "1"], "--layer"),
        (["occlusion", "model", "image.png", "--patch", "0"], "--patch may be 1 to 32"),
        (["filters", "model", "--most", "0"], "--most"),
        (["layers", "compact", "--size", "0"], "--size 0"),
        (["augmentations", "image.png", "--policy", "storng"], 'did you mean "strong"?'),
        (["embedding", "nowhere", "--model", "model"], "nowhere"),
    ],
)
def test_a_mistake_is_one_message(workspace, capsys, arguments, fact):
    """Bad input has exit code 2, prints the remedy, and writes nothing."""
    before = Path("image.png").read_bytes()
    assert cli.main(["lab", *arguments]) == 2
    error = capsys.readouterr().err
    assert fact in error
    assert "remedy:" in error
    assert Path("image.png").read_bytes() == before
    assert not Path("reports").exists()


@pytest.mark.parametrize(("resize", "temperature"), [("crop", 1.0), ("pad", 0.2), ("stretch", 3.0)])
def test_occlusion_begins_with_the_prediction(workspace, monkeypatch, capsys, resize, temperature):
    """The probability above the picture is that of `darkroom predict`, digit by digit: the same preprocessing of a turned
    photograph, the same calibration, no test-time views."""
    network = compact()
    network.head.weight.data *= 30  # as sure as a trained one
    preprocessing = replace(PLAIN, resize=resize, background=(9, 200, 30))
    checkpoint = Checkpoint("small", network.features.spec, preprocessing, ("ant", "bee", "fly"), {}, {}, temperature)
    save(Path("model"), checkpoint, network.state_dict(), network.parameter_count(), [{"epoch": 1.0}])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    pixels = np.random.default_rng(1).integers(0, 256, (40, 90, 3), np.uint8)
    pixels[:, :50] //= 4
    Image.fromarray(pixels).save("turned.jpg", exif=exif)
    assert cli.main(["predict", "--model", "model", "turned.jpg", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    sheets, seen = [], []
    monkeypatch.setattr(drawing, "draw", lambda sheet: sheets.append(sheet) or np.zeros((4, 4, 3), np.uint8))
    own = networks.InspectedNetwork.probabilities
    monkeypatch.setattr(networks.InspectedNetwork, "probabilities", lambda *args: seen.append(own(*args)) or seen[-1])
    assert cli.main(["lab", "occlusion", "model", "turned.jpg"]) == 0
    assert list(seen[0][0]) == list(row["probabilities"].values())
    assert sheets[0].rows[0].tiles[0].caption == f"turned.jpg\n{row['label']} {row['confidence']:.1%}"


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 2)])
def test_images_of_any_shape_have_responses(workspace, size):
    """Kernels take an image of one pixel, a line, and one with an extreme aspect ratio."""
    Image.new("RGB", size, (200, 10, 10)).save("odd.png")
    assert cli.main(["lab", "kernels", "odd.png"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "swin_t"])
def test_layers_that_a_backbone_does_without_are_left_out(workspace, name):
    """Layers that Darkroom never runs, such as the pooling before torchvision's head, are left out; the
    others are shown."""
    assert cli.main(["lab", "feature-maps", name, "image.png", "--size", "64", "--most", "3", "--channels", "2"]) == 0


def test_photographs_come_with_scikit_learn(workspace):
    """`flower` and `china` are scikit-learn's photographs, also for a command about a network; a file of this name comes first."""
    for name in options.PHOTOGRAPHS:
        path = kernels_command.make_context("kernels", [name]).params["image"]
        assert np.array_equal(np.asarray(Image.open(path)), load_sample_image(f"{name}.jpg"))
    assert cli.main(["lab", "occlusion", "model", "flower", "--class", "bee"]) == 0
    shutil.copy("image.png", "flower")
    assert kernels_command.make_context("kernels", ["flower"]).params["image"] == Path("flower")


def test_a_large_photograph_is_scaled_down(workspace, capsys):
    """The input of the kernels has at most --size pixels a side, whatever the file has."""
    Image.new("RGB", (6000, 4000), (90, 90, 90)).save("huge.jpg")
    assert cli.main(["lab", "kernels", "huge.jpg", "--size", "300", "--name", "sobel"]) == 0
    with Image.open("reports/lab/kernels.png") as image:
        assert max(image.size) < 2000


def test_only_earlier_pictures_are_replaced(tmp_path):
    """A file of another origin stays, also beside a picture of the lab; files written with a picture are
    replaced with it."""
    picture, target = np.zeros((4, 4, 3), np.uint8), tmp_path / "a.png"
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(ParamsError, match=r"a\.csv"):
        drawing.check_writable(target, (".csv",))
    drawing.save(target, picture)
    drawing.check_writable(target)
    with pytest.raises(ParamsError, match=r"a\.csv"):
        drawing.check_writable(target, (".csv",))
    drawing.check_writable(target, (".csv",), overwrite=True)
    drawing.save(target, picture, {".csv": "ours"})
    drawing.check_writable(target, (".csv",))
    Image.fromarray(picture).save(target)
    with pytest.raises(ParamsError, match=r"a\.png"):
        drawing.check_writable(target)


def test_the_table_of_an_embedding(workspace):
    """Each image has a row with its class, the predicted class and whether that is wrong; the page has a
    thumbnail of each."""
    assert cli.main(["lab", "embedding", *CALLS["embedding"]]) == 0
    rows = list(csv.DictReader(Path("reports/lab/embedding.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [f"{name}/{i}.png" for name in ("ant", "bee") for i in range(6)]
    assert all((row["class"] != row["predicted"]) == (row["error"] == "1") for row in rows)
    assert Path("reports/lab/embedding.html").read_text().count("data:image/") == 12


@pytest.mark.slow
def test_real_photographs(workspace, shared):
    """Photographs of the shared sets go through the kernels, and through a network with random weights."""
    with tarfile.open(shared / "flowers.tar") as archive:
        name = next(item for item in archive.getnames() if item.endswith(".jpg"))
        archive.extract(name, filter="data")
    assert cli.main(["lab", "kernels", name]) == 0
    assert cli.main(["lab", "feature-maps", "squeezenet1_1", name, "--size", "64", "--most", "4"]) == 0


def test_a_sheet_holds_its_tiles_unchanged():
    """Each tile appears pixel by pixel, below a title, and nothing is cut off."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    row = drawing.Row([drawing.Tile(pixels, "one"), drawing.Tile(pixels[::-1], "two")], "row")
    picture = drawing.draw(drawing.Sheet("A title", [row], "a note"))
    places = [(y, x) for y, x in zip(*np.where((picture == pixels[0, 0]).all(2)), strict=True)]
    assert any(
        (picture[y : y + 5, x : x + 7] == pixels).all() for y, x in places if picture[y : y + 5, x : x + 7].shape == pixels.shape
    )
    assert (picture[-5:] == 255).all()
    assert (picture[:, -5:] == 255).all()


@pytest.mark.parametrize(("shape", "side"), [((1, 1, 3), 100), ((1, 4000, 3), 100), ((30, 20, 3), 96), ((500, 300, 3), 224)])
def test_fit_has_about_the_requested_side(shape, side):
    """The longer side is within a third of the requested one, and no side vanishes."""
    picture = drawing.fit(np.zeros(shape, np.uint8), side)
    assert side * 2 / 3 <= max(picture.shape) <= side * 4 / 3
    assert min(picture.shape) > 0


def test_the_options_of_a_stage_are_read_by_the_command(tmp_path):
    """The stage `lab@autoencoder` takes its options from studies/params.yaml by `--params`, since DVC writes the keys of a section
    into a command as they are; an option by hand comes before them, and a wrong key ends with its nearest neighbour."""
    text = (ROOT / "studies/params.yaml").read_text()
    file = tmp_path / "params.yaml"
    file.write_text(text.replace("  conv_epochs: 30", "  conv_epochs: 3"))
    context = autoencoder_command.make_context("autoencoder", ["--params", str(file), "--seed", "7"])
    assert {key: context.params[key] for key in ("conv_epochs", "codes", "seed")} == {
        "conv_epochs": 3, "codes": (8, 32, 64), "seed": 7,
    }  # fmt: skip
    file.write_text(text.replace("  conv_epochs: 30", "  'epochs; touch x; true': 3"))
    with pytest.raises(ParamsError, match="epochs; touch x"):
        autoencoder_command.make_context("autoencoder", ["--params", str(file)])
