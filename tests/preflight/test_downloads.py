"""Sizes of downloads agree with torchvision and torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest
import torch
import torchvision

from darkroom.config import params
from darkroom.core.errors import WeightsError
from darkroom.models.backbones import registry, torchvision_tables
from darkroom.models.backbones.weight_file import cache_folder
from darkroom.preflight import downloads, used_weights
from tests.conftest import ROOT


def test_files_and_sizes_are_torchvisions():
    """The address and size of every classifier's default weights are those that torchvision has, read without it."""
    for name in torchvision_tables.names():
        default = torchvision.models.get_model_weights(name).DEFAULT
        file = registry.weight_file(name)
        assert file is not None, name
        assert (file.url, file.megabytes) == (default.url, default.meta["_file_size"])


@pytest.mark.parametrize(
    "variables", [{}, {"TORCH_HOME": "~/t"}, {"XDG_CACHE_HOME": "/x"}, {"TORCH_HOME": "", "XDG_CACHE_HOME": ""}]
)
def test_the_cache_is_torchs(variables, monkeypatch):
    """Weights are looked for where torch keeps them, whatever the environment."""
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == f"{torch.hub.get_dir()}/checkpoints"


def settings(values: dict, source: str, names: list[str]) -> params.Params:
    values |= {"backbones": names}
    values["weights"] |= {"source": source} if source in params.SOURCES else {"source": "folder", "folder": source}
    return params.parse(values)


def test_only_what_is_missing_counts(values, tmp_path, monkeypatch):
    """A file in torch's cache is named as such and not counted; so is everything without ImageNet weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    chosen = settings(values, "imagenet", ["vgg16", "mobilenet_v2"])
    assert downloads.megabytes(chosen) == pytest.approx(527.796 + 13.598)
    assert downloads.backbones(chosen)["vgg16"] == "downloads 528 MiB"
    file = registry.weight_file("vgg16")
    assert file is not None
    file.cached.parent.mkdir(parents=True)
    file.cached.touch()
    assert downloads.megabytes(chosen) == pytest.approx(13.598)
    assert "cache" in downloads.backbones(chosen)["vgg16"]
    assert downloads.megabytes(settings(values, "pretrain", ["vgg16"])) == 0


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n" + b" " * 64])
def test_a_weight_file_without_weights_is_named(content, values, tmp_path):
    """An empty file, or a pointer of Git LFS, is refused before anything runs."""
    (tmp_path / "vgg16.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"vgg16\.pth"):
        downloads.check_weights(settings(values, str(tmp_path), ["vgg16"]))


def test_weights_in_a_folder_are_found(values, tmp_path):
    """The file of each backbone in `weights.folder` is named."""
    for name in values["backbones"]:
        (tmp_path / f"{name}.pth").write_bytes(bytes(100))
    chosen = settings(values, str(tmp_path), values["backbones"])
    downloads.check_weights(chosen)
    assert downloads.backbones(chosen) == {name: f"{name}.pth" for name in chosen.backbones}


def test_a_weight_file_that_was_replaced_is_named(values, tmp_path, monkeypatch):
    """A file with another content under the same name makes its stages run again, which is said; one that is as it was, one that
    was not used yet, and weights from elsewhere are not mentioned."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for name in ("vgg16", "hf/mine", "mobilenet_v2"):
        file = tmp_path / "folder" / (f"{name}.pth" if name != "hf/mine" else "mine/model.safetensors")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(100))
        provenance = tmp_path / f"models/weights/{name}.json"
        provenance.parent.mkdir(parents=True, exist_ok=True)
        if name != "mobilenet_v2":
            provenance.write_text(json.dumps({"file": file.name, "sha256": hashlib.sha256(bytes(100)).hexdigest()}))
    (tmp_path / "folder/mine/config.json").write_text("{}")
    names = ["vgg16", "hf/mine", "mobilenet_v2"]
    chosen = settings(values, str(tmp_path / "folder"), names)
    assert used_weights.changed(chosen) == []
    for file in sorted((tmp_path / "folder").rglob("*.*t*")):
        file.write_bytes(bytes(99) + b"1")
        os.utime(file, (1, 1))
    (tmp_path / "folder/mine/config.json").write_text("{}")
    assert used_weights.changed(chosen) == [
        "vgg16.pth has changed since it was used: `weights@vgg16` and later stages run again",
        "model.safetensors has changed since it was used: `weights@hf/mine` and later stages run again",
    ]
    for source in ("random", "pretrain", "imagenet"):
        assert used_weights.changed(settings(values, source, ["vgg16"])) == []
    provenance.with_name("vgg16.json").write_text("{")
    assert len(used_weights.changed(chosen)) == 1
