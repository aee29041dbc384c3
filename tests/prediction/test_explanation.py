"""Heat maps: they are where the evidence is, for chains of feature maps and for transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.errors import ParamsError
from darkroom.models.backbones import Backbone
from darkroom.models.compact import Compact, Spec
from darkroom.models.network import Network, Preprocessing
from darkroom.params import Compute, Training
from darkroom.prediction import explanation
from darkroom.training.feeding import Examples
from darkroom.training.loop import fit
from tests.conftest import CHROMIUM, screenshot
from tests.models.test_backbones import SMALLEST, spec

COMPUTE = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
PLAIN = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)


def corners(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with a bright square, left for class 0 and right for class 1, in the upper or lower half by chance."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (count, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 2, count)
    for image, label, low in zip(images, labels, rng.integers(0, 2, count), strict=True):
        image[low * 16 + 4 : low * 16 + 12, label * 16 + 4 : label * 16 + 12, label] = 255
    return images, labels


@pytest.fixture(scope="module")
def trained() -> tuple[Network, np.ndarray, np.ndarray]:
    images, labels = corners(128)
    network = Network(Compact(Spec(32, 8)), PLAIN, 2)
    hyper = Training(
        epochs=6, batch_size=16, optimizer="adamw", lr=0.01, weight_decay=0.0, warmup_epochs=0.0, label_smoothing=0.0,
        class_weights="none", patience=6,
    )  # fmt: skip
    fit(network, Examples(images[None], labels), Examples(images[None], labels), hyper, COMPUTE, 2)
    return network, images[:20], labels[:20]


@pytest.mark.parametrize("method", ["LayerCAM", "occlusion"])
def test_the_heat_is_where_the_evidence_is(trained, monkeypatch, method):
    """By either method the warmest pixel lies at the square that decides the class, in most of 20 images."""
    network, images, labels = trained
    if method == "occlusion":
        monkeypatch.setattr(network.features, "chain", lambda: None)
    heats, name = explanation.heat(network, images, labels.tolist())
    assert name == method
    assert heats.shape == (20, 32, 32)
    assert heats.min() >= 0
    assert heats.max() == 1
    hits = 0
    for image, heat in zip(images, heats, strict=True):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        hits += image[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5].max() == 255
    assert hits >= 18


@pytest.mark.parametrize("family", SMALLEST)
def test_every_family_has_a_heat_map(family):
    """Every family gives finite maps from 0 to 1 of the image's size, and its weights are as they were before."""
    made = spec(family, "pooled")
    network = Network(Backbone(made), Preprocessing(made.image_size, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3), 2).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 256, (1, made.image_size, made.image_size, 3), np.uint8)
    heats, method = explanation.heat(network, images, [1])
    assert method == ("occlusion" if family in ("VisionTransformer", "SwinTransformer") else "LayerCAM")
    assert heats.shape == images.shape[:3]
    assert np.isfinite(heats).all()
    assert 0 <= heats.min() <= heats.max() <= 1
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_page_shows_every_picture(tmp_path, trained):
    """A picture per image and a page with all of them, whatever the files are called; an earlier page is replaced."""
    network, images, labels = trained
    heats, method = explanation.heat(network, images[:2], labels[:2].tolist())
    for paths in (["a/b.png", "old.png"], ["a/b.png", "<i>ü $&'\udcff.jpg"]):
        rows = [{"path": path, "label": "left", "confidence": 0.9} for path in paths]
        with explanation.Page(tmp_path / "out", 2, "version 1 of x") as page:
            for i in range(2):
                page.add(rows[i : i + 1], images[i : i + 1], heats[i : i + 1], method)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["1-b.png", "2--i-.png", "index.html"]
    assert Image.open(tmp_path / "out" / "1-b.png").size == (448, 224)
    assert rows[0]["explanation"] == str(tmp_path / "out" / "1-b.png")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "&lt;i&gt;ü" in page
    for name in ("photo.jpg", "1-photo.jpg", "deep"):
        folder = tmp_path / f"with {name}"
        (folder / name).mkdir(parents=True)
        (folder / "index.html").write_text(page)
        with pytest.raises(ParamsError, match="not an earlier page"):
            explanation.check(folder)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<h1>mine</h1>")
    for other in (tmp_path / "site", tmp_path / "out" / "1-b.png"):
        with pytest.raises(ParamsError, match="not an earlier page"):
            explanation.check(other)
    if CHROMIUM:
        picture, said = screenshot(tmp_path / "out" / "index.html")
        assert "Uncaught" not in said
        assert len(set(np.asarray(picture.convert("L")).ravel().tolist())) > 50


def test_what_speaks_against_a_class_is_no_heat():
    """LayerCAM (Jiang 2021): a map counts only where more of it would raise the class, whatever its other maps say there."""

    class Maps(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images

    class Given(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 1, bias=False)
            self.head.weight.data = torch.tensor([[1.0, -3.0]])

        def normalize(self, images: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.ones(1, 8, 8), torch.ones(1, 8, 8)], dim=1)

    chain = ([Maps()], lambda x: x.mean((2, 3)))
    images = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    heat = explanation._layer_cam(Given(), chain, images, torch.tensor([0]))
    assert torch.allclose(heat, torch.full((1, 8, 8), 1 / 64))
