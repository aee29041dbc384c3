"""Classic architectures: all of them are built, trained, kept and looked into; their sizes are those of their
papers.
"""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest
import torch

from darkroom.core.errors import ParamsError
from darkroom.inference import explanation
from darkroom.models import checkpoint, factory
from darkroom.models.architectures import efficientnet, registry
from darkroom.models.architectures.autoencoder import build
from darkroom.models.architectures.features import Classic, classifier
from darkroom.models.architectures.layers import Grid
from darkroom.models.base import Network, Preprocessing
from darkroom.models.factory import build_features
from darkroom.models.macs import layers
from darkroom.models.specs import ArchitectureSpec

SMALL = {  # of each family one or two that have all its code, small enough to train here; of other families: the first as it is
    "mlp": [("mlp", {})],
    "lenet": [("lenet5", {})],
    "alexnet": [("alexnet", {"dense": 64})],
    "vgg": [("vgg11", {"dense": 64}), ("vgg11_bn", {"dense": 0})],
    "resnet": [("resnet8", {}), ("plain8", {}), ("resnet18", {"width": 8}), ("resnet50", {"width": 8})],
    "nin": [("nin", {"dropout": 0.0}), ("nin", {"width": 0.25, "dropout": 0.0, "batch_norm": True, "dense": 64})],
    "hog": [("hog", {})],  # has nothing to draw or to learn below its head
    "convnet": [("convnet", {"dropout": 0.0})],
    "residual": [
        *(("residual", {"block": block}) for block in ("reduced", "inverted_relu")),
        ("residual", {"block": "separable", "depth_multiplier": 2}),
    ],
    "inception": [
        ("googlenet", {"large": 5}),
        ("inception_small", {}),
        ("inception_small_naive", {}),
        ("inception_small_stack", {}),
        ("inception_small_reduced_stack", {}),
    ],
    "mobilenet": [("mobilenet_v1", {"width": 0.25}), ("mobilenet_v1_standard", {"width": 0.25}), ("mobilenet_v2", {"width": 0.25})],
    "efficientnet": [("efficientnet", {"width": 0.25, "depth": 0.3, "phi": 0.5})],
}
for _entry in registry.entries().values():
    if _entry.kind == registry.CLASSIFIER:
        SMALL.setdefault(_entry.family, [(_entry.name, {})])
NETWORKS = [pytest.param(name, options, id=name) for members in SMALL.values() for name, options in members]
LEARNED = [network for network in NETWORKS if network.id != "hog"]
# millions of parameters and of multiply-adds for what each is built for, and where they are published
PUBLISHED = {
    "mlp": (0.235146, None),  # 784-256-128-10, by hand
    "lenet5": (0.061706, None),  # layer by layer: 156 + 2,416 + 48,120 + 10,164 + 850
    "alexnet": (61.1, 714),  # Krizhevsky 2014, torchvision
    "vgg11": (133, 7609), "vgg13": (133, None), "vgg16": (138, 15470), "vgg19": (144, None),  # table 2
    "resnet20": (0.27, None), "resnet32": (0.46, None), "resnet44": (0.66, None), "resnet56": (0.85, None),  # table 6
    "resnet18": (11.7, 1800), "resnet34": (21.8, 3600), "resnet50": (25.6, 4090), "resnet101": (44.5, 7800),
    "resnet152": (60.2, 11500),  # table 1: 1.8, 3.6, 3.8, 7.6 and 11.3 billion, bottlenecks with the stride in their first layer
    "nin": (0.967, None),  # the authors' cifar-10_def
    "mobilenet_v1": (4.2, 569), "mobilenet_v1_standard": (29.3, 4866),  # table 4
    "mobilenet_v2": (3.4, 300),  # table 4
    "efficientnet_b0": (5.3, 390), "efficientnet_b1": (7.8, 700), "efficientnet_b2": (9.2, 1000), "efficientnet_b3": (12, 1800),
    "efficientnet_b4": (19, 4200), "efficientnet_b5": (30, 9900), "efficientnet_b6": (43, 19000), "efficientnet_b7": (66, 37000),
}  # fmt: skip


def network(name: str, options: dict, size: int = 32, channels: int = 3, classes: int = 2, seed: int = 0) -> Network:
    shown = Preprocessing(size, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)
    return Network(Classic(ArchitectureSpec(name, size, channels, options), seed), shown, classes, seed)


def pixels(count: int, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_members_that_are_trained_are_of_their_family():
    """Every family that is named here exists, and every option of a member is one that it has."""
    for family, members in SMALL.items():
        for name, options in members:
            assert registry.entry(name).family == family
            assert options.keys() <= registry.entry(name).options.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_every_architecture_takes_every_size(name, shapes_only):
    """At 8 and at 96 pixels, with 1 channel or 3, RGB images become embeddings of the width `dim`."""
    with torch.device("meta"), torch.inference_mode():
        for size, channels in ((8, 3), (96, 1)):
            built = Classic(ArchitectureSpec(name, size, channels), None).eval()
            assert built(torch.zeros(2, 3, size, size)).shape == (2, built.dim), (size, channels)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_embeddings_are_finite_and_tell_images_apart(name, options):
    """At 28, 32 and 96 pixels, grey and in colour, the embeddings of two images are finite, differ, and have
    the width `dim`.
    """
    for size, channels in ((28, 1), (32, 3), (96, 1)):
        built = network(name, options, size, channels)
        with torch.inference_mode():
            built.features.train()  # the statistics of the batch: those of a new network's BatchNorm are not its own yet
            embeddings = built.features(built.normalize(pixels(2, size)))
        assert embeddings.shape == (2, built.features.dim)
        assert embeddings.isfinite().all()
        assert not torch.equal(embeddings[0], embeddings[1])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), LEARNED)
def test_every_family_learns(name, options):
    """A few steps on one batch of eight images, dark ones and bright ones, halve the loss."""
    torch.manual_seed(0)
    built = network(name, options, 16).train()
    labels = torch.arange(8) % 2
    images = pixels(8, 16) // 2 + 100 * labels.to(torch.uint8)[:, None, None, None]
    optimizer = torch.optim.Adam(built.parameters(), lr=0.001, fused=True)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(built(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < losses[0] / 2:
            break
    assert losses[-1] < losses[0] / 2, losses


@pytest.mark.parametrize(("name", "options"), LEARNED)
def test_the_seed_decides_the_weights(name, options):
    """The same spec and seed give the same weights bit for bit, another seed others; the global random state
    is left alone.
    """
    state = torch.get_rng_state()
    one, again, other = (Classic(ArchitectureSpec(name, 32, 3, options), seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    assert any(not torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_what_is_saved_is_what_is_loaded(tmp_path, name, options):
    """A checkpoint gives back the same network, options included, with the same logits bit for bit."""
    built = network(name, options, 28, 1).eval()
    described = checkpoint.Checkpoint(
        "baseline", ArchitectureSpec(name, 28, 1, options),
        Preprocessing(28, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3), ("a", "b"), {}, {},
    )  # fmt: skip
    checkpoint.save(tmp_path, described, built.state_dict(), built.parameter_count(), [{"epoch": 1}])
    loaded, read = checkpoint.load(tmp_path)
    assert read == described
    with torch.inference_mode():
        assert torch.equal(loaded(pixels(2, 28)), built(pixels(2, 28)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_every_family_has_a_heat_map(name, options):
    """Chains of feature maps are explained by LayerCAM, and their steps make the embedding; a perceptron by
    occlusion.
    """
    built = network(name, options, channels=1).eval()
    heats, method = explanation.heat_maps(built, pixels(2).numpy(), [0, 1])
    assert method == ("occlusion" if name == "mlp" else "LayerCAM")
    other, other_method = explanation.heat_maps(built, pixels(2).numpy(), [0, 1], "Grad-CAM")
    assert other_method == ("occlusion" if name == "mlp" else "Grad-CAM")
    assert heats.shape == other.shape == (2, 32, 32)
    assert np.isfinite(heats).all()
    assert np.isfinite(other).all()
    chain = built.features.chain()
    if chain:
        x = expected = built.normalize(pixels(2))
        with torch.inference_mode():
            for step in chain[0]:
                x = step(x)
                assert x.ndim == 4
            assert torch.equal(chain[1](x), built.features(expected))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_paper(name, shapes_only):
    """Parameters, the classifier included, are those that are published, to their last digit; multiply-adds
    within 6%.
    """
    entry = registry.entry(name)
    with torch.device("meta"):
        rows = layers(classifier(name, seed=None), (entry.channels, entry.size, entry.size))
    parameters, products = (sum(getattr(layer, key) for layer in rows) / 1e6 for key in ("parameters", "multiply_adds"))
    published = PUBLISHED[name]
    digits = len(str(published[0]).partition(".")[2])
    assert abs(parameters - published[0]) <= (0.11 if name in ("mobilenet_v2", "efficientnet_b2") else 0.51 * 10**-digits)
    assert published[1] is None or products == pytest.approx(published[1], rel=0.06)


@pytest.mark.slow
def test_skips_cost_nothing_on_cifar():
    """Plain networks have the parameters and multiply-adds of residual ones, and give other answers for the
    same weights.
    """
    for depth in (8, 20, 56):
        with torch.device("meta"):
            plain, residual = (layers(classifier(f"{kind}{depth}", seed=None), (3, 32, 32)) for kind in ("plain", "resnet"))
        for key in ("parameters", "multiply_adds"):
            assert sum(getattr(layer, key) for layer in plain) == sum(getattr(layer, key) for layer in residual)
    plain, residual = (Classic(ArchitectureSpec(name, 32)).eval() for name in ("plain8", "resnet8"))
    assert all(torch.equal(value, residual.state_dict()[key]) for key, value in plain.state_dict().items())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(plain(x), residual(x))


def test_a_block_whose_branch_is_silent_passes_its_input_on():
    """With the last normalisation of its branch at zero a residual block is the identity on what ReLU left
    (He et al. 2016).
    """
    for name in ("resnet8", "resnet50"):
        built = Classic(ArchitectureSpec(name, 32, 3, {"width": 8})).eval()
        block = built.body.conv2_1 if name == "resnet8" else built.body.conv2_2
        torch.nn.init.zeros_((block.bn2 if name == "resnet8" else block.bn3).weight)
        x = torch.rand(1, 8 if name == "resnet8" else 32, 8, 8)
        assert torch.equal(block(x), x)


@pytest.mark.slow
def test_small_images_keep_their_resolution_with_the_same_weights():
    """Up to 64 pixels the stem of an ImageNet network has stride 1, above its own; convolutions and their
    shapes are the same.
    """
    for name in ("alexnet", "resnet18", "googlenet", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0"):
        with torch.device("meta"):
            small, large = (Classic(ArchitectureSpec(name, size), None) for size in (64, 65))
        strides = [next(m for m in built.modules() if isinstance(m, torch.nn.Conv2d)).stride for built in (small, large)]
        assert strides == [(1, 1), (4, 4) if name == "alexnet" else (2, 2)]
        assert [v.shape for v in small.body.state_dict().values()] == [v.shape for v in large.body.state_dict().values()]


def test_a_grid_averages_as_torch_does():
    """A map becomes a smaller or larger one with the values of torch's adaptive average pooling."""
    for size, side in ((7, 7), (8, 7), (3, 7), (15, 6), (1, 6)):
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(Grid(side)(x), torch.nn.functional.adaptive_avg_pool2d(x, side), atol=1e-6)


def test_grey_is_the_mean_of_the_channels():
    """With one channel an RGB image counts as the mean of its channels, as if it had been given grey."""
    built = Classic(ArchitectureSpec("lenet5", 32, 1)).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(built(x), built(x.mean(1, keepdim=True)))
    assert built.body.c1.in_channels == 1


@pytest.mark.slow
def test_compound_scaling_doubles_the_cost(shapes_only):
    """Multiply-adds grow by about 2^φ, but for rounding layers up (Tan and Le 2019, section 3.3)."""
    costs = []
    for phi in (0, 1, 2, 3):
        size = efficientnet.resolution(phi)
        with torch.device("meta"):
            rows = layers(Classic(ArchitectureSpec("efficientnet", size, 3, {"phi": phi}), None), (3, size, size))
        costs.append(sum(layer.multiply_adds for layer in rows))
    assert all(cost / costs[0] == pytest.approx(2**phi, rel=0.3) for phi, cost in enumerate(costs))


def test_a_pair_costs_what_the_formula_says():
    """A depthwise-separable convolution costs 1 / C' + 1 / 9 of the standard one in its place (Howard et al.
    2017, section 3.1).
    """
    costs = []
    for name in ("mobilenet_v1", "mobilenet_v1_standard"):
        with torch.device("meta"):
            rows = layers(Classic(ArchitectureSpec(name, 224), None), (3, 224, 224))
        costs.append(sum(layer.multiply_adds for layer in rows if layer.name.startswith("body.conv14")))
    assert costs[0] / costs[1] == pytest.approx(1 / 1024 + 1 / 9)


@pytest.mark.parametrize("name", registry.names(registry.AUTOENCODER))
def test_autoencoders_give_images_back(name):
    """Any size and number of channels comes back in its own shape, by way of `code` numbers; the seed
    decides; the error falls.
    """
    for size, channels in ((28, 1), (32, 3), (33, 3)):
        x = torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(0))
        built = build(name, size, channels, 0, {"code": 5})
        again = build(name, size, channels, 0, {"code": 5})
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in built.state_dict().items())
        assert built.encode(x).shape == (4, 5)
        assert built(x).shape == built.decode(built.encode(x)).shape == x.shape
    optimizer = torch.optim.Adam(built.parameters(), lr=0.003)
    errors = []
    for _ in range(30):
        error = (built(x) - x).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
        if errors[-1] < 0.8 * errors[0]:
            break
    assert errors[-1] < 0.8 * errors[0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet21", {}, "did you mean"),
        ("autoencoder_conv", {}, "no classifier"),
        ("mobilenet_v1", {"widht": 1.0}, 'did you mean "width"'),
        ("mobilenet_v1", {"width": "half"}, "cannot take"),
        ("mlp", {"activation": "swish"}, "relu, tanh, sigmoid"),
        ("mlp", {"hidden": 3}, "cannot take"),
    ],
)
def test_mistakes_name_the_alternatives(name, options, message):
    """An unknown name or option, or an option's wrong value, is a mistake with a remedy."""
    with pytest.raises(ParamsError, match=message) as caught:
        Classic(ArchitectureSpec(name, 32, 3, options))
    assert caught.value.remedy


def test_the_registry_reads_what_the_functions_have():
    """Options and summaries that are read from the source are those of the functions."""
    for entry in registry.entries().values():
        function = getattr(importlib.import_module(f"darkroom.models.architectures.{entry.family}"), entry.function)
        assert entry.options.keys() == (function.__kwdefaults__ or {}).keys()
        if entry.name == entry.function:
            assert entry.options == (function.__kwdefaults__ or {})
        inspect.signature(function).bind(entry.size, entry.channels, *entry.arguments, **entry.options)
        assert entry.summary


@pytest.mark.parametrize("name", ["compact", "resnet8", "torchvision/squeezenet1_1", "squeezenet1_1"])
def test_one_name_for_every_family(name):
    """Whatever its family, a name becomes a description that builds features with a width."""
    assert build_features(factory.make_spec(name, 32)).dim > 0
