"""Heat maps show where the evidence is, for chains of feature maps and for transformers."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.config.params import Compute, Training
from darkroom.core.errors import ParamsError
from darkroom.inference import explanation
from darkroom.models import factory
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network, Preprocessing
from darkroom.models.factory import build_features
from darkroom.models.feature_maps import FeatureMaps, maps_of
from darkroom.models.specs import CompactSpec
from darkroom.training.batches import Examples
from darkroom.training.loop import fit
from tests.conftest import CHROMIUM, screenshot
from tests.models.test_backbones import SMALLEST, shallow

COMPUTE = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
PLAIN = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)


def corners(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with a bright square, left for class 0 and right for class 1, in the upper or lower half
    at random."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (count, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 2, count)
    for image, label, low in zip(images, labels, rng.integers(0, 2, count), strict=True):
        image[low * 16 + 4 : low * 16 + 12, label * 16 + 4 : label * 16 + 12, label] = 255
    return images, labels


@pytest.fixture(scope="module")
def trained() -> tuple[Network, np.ndarray, np.ndarray]:
    images, labels = corners(128)
    network = Network(Compact(CompactSpec(32, 8)), PLAIN, 2)
    hyper = Training(
        epochs=6, batch_size=16, optimizer="adamw", lr=0.01, weight_decay=0.0, warmup_epochs=0.0, label_smoothing=0.0,
        class_weights="none", patience=6,
    )  # fmt: skip
    fit(network, Examples(images[None], labels), Examples(images[None], labels), hyper, COMPUTE, 2)
    return network, images[:20], labels[:20]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["LayerCAM", "occlusion"])
def test_the_heat_is_where_the_evidence_is(trained, method):
    """By either method the warmest pixel lies at the square that decides the class, in most of 20 images."""
    network, images, labels = trained
    heats, name = explanation.heat_maps(network, images, labels.tolist(), method)
    assert name == method
    assert heats.shape == (20, 32, 32)
    assert heats.min() >= 0
    assert heats.max() == 1
    hits = 0
    for image, heat in zip(images, heats, strict=True):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        hits += image[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5].max() == 255
    assert hits >= 18


def at_the_square(images: np.ndarray, heats: np.ndarray) -> float:
    """Return the share of the heat in the quarter of the image that holds the square: by chance 0.25."""
    shares = []
    for image, heat in zip(images, heats, strict=True):
        y, x = (int(place.mean()) // 16 * 16 for place in np.nonzero(image.max(2) == 255))
        shares.append(heat[y : y + 16, x : x + 16].sum() / max(heat.sum(), 1e-9))
    return float(np.mean(shares))


def ranks(heats: np.ndarray) -> np.ndarray:
    return heats.ravel().argsort().argsort().astype(float)


@cache
def trained_network(name: str) -> Network:
    """Return a network that tells the squares apart, trained in seconds."""
    images, labels = corners(256)
    network = Network(build_features(factory.make_spec(name, 32)), PLAIN, 2).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
    for i in range(50):
        batch = np.random.default_rng(i).integers(0, 256, 32)
        loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(images[batch])), torch.from_numpy(labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"), [("resnet8", "LayerCAM"), ("resnet8", "Grad-CAM"), ("resnet8", "occlusion"), ("mlp", "occlusion")]
)
def test_randomised_weights_give_another_map(name, method):
    """Adebayo et al. (2018): a map depends on what was learned.

    Most of a trained network's heat is in the quarter that holds the square. Of networks whose weights are
    drawn anew it is not, and the ranks of their pixels have little in common with the trained one's.
    """
    images, labels = (part[: 20 if method != "occlusion" else 10] for part in corners(256))
    heats, used = explanation.heat_maps(trained_network(name), images, labels.tolist(), method)
    assert used == method
    assert at_the_square(images, heats) > 0.6
    shares, alike = [], []
    for seed in (1, 2, 3) if method != "occlusion" else (1, 2):
        random = Network(build_features(factory.make_spec(name, 32), seed), PLAIN, 2).eval()
        random.head.weight.data = torch.randn(random.head.weight.shape, generator=torch.Generator().manual_seed(seed))
        other, _ = explanation.heat_maps(random, images, labels.tolist(), method)
        shares.append(at_the_square(images, other))
        alike += [np.corrcoef(ranks(a), ranks(b))[0, 1] for a, b in zip(heats, other, strict=True) if np.ptp(b)]
    assert np.mean(shares) < 0.45
    assert abs(np.mean(alike)) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["LayerCAM", "Grad-CAM"])
def test_another_class_has_another_map(method):
    """The map of a class is not the map of the other class."""
    images, labels = (part[:20] for part in corners(256))
    heats = [
        explanation.heat_maps(trained_network("resnet8"), images, targets.tolist(), method)[0] for targets in (labels, 1 - labels)
    ]
    assert np.abs(heats[0] - heats[1]).mean() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALLEST)
def test_every_family_has_heat_maps(family):
    """Every family, transformers too, has finite maps of the image's size that are not constant.

    The steps to them compute the network's own features, bit for bit, and its weights do not change.
    """
    backbone = shallow(family, seed=3)  # with many others the maps of a MaxViT are zero everywhere
    size = backbone.spec.image_size
    network = Network(backbone, Preprocessing(size, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3), 2).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    network.head.weight.data = torch.randn(network.head.weight.shape, generator=torch.Generator().manual_seed(0))
    default = explanation.heat_maps(network, images, [0])[1]
    assert default == ("occlusion" if family in ("VisionTransformer", "SwinTransformer") else "LayerCAM")
    for method in ("LayerCAM", "Grad-CAM"):
        results = [explanation.heat_maps(network, images, [target], method) for target in (0, 1)]
        assert {name for _, name in results} == {method}
        heats = np.concatenate([heat for heat, _ in results])
        assert heats.shape == (2, size, size)
        assert np.isfinite(heats).all()
        assert 0 <= heats.min() <= heats.max() <= 1
        assert np.ptp(heats, axis=(1, 2)).max() > 0.1
    steps, tail, grid = maps_of(network.features)
    with torch.inference_mode():
        x = normalized = network.normalize(torch.from_numpy(images))
        for step in steps:
            x = step(x.clone())
            assert grid(x).ndim == 4
        assert torch.equal(tail(x), network.features(normalized))
    assert all(torch.equal(value, before[key]) for key, value in network.features.state_dict(prefix="features.").items())


@pytest.mark.slow
def test_overlays_are_small_pictures(trained):
    """A WebP of the requested side for each image, the same bytes twice, bright at the square and dark far
    from it."""
    network, images, labels = trained
    overlays, method = explanation.overlays(network, images[:3], labels[:3].tolist(), side=64)
    assert method == "LayerCAM"
    assert overlays == explanation.overlays(network, images[:3], labels[:3].tolist(), side=64)[0]
    pictures = [np.asarray(Image.open(io.BytesIO(data))) for data in overlays]
    assert {picture.shape for picture in pictures} == {(64, 64, 3)}
    assert all(len(data) < 4096 for data in overlays)
    heat = explanation.heat_maps(network, images[:1], labels[:1].tolist())[0][0]
    warm, cold = (np.kron(where, np.ones((2, 2), bool)) for where in (heat > 0.8, heat < 0.1))
    assert pictures[0][warm].mean() > pictures[0][cold].mean() + 30


@pytest.mark.slow
def test_the_page_shows_every_picture(tmp_path, trained):
    """A picture per image and a page with all of them, for any file names; an earlier page is replaced."""
    network, images, labels = trained
    heats, method = explanation.heat_maps(network, images[:2], labels[:2].tolist())
    for paths in (["a/b.png", "old.png"], ["a/b.png", "<i>ü $&'\udcff.jpg"]):
        items = [(path, "left", 0.9, image, heat) for path, image, heat in zip(paths, images, heats, strict=False)]
        pictures = explanation.write_page(tmp_path / "out", "version 1 of x", method, 2, items)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["1-b.png", "2--i-.png", "index.html"]
    assert Image.open(tmp_path / "out" / "1-b.png").size == (448, 224)
    assert pictures["a/b.png"] == str(tmp_path / "out" / "1-b.png")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "&lt;i&gt;ü" in page
    for name in ("photo.jpg", "1-photo.jpg", "deep"):
        folder = tmp_path / f"with {name}"
        (folder / name).mkdir(parents=True)
        (folder / "index.html").write_text(page)
        with pytest.raises(ParamsError, match="not an earlier page"):
            explanation.check_folder(folder)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<h1>mine</h1>")
    for other in (tmp_path / "site", tmp_path / "out" / "1-b.png"):
        with pytest.raises(ParamsError, match="not an earlier page"):
            explanation.check_folder(other)
    if CHROMIUM:
        picture, console = screenshot(tmp_path / "out" / "index.html")
        assert "Uncaught" not in console
        assert len(set(np.asarray(picture.convert("L")).ravel().tolist())) > 50


def test_evidence_against_a_class_is_no_heat():
    """LayerCAM (Jiang et al. 2021): a place of a map counts only if its own gradient is positive, whatever
    the other maps have."""

    class Channels(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images

    class LinearOnMaps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 1, bias=False)
            self.head.weight.data = torch.tensor([[1.0, -3.0]])

        def normalize(self, images: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.ones(1, 8, 8), torch.ones(1, 8, 8)], dim=1)

    maps = FeatureMaps([Channels()], lambda x: x.mean((2, 3)), lambda x: x)
    images = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    heat = explanation._activation(LinearOnMaps(), maps, images, torch.tensor([0]), "LayerCAM")
    assert torch.allclose(heat, torch.full((1, 8, 8), 1 / 64))
    heat = explanation._activation(LinearOnMaps(), maps, images, torch.tensor([0]), "Grad-CAM")
    assert torch.equal(heat, torch.zeros(1, 8, 8))  # more of both together would lower it
