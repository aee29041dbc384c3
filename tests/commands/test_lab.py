"""`darkroom lab`: every command writes a whole picture, and a mistake is one message with a remedy."""

from __future__ import annotations

import csv
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom import cli
from darkroom.commands import lab
from darkroom.core.errors import ParamsError
from darkroom.lab import drawing
from tests.completion import completions
from tests.lab.test_layers import PLAIN, compact


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a model of three classes, an image, and a folder of two of the classes; the commands run there."""
    from darkroom.models.checkpoint import Checkpoint, save

    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    network = compact()
    checkpoint = Checkpoint("small", network.features.spec, PLAIN, ("ant", "bee", "fly"), {}, {})
    save(Path("model"), checkpoint, network.state_dict(), network.parameter_count(), [{"epoch": 1.0}])
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        Path("photos", name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(f"photos/{name}/{i}.png")
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save("image.png")
    return tmp_path


CALLS = {
    "kernels": ["image.png", "--kernel", "0 1; 2 3"],
    "filters": ["model", "stages.1.0.0", "--before"],
    "feature-maps": ["model", "image.png", "--before", "--most", "3"],
    "occlusion": ["model", "image.png", "--class", "bee"],
    "maximize": ["model", "--class", "fly", "--steps", "2"],
    "receptive-field": ["model", "--images", "1"],
    "augmentations": ["image.png", "--policy", "light", "--size", "32"],
    "embedding": ["photos", "--model", "model"],
    "autoencoder": ["--images=250", "--size=12", "--codes=4", "--epochs=3", "--conv-epochs=1", "--outliers=photos"],
}


@pytest.mark.parametrize("command", CALLS)
def test_every_command_writes_a_picture(workspace, capsys, command):
    """The picture is where the command says, replaces an earlier one, and nothing is left beside it."""
    for _ in range(2 if command in ("kernels", "embedding") else 1):
        assert cli.main(["lab", command, *CALLS[command]]) == 0
    picture = Path("reports/lab", f"{command}.png")
    assert str(picture) in capsys.readouterr().out
    with Image.open(picture) as image:
        image.load()
        assert image.mode == "RGB"
        assert min(image.size) > 100
    beside = {"receptive-field": {".csv"}, "embedding": {".csv", ".html"}, "autoencoder": {".csv"}}.get(command, set())
    assert {path.suffix for path in picture.parent.iterdir()} == {".png"} | beside


def test_every_command_is_known():
    """Each command has a call above but `layers`, which draws nothing; the shell completes them all."""
    assert set(CALLS) | {"layers"} == set(lab.COMMANDS)
    assert completions("lab", "") == list(lab.COMMANDS)
    assert completions("lab", "rec") == ["receptive-field"]
    assert cli._wants_torch(["lab", "filters"])
    assert not any(cli._wants_torch(words) for words in (["lab"], ["lab", "kernels"], ["lab", "nothing"]))


@pytest.mark.parametrize(
    "words", [["--help"], ["kernels", "image.png"], ["augmentations", "image.png", "--policy", "light", "--size", "32"]]
)
def test_what_needs_no_torch_imports_none(workspace, words):
    """Help, kernels and augmentations start without torch."""
    code = f"import sys; from darkroom.cli import main; assert main({['lab', *words]!r}) == 0; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kernel", "image.png"], 'did you mean "kernels"?'),
        (["kernels", "image.png", "--name", "sobl"], 'did you mean "sobel"?'),
        (["kernels", "image.png", "--kernel", "1 x"], '"x" in row 1'),
        (["kernels", "image.png", "--kernel-file", "image.png"], "cannot be read as text"),
        (["kernels", "none.png"], "no such file"),
        (["kernels", "model/model.json"], "no image in a format"),
        (["kernels", "image.png", "--out", "photos"], "not the name of a PNG"),
        (["kernels", "image.png", "--out", "image.png"], "not an earlier picture"),
        (["filters", "model", "stages.9"], "did you mean"),
        (["filters", "photos"], "not a checkpoint"),
        (["layers", "mobilenet_v9"], "did you mean"),
        (["filters", "model", "--size", "64"], "brings its own"),
        (["feature-maps", "model", "image.png", "--layer", "head"], "has no maps"),
        (
            ["feature-maps", "torchvision/resnet18", "image.png", "--layer", "layer4", "--size", "64"],
            "name one of layer4.0, layer4.1",
        ),
        (["occlusion", "model", "image.png", "--class", "be"], 'did you mean "bee"?'),
        (["occlusion", "compact", "image.png"], "never trained"),
        (["occlusion", "model", "image.png", "--patch", "99"], "does not fit"),
        (["maximize", "model", "--layer", "stages.0.0.0", "--channel", "99"], "has no channel 99"),
        (["maximize", "model", "--channel", "1"], "needs a layer"),
        (["occlusion", "model", "image.png", "--patch", "0"], "does not fit"),
        (["filters", "model", "--most", "0"], "shows nothing"),
        (["layers", "compact", "--size", "0"], "no size of an image"),
        (["augmentations", "image.png", "--policy", "storng"], 'did you mean "strong"?'),
        (["embedding", "nowhere", "--model", "model"], "there is no folder"),
    ],
)
def test_a_mistake_is_one_message(workspace, capsys, arguments, said):
    """Bad input has exit code 2, names the remedy, and writes nothing."""
    before = Path("image.png").read_bytes()
    assert cli.main(["lab", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "remedy:" in error
    assert Path("image.png").read_bytes() == before
    assert not Path("reports").exists()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 2)])
def test_images_of_any_shape_have_responses(workspace, size):
    """An image of one pixel, a line, and one that is far too long make a picture."""
    Image.new("RGB", size, (200, 10, 10)).save("odd.png")
    assert cli.main(["lab", "kernels", "odd.png"]) == 0


@pytest.mark.parametrize("name", ["vgg11", "swin_t"])
def test_layers_that_a_backbone_does_without_are_left_out(workspace, name):
    """Where an architecture has layers that Darkroom never runs, such as a pooling before its own head, the others are shown."""
    assert cli.main(["lab", "feature-maps", name, "image.png", "--size", "64", "--most", "3", "--channels", "2"]) == 0


def test_a_huge_photograph_is_seen_small(workspace, capsys):
    """What the kernels see has at most --size pixels a side, whatever the file has."""
    Image.new("RGB", (6000, 4000), (90, 90, 90)).save("huge.jpg")
    assert cli.main(["lab", "kernels", "huge.jpg", "--size", "300", "--name", "sobel"]) == 0
    with Image.open("reports/lab/kernels.png") as image:
        assert max(image.size) < 2000


def test_only_earlier_pictures_are_replaced(tmp_path):
    """A file of another origin stays, also beside a picture of ours; what came with a picture is replaced with it."""
    picture, target = np.zeros((4, 4, 3), np.uint8), tmp_path / "a.png"
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(ParamsError, match=r"a\.csv is there"):
        drawing.check(target, (".csv",))
    drawing.save(target, picture)
    drawing.check(target)
    with pytest.raises(ParamsError, match=r"a\.csv is there"):
        drawing.check(target, (".csv",))
    drawing.check(target, (".csv",), overwrite=True)
    drawing.save(target, picture, {".csv": "ours"})
    drawing.check(target, (".csv",))
    Image.fromarray(picture).save(target)
    with pytest.raises(ParamsError, match=r"a\.png is there"):
        drawing.check(target)


def test_the_numbers_of_an_embedding(workspace):
    """Each image has a row, its class, what it is called and whether that is wrong; the page has each of its thumbnails."""
    assert cli.main(["lab", "embedding", *CALLS["embedding"]]) == 0
    rows = list(csv.DictReader(Path("reports/lab/embedding.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [f"{name}/{i}.png" for name in ("ant", "bee") for i in range(6)]
    assert all((row["class"] != row["predicted"]) == (row["error"] == "1") for row in rows)
    assert Path("reports/lab/embedding.html").read_text().count("data:image/") == 12


def test_real_photographs(workspace, shared):
    """Photographs of the shared sets go through the kernels, and through a network with random weights."""
    with tarfile.open(shared / "flowers.tar") as archive:
        name = next(item for item in archive.getnames() if item.endswith(".jpg"))
        archive.extract(name, filter="data")
    assert cli.main(["lab", "kernels", name]) == 0
    assert cli.main(["lab", "feature-maps", "squeezenet1_1", name, "--size", "64", "--most", "4"]) == 0


def test_a_sheet_holds_its_tiles_unchanged():
    """Each tile is there pixel by pixel, below a title, and nothing is cut off."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    made = drawing.sheet(
        "A title", [drawing.Row([drawing.Tile(pixels, "one"), drawing.Tile(pixels[::-1], "two")], "row")], "a note"
    )
    places = [(y, x) for y, x in zip(*np.where((made == pixels[0, 0]).all(2)), strict=True)]
    assert any((made[y : y + 5, x : x + 7] == pixels).all() for y, x in places if made[y : y + 5, x : x + 7].shape == pixels.shape)
    assert (made[-5:] == 255).all()
    assert (made[:, -5:] == 255).all()


@pytest.mark.parametrize(("shape", "side"), [((1, 1, 3), 100), ((1, 4000, 3), 100), ((30, 20, 3), 96), ((500, 300, 3), 224)])
def test_fitted_is_about_the_side_that_was_asked_for(shape, side):
    """The longer side is within a third of what was asked for, and no side vanishes."""
    made = drawing.fitted(np.zeros(shape, np.uint8), side)
    assert side * 2 / 3 <= max(made.shape) <= side * 4 / 3
    assert min(made.shape) > 0
