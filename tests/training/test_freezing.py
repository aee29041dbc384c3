"""Kept feature maps: found again only where everything that decides them is the same."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from darkroom.config.params import Compute
from darkroom.core.errors import WorkspaceError
from darkroom.models.backbones import Backbone, Spec
from darkroom.models.base import Normalize
from darkroom.training import embedding, freezing
from darkroom.training.freezing import Maps

COMPUTE = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
VIEWS = np.random.default_rng(0).integers(0, 256, (2, 6, 32, 32, 3), np.uint8)


@pytest.fixture
def maps(tmp_path, monkeypatch) -> Maps:
    monkeypatch.chdir(tmp_path)
    return Maps(Backbone(Spec("mobilenet_v3_small", 32)), Normalize((0.5,) * 3, (0.25,) * 3), 10, "images")


def write(maps: Maps) -> None:
    below = embedding.Below(maps.normalize, maps.backbone, maps.cut)
    with maps.remember() as files:
        engine = embedding.engine_for(below, VIEWS, COMPUTE)
        embedding.outputs(engine, VIEWS, "views", [files[0]])
        embedding.outputs(engine, VIEWS[:1], "val", [files[1]])


def test_maps_are_found_again(maps):
    """What was kept comes back as it was written; before, nothing does."""
    assert maps.recall() is None
    write(maps)
    kept = maps.recall()
    assert kept is not None
    assert kept[0].shape[:2] == (2, 6)
    assert (kept[0][0] == kept[1][0]).all()


def test_maps_made_on_the_way_to_embeddings_are_those_made_for_themselves(maps):
    """`embed` and `finetune` keep the same bytes."""
    write(maps)
    expected = [part.tobytes() for part in maps.recall()]
    with maps.remember() as files:
        engine = embedding.engine_for(embedding.Whole(maps.normalize, maps.backbone, maps.cut), VIEWS, COMPUTE)
        embedding.outputs(engine, VIEWS, "views", [None, files[0]])
        embedding.outputs(engine, VIEWS[:1], "val", [None, files[1]])
    assert [part.tobytes() for part in maps.recall()] == expected


def test_other_maps_are_not_taken_for_these(maps):
    """Another cut, other images, another normalisation or a changed weight below the cut is not answered with what is kept."""
    write(maps)
    for changed in (
        Maps(maps.backbone, maps.normalize, 9, "images"),
        Maps(maps.backbone, maps.normalize, 10, "other images"),
        Maps(maps.backbone, Normalize((0.5,) * 3, (0.5,) * 3), 10, "images"),
    ):
        assert changed.recall() is None
    above = next(maps.backbone.block(10).parameters())
    above.data += 1
    assert maps.recall() is not None
    below = next(maps.backbone.block(3).parameters())
    below.data += 1
    assert maps.recall() is None


@pytest.mark.parametrize("file", ["train.npy", "val.npy", "story.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damaged_maps_are_not_used(maps, file, harm):
    """A changed, shortened or missing file makes them be computed again."""
    write(maps)
    path = maps.folder / file
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(content if harm == "flip" else content[: len(content) // 2])
    assert maps.recall() is None


def test_an_interrupted_pass_keeps_nothing_half_written(maps):
    """Where the pass ends in an error, what was kept before stays."""
    write(maps)
    with contextlib.suppress(ValueError), maps.remember() as files:
        files[0].write_bytes(b"half")
        raise ValueError
    assert maps.recall() is not None


def test_maps_that_are_too_large_are_refused_with_the_figures(maps, monkeypatch):
    """Above the limit the reason names what they would take and what is allowed; a network that is no chain is refused too."""
    assert maps.refused(1000) == ""
    monkeypatch.setattr(freezing, "MOST", 2**20)
    assert "are allowed" in maps.refused(1000)
    assert Maps(maps.backbone, maps.normalize, 0, "images").refused(1) != ""
    transformer = Backbone(Spec("vit_b_32", 64))
    assert Maps(transformer, maps.normalize, 3, "images").refused(1) != ""


def test_a_full_disk_is_named_before_anything_is_written(maps, monkeypatch):
    """Where the maps do not fit, fine-tuning is refused with both figures and a remedy, and embedding goes without keeping them."""
    monkeypatch.setattr(freezing.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    assert not maps.wanted(1000)
    assert maps.refused(1000) == ""
    with pytest.raises(WorkspaceError, match=r"GiB, and 0\.000977 are free"):
        maps.check_room(1000)
