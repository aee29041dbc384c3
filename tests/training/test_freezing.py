"""The cache of feature maps: maps are loaded only where everything that decides them is the same."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from darkroom.config.params import Compute, Embed
from darkroom.core.errors import WorkspaceError
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import Normalize
from darkroom.models.specs import BackboneSpec
from darkroom.training import embedding, freezing
from darkroom.training.freezing import FeatureMapCache

COMPUTE = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
HALF = Embed(feature_maps="float16")
VIEWS = np.random.default_rng(0).integers(0, 256, (2, 6, 32, 32, 3), np.uint8)


def new_cache() -> FeatureMapCache:
    return FeatureMapCache(
        TorchvisionBackbone(BackboneSpec("mobilenet_v3_small", 32)), Normalize((0.5,) * 3, (0.25,) * 3), 10, "images", "engine"
    )


@pytest.fixture
def maps(tmp_path, monkeypatch) -> FeatureMapCache:
    monkeypatch.chdir(tmp_path)
    return new_cache()


@pytest.fixture(scope="module")
def maps_folder(tmp_path_factory) -> Path:
    """Return a folder of maps, computed once."""
    with contextlib.chdir(tmp_path_factory.mktemp("maps")):
        maps = new_cache()
        write(maps)
        return maps.folder.absolute()


@pytest.fixture
def saved(maps, maps_folder) -> FeatureMapCache:
    shutil.copytree(maps_folder, maps.folder)
    return maps


def write(maps: FeatureMapCache) -> None:
    below = embedding.LowerPart(maps.normalize, maps.backbone, maps.cut)
    with maps.save() as files:
        engine = embedding.engine_for(below, VIEWS, COMPUTE)
        embedding.run_network(engine, VIEWS, "views", [files[0]])
        embedding.run_network(engine, VIEWS[:1], "val", [files[1]])


def test_saved_maps_are_loaded(maps):
    """Saved maps are loaded as they were written; before, there are none."""
    assert maps.load() is None
    write(maps)
    loaded = maps.load()
    assert loaded is not None
    assert loaded[0].shape[:2] == (2, 6)
    assert (loaded[0][0] == loaded[1][0]).all()


def test_maps_of_half_the_size_are_other_maps(saved):
    """float16 is rounded, cut at its largest number, and never taken for float32 or the other way round."""
    half = FeatureMapCache(saved.backbone, saved.normalize, 10, "images", "engine", HALF)
    assert half.load() is None
    engine = SimpleNamespace(
        batch=4, name="", stream=lambda batches: ([np.full((len(b), 2), 1e9 + b.sum(), "f4")] for b in batches)
    )
    (rounded,) = embedding.run_network(engine, VIEWS, "views", dtypes=[np.float16])
    assert rounded.dtype == np.float16
    assert (rounded == np.finfo(np.float16).max).all()


@pytest.mark.slow
def test_maps_computed_with_embeddings_are_those_computed_alone(saved):
    """`embed` and `finetune` save the same bytes."""
    expected = [part.tobytes() for part in saved.load()]
    with saved.save() as files:
        engine = embedding.engine_for(embedding.FeaturesAndMaps(saved.normalize, saved.backbone, saved.cut), VIEWS, COMPUTE)
        embedding.run_network(engine, VIEWS, "views", [None, files[0]])
        embedding.run_network(engine, VIEWS[:1], "val", [None, files[1]])
    assert [part.tobytes() for part in saved.load()] == expected


def test_other_maps_are_not_taken_for_these(saved):
    """Another cut, other images, another normalisation or a changed weight below the cut is not answered with
    what is kept.
    """
    for changed in (
        FeatureMapCache(saved.backbone, saved.normalize, 9, "images", "engine"),
        FeatureMapCache(saved.backbone, saved.normalize, 10, "other images", "engine"),
        FeatureMapCache(saved.backbone, Normalize((0.5,) * 3, (0.5,) * 3), 10, "images", "engine"),
    ):
        assert changed.load() is None
    above = next(saved.backbone.block(10).parameters())
    above.data += 1
    assert saved.load() is not None
    below = next(saved.backbone.block(3).parameters())
    below.data += 1
    assert saved.load() is None


@pytest.mark.parametrize("file", ["train.npy", "val.npy", "story.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damaged_maps_are_not_used(saved, file, harm):
    """A changed, shortened or missing file makes them be computed again."""
    path = saved.folder / file
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(content if harm == "flip" else content[: len(content) // 2])
    assert saved.load() is None


def test_an_interrupted_pass_keeps_nothing_half_written(saved):
    """Where the pass ends in an error, what was kept before stays."""
    with contextlib.suppress(ValueError), saved.save() as files:
        files[0].write_bytes(b"half")
        raise ValueError
    assert saved.load() is not None


@pytest.mark.slow
def test_maps_that_are_too_large_are_refused_with_the_figures(maps):
    """Above the limit the reason names what they would take and what is allowed; a network that is no chain
    is refused too.
    """
    assert maps.refusal(1000) == ""
    small = FeatureMapCache(maps.backbone, maps.normalize, 10, "images", "engine", Embed(feature_maps_gib=0.001))
    assert "allows 0.001 GiB; `embed.feature_maps: float16` halves them" in small.refusal(1000)
    half = FeatureMapCache(maps.backbone, maps.normalize, 10, "images", "engine", HALF)
    assert 2 * half.size(1000) == maps.size(1000)
    assert FeatureMapCache(maps.backbone, maps.normalize, 0, "images", "engine").refusal(1) != ""
    transformer = TorchvisionBackbone(BackboneSpec("vit_b_32", 64))
    assert FeatureMapCache(transformer, maps.normalize, 3, "images", "engine").refusal(1) != ""


def test_a_full_disk_is_named_before_anything_is_written(maps, monkeypatch):
    """Where the maps do not fit, fine-tuning is refused with both figures and a remedy, and embedding goes
    without keeping them.
    """
    monkeypatch.setattr(freezing.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    assert not maps.is_worth_saving(1000)
    assert maps.refusal(1000) == ""
    with pytest.raises(WorkspaceError, match=r"0\.000977 GiB are free"):
        maps.check_room(1000)
