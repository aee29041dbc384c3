"""The two levels that the distance of an image takes: its embedding, and the means of a feature map inside the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darkroom.models import mahalanobis
from darkroom.models.base import IMAGENET, Backbone, Features, Network, Normalize, Preprocessing
from darkroom.models.factory import build_backbone, build_features
from darkroom.models.specs import ArchitectureSpec, BackboneSpec, CompactSpec
from darkroom.training.embedding import FeaturesAndMaps
from tests.models.test_backbones import SMALLEST, shallow

TIMM = {"timm/resnet10t": 64, "timm/vit_tiny_patch16_224": 32, "timm/convnext_atto": 64, "timm/swin_tiny_patch4_window7_224": 224}


def build(name: str) -> Features:
    """Return an untrained network of any kind: of a family of torchvision, of timm, or of our own."""
    if name in SMALLEST:
        return shallow(name)
    if name.startswith("timm/"):
        return build_backbone(BackboneSpec(name.removeprefix("timm/"), TIMM[name], source="timm"))
    spec = CompactSpec(32, 4) if name == "compact" else ArchitectureSpec(name, 32, 3, {})
    return build_features(spec)


def images(features: Features) -> torch.Tensor:
    size = features.spec.image_size
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALLEST, *TIMM, "compact", "lenet5", "resnet20", "mlp"])
def test_the_levels_are_the_embedding_and_the_means_of_a_map(name):
    """For every kind of network the first level is its embedding; the second has a number for each channel of a map above the first
    step and below the last one. A network that runs whole has the embedding alone."""
    features = build(name).eval()
    steps = mahalanobis.steps_of(features.step_count())
    x = images(features)
    with torch.inference_mode():
        levels = features.levels(x, steps)
        torch.testing.assert_close(levels[0], features(x), rtol=1e-5, atol=1e-6)
    if name in ("VisionTransformer", "mlp"):
        assert steps == 0
        assert len(levels) == 1
        return
    assert 0 < steps < features.step_count()
    assert levels[1].ndim == 2
    assert levels[1].isfinite().all()
    assert (levels[1][0] != levels[1][1]).any()
    assert levels[1].shape[1] > 3
    if isinstance(features, Backbone):
        with torch.inference_mode():
            maps = features.lower(x, steps)
        assert levels[1].shape[1] in maps.shape[1:]
        places = [axis for axis in range(1, maps.ndim) if axis != list(maps.shape).index(levels[1].shape[1])]
        assert torch.allclose(levels[1], maps.mean(places), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", [2, 7, 9])
def test_maps_and_levels_of_one_pass(cut):
    """Wherever fine-tuning cuts the network, below, at or above the map of the distance, one pass gives what passes of their own
    give."""
    backbone, normalize = shallow("SqueezeNet").eval(), Normalize(*IMAGENET)
    size = backbone.spec.image_size
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8))
    with torch.inference_mode():
        embeddings, maps, means = FeaturesAndMaps(normalize, backbone, cut, 7)(pixels)
        x = normalize(pixels)
        expected = backbone(x), backbone.lower(x, cut), backbone.levels(x, 7)[1]
    for one, other in zip((embeddings, maps, means), expected, strict=True):
        assert torch.equal(one, other)


def test_a_network_passes_images_once():
    """Embeddings, logits and distances of a network are those of one pass, and without a distance there is none."""
    network = Network(build("compact"), Preprocessing(32, "crop", (0,) * 3, (0.5,) * 3, (0.5,) * 3), 2).eval()
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8))
    with torch.inference_mode():
        assert network.outputs(pixels).distances is None
        levels = network.features.levels(network.normalize(pixels), 5)
        network.distance = mahalanobis.fit([level.numpy() for level in levels], np.arange(12) % 2, 2, 5)
        outputs = network.outputs(pixels)
        assert torch.equal(outputs.logits, network(pixels))
        assert torch.equal(outputs.embeddings, network.embed(pixels))
    assert np.array_equal(outputs.distances.numpy(), network.distance.measure(*(level.numpy() for level in levels)))
