"""A project's own networks as backbones: they compute what their class computes, and only code of the project runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom import cli
from darkroom.config import backbone_names
from darkroom.core.errors import OwnCodeError, ParamsError
from darkroom.models import checkpoint, engine, factory, mahalanobis, pretrained, tensor_files, weights
from darkroom.models.backbones import own, own_code
from darkroom.models.base import IMAGENET, Levels, Network, Normalize, Preprocessing
from darkroom.models.engine import export_onnx
from darkroom.models.specs import spec_from_dict
from tests.conftest import ROOT

SIZE = 48
NETS = """
import torch
from torch import nn
from torch.nn import functional as F


class Chained(nn.Module):
    chain = ("stem", "body", "pool", "flatten")
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU())
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()

    def forward(self, x):
        return self.flatten(self.pool(self.body(self.stem(x))))


class Whole(nn.Module):
    def __init__(self, image_size, width=8):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), float(image_size)))
        self.one, self.two = nn.Conv2d(3, width, 3, 2), nn.LazyConv2d(16, 3, 2)
        self.fc = nn.Identity()

    def forward(self, x):
        return self.fc(F.relu(self.two(F.relu(self.one(x)) * self.scale)))


def sequential():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 16, 3, 2), nn.ReLU()))
"""
NAMES = ("Chained", "Whole", "sequential")
every_network = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with networks of its own."""
    monkeypatch.chdir(tmp_path)
    write("nets", NETS)
    return tmp_path


def write(file: str, text: str) -> None:
    Path("backbones").mkdir(exist_ok=True)
    Path(f"backbones/{file}.py").write_text(text)


def backbone(name: str, seed: int = 0) -> own.OwnBackbone:
    built = factory.build_backbone(factory.backbone_spec(f"own/{name}", SIZE), seed)
    assert isinstance(built, own.OwnBackbone)
    return built


def images() -> torch.Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=torch.channels_last)


@every_network
def test_embeddings_are_what_the_class_computes(name):
    """Embeddings equal those of the class, built and called without Darkroom, bit for bit; a map gives its mean."""
    built, namespace = backbone(f"nets.{name}"), {}
    exec(NETS, namespace)
    with torch.no_grad():
        net = namespace[name](SIZE) if name == "Whole" else namespace[name]()
        net(images())  # gives lazy layers their shapes
        net.load_state_dict(built.weights())
        expected = net.eval()(images())
        assert torch.equal(built(images()), expected.mean((2, 3)) if expected.ndim == 4 else expected)
    built.check()


@every_network
def test_blocks_hold_every_weight_once_and_cuts_change_nothing(name):
    """Each weight is in one block; a chain that is cut between any two blocks gives the same; the parts have maps to look at."""
    built = backbone(f"nets.{name}")
    parameter_ids = [id(value) for index in range(built.block_count) for value in built.block(index).parameters()]
    assert sorted(parameter_ids) == sorted(map(id, built.parameters()))
    assert built.sequential == built.has_feature_maps() == (name != "Whole")
    with torch.no_grad():
        for cut in range(built.block_count + 1) if built.sequential else ():
            assert torch.equal(built.upper(built.lower(images(), cut), cut), built(images())), cut


@every_network
def test_the_seed_draws_the_weights(name):
    """The same seed gives the same weights, another one others, and the global random state is left alone."""
    state = torch.get_rng_state()
    one, again, other = (backbone(f"nets.{name}", seed).weights() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    assert any(not torch.equal(value, other[key]) for key, value in one.items())
    assert torch.equal(torch.get_rng_state(), state)


@every_network
def test_a_checkpoint_keeps_the_digest_and_the_export_needs_no_code(name):
    """A description names the sha256 of the file and builds the same network again; an exported program has no code of it."""
    built = backbone(f"nets.{name}")
    described = built.spec.as_dict()
    assert described["family"] == "own"
    assert described["options"]["sha256"] == own_code.read("nets").sha256
    assert spec_from_dict(described) == built.spec
    network = Network(built, Preprocessing(SIZE, "crop", (0, 0, 0), *IMAGENET), 3)
    assert b"ClassNotOfOnnx" not in export_onnx(network, np.zeros((4, SIZE, SIZE, 3), np.uint8))


@pytest.mark.parametrize(("name", "levels"), [("nets.Whole", 1), ("nets.Chained", 1), ("pooled.deep", 2)])
def test_the_levels_of_the_distance_are_exported(name, levels):
    """The embedding and the means of a map are exported from a network that has just been built; one without a chain, or with a
    chain of one block, has the embedding alone."""
    stage = "nn.Conv2d({}, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)"
    layers = ", ".join(stage.format(channels) for channels in (3, 8, 8))
    write("pooled", f"from torch import nn\n\n\ndef deep():\n    return nn.Sequential({layers})\n")
    built, pixels = backbone(name), np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    network = torch.nn.Sequential(Normalize(*IMAGENET), Levels(built, mahalanobis.steps_of(built.step_count()))).eval()
    outputs = engine.Onnx(network, pixels, 1).run(pixels)
    assert len(outputs) == levels
    with torch.inference_mode():
        for ours, theirs in zip(outputs, network(torch.from_numpy(pixels)), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


def test_weights_come_from_the_folder_with_the_normalisation_of_the_class():
    """`imagenet`, `package` and `folder` read FILE.CLASS of the folder of weights, a replaced classifier is left aside, and `mean`
    and `std` of the class go with them; without, ImageNet's."""
    state = {key: torch.ones_like(value) for key, value in backbone("nets.Whole").weights().items()}
    Path("weights").mkdir()
    tensor_files.save(Path("weights/nets.Whole.safetensors"), state | {"fc.1.weight": torch.ones(5, 16), "fc.bias": torch.ones(5)})
    for source in ("imagenet", "package", "folder"):
        loaded, origin = pretrained.load("own/nets.Whole", SIZE, "pooled", source, Path("weights"))
        assert all(bool((value == 1).all()) for value in loaded.weights().values())
        assert origin.source == "folder"
        assert origin.details["left_aside"] == ["fc.1.weight", "fc.bias"]
        assert (origin.mean, origin.std) == IMAGENET
    assert weights.normalization("own/nets.Chained", "folder") == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert weights.normalization("own/nets.Chained", "random") == weights.CENTRED


def named(name: str) -> None:
    backbone_names.check(name)
    factory.backbone_spec(name, SIZE)


WRONG = {  # what is wrong in a file: its text, and what the message and the remedy say
    "syntax": ("class Net(nn.Module:\n", "backbones/wrong.py, line 1"),
    "import": ("import nosuchpackage\nclass Net: ...\n", r"line 1\)\n.*pip install nosuchpackage"),
    "sibling": ("import nets\nclass Net: ...\n", "a network is one file"),
    "raises": ("class Net:\n    def __init__(self):\n        raise SystemExit(7)\n", r"SystemExit: 7 \(backbones/wrong.py, line 3"),
    "no class": ("class Nett: ...\n", r"defines no Net \(did you mean \"Nett\""),
    "no module": ("class Net: ...\n", "no torch.nn.Module"),
    "arguments": ("class Net(nn.Module):\n    def __init__(self, width): ...\n", "arguments of the class defaults"),
    "one number": ("def Net(): return nn.Sequential(nn.Flatten(0))\n", r"returns a tensor \(6912,\) .*\n.*features \(1, D\)"),
    "tuple": ("class Net(nn.Identity):\n    def forward(self, x): return x, x\n", "returns a tuple"),
    "size": ("def Net(): return nn.Sequential(nn.Flatten(), nn.Linear(7, 2))\n", "48 pixels: RuntimeError.*\n.*ingest.image_size"),
    "view": ("class Net(nn.Identity):\n    def forward(self, x): return x.view(len(x), -1)\n", r"x.flatten\(1\)"),
    "nan": ("class Net(nn.Identity):\n    def forward(self, x): return x.log()\n", "NaN or infinity"),
    "dropout": ("class Net(nn.Identity):\n    def forward(self, x): return nn.functional.dropout(x)\n", "each time\n.*training"),
    "batch": ("class Net(nn.Identity):\n    def forward(self, x): return x - x.mean(0)\n", "beside other images"),
    "chain": ("class Net(nn.Flatten):\n    chain = ('one', 'tow')\n", "no layer \"one\""),
    "another chain": (
        "class Net(nn.Module):\n    chain = ('one',)\n    def __init__(self):\n        super().__init__()\n"
        "        self.one = nn.Conv2d(3, 4, 3)\n    def forward(self, x): return self.one(x).relu()\n",
        "other features than the layers of its chain",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_network_that_is_none_is_refused_with_its_line_and_a_remedy(case):
    """What is wrong in a person's file is one message that names the file and what to change."""
    text, expected = WRONG[case]
    write("wrong", "from torch import nn\n" * ("import" not in text and "class Net(nn.Module:" not in text) + text)
    if case == "raises":
        expected = expected.replace("line 3", "line 4")
    with pytest.raises(OwnCodeError, match=f"(?s){expected}"):
        own_code.knows("wrong.Net") and backbone("wrong.Net").check()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("own/nest.Net", 'did you mean "nets"'), ("own/nets.Chaned", "Chained"), ("./nets.py:Whole", "own/nets.Whole"),
        ("own/../nets.Whole", "own/FILE.CLASS"), ("own/nets", "own/FILE.CLASS"), ("own/nets.Whole;ls", "own/FILE.CLASS"),
    ],
)  # fmt: skip
def test_a_name_of_no_network_has_a_remedy(name, remedy):
    """A missing file or class, a path, and what a shell could misread are refused with the name to write."""
    with pytest.raises(ParamsError, match=remedy):
        named(name)


def test_names_are_found_without_running_a_file():
    """Lists, completion and the check before a run read the files, and run nothing in them."""
    write("marker", "import pathlib\npathlib.Path('ran').touch()\n\nclass Net(object): ...\n")
    assert own_code.names() == ["marker.Net", "nets.Chained", "nets.Whole", "nets.sequential"]
    assert own_code.knows("marker.Net")
    assert not Path("ran").exists()


def test_the_networks_of_the_page_are_backbones():
    """The files of docs/backbones.md are found, are chains whose parts can be frozen, and pass what is checked."""
    text = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    files = re.findall(r"^`backbones/(\w+)\.py`:\n```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for file, content in files:
        write(file, content)
    for name in ("my_net.MyNet", "residual.resnet"):
        assert name in own_code.names()
        built = backbone(name)
        built.check()
        assert built.has_feature_maps()
    assert built.is_head("fc.weight")
    assert len(files) == 2


def save(folder: Path, name: str = "nets.Chained") -> Path:
    """Write a checkpoint of a network of the project's own."""
    built, preprocessing = backbone(name), Preprocessing(SIZE, "crop", (0, 0, 0), *IMAGENET)
    network = Network(built, preprocessing, 2)
    described = checkpoint.Checkpoint("model", built.spec, preprocessing, ("a", "b"), {}, {}, 1.0)
    folder.mkdir()
    checkpoint.save(folder, described, network.state_dict(), network.parameter_count(), [{"epoch": 1}])
    return folder


def predict(model: Path) -> int:
    Image.new("RGB", (64, 64)).save("image.png")
    return int(cli.main(["predict", "image.png", "--model", str(model)]))


def test_code_that_comes_with_a_model_is_not_run(project, monkeypatch, capsys):
    """A model from elsewhere, whose code lies beside it, in another branch of the repository, or where its name leads, runs nothing
    here, and the message says what it needs; the project's own code runs once the person has placed it."""
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    write("evil", NETS + "\nimport pathlib\npathlib.Path('ran').touch()\n")
    model, evil = save(Path("model"), "evil.Chained"), Path("backbones/evil.py").read_text()
    Path("ran").unlink()
    for place in (model, model / "backbones"):
        place.mkdir(exist_ok=True)
        (place / "evil.py").write_text(evil)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "start"], check=True)
    subprocess.run([*git, "checkout", "-q", "-b", "theirs"], check=True)
    subprocess.run([*git, "add", "backbones/evil.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "a stranger's"], check=True)
    subprocess.run([*git, "checkout", "-q", "main"], check=True)
    own._module.cache_clear()
    for text in (None, NETS):
        if text:
            write("evil", text)
        assert predict(model) == 2
        assert "code that comes with a model is not run" in capsys.readouterr().err
    for name in ("../model/evil.Chained", "evil.Chained/../..", ""):
        with pytest.raises(OwnCodeError):
            own_code.find(name, own_code.read("nets").sha256)
    with pytest.raises(OwnCodeError):
        own_code.find("nets.Chained", "../../model/evil")
    assert not Path("ran").exists()
    write("evil", evil)
    assert predict(model) == 0
    assert Path("ran").exists()


@pytest.mark.parametrize("place", ["kept", "committed"])
def test_a_model_of_an_earlier_version_still_predicts(place, monkeypatch, capsys):
    """After an edit of the file, a model that was trained before it predicts by the code that the stage `names` has kept, or that a
    commit has; with neither, the message names the file."""
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    model = save(Path("model"))
    if place == "kept":
        own_code.keep(own_code.read("nets"))
    else:
        git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
        for words in (("init", "-q"), ("add", "backbones"), ("commit", "-q", "-m", "a network")):
            subprocess.run([*git, *words], check=True)
    write("nets", "from torch import nn\nclass Chained(nn.Identity): ...\n")
    assert predict(model) == 0
    (own_code.KEPT if place == "kept" else Path(".git")).rename("away")
    assert predict(model) == 2
    assert "backbones/nets.py" in capsys.readouterr().err
