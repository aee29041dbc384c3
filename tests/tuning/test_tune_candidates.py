"""Backbones whose weights are at hand: where they are looked for."""

from __future__ import annotations

import pytest

from darkroom.models.backbones import packages
from darkroom.models.backbones.weight_file import cache_folder
from darkroom.tuning import candidates
from darkroom.tuning.candidates import Candidate


@pytest.fixture(autouse=True)
def _own_caches(tmp_path, monkeypatch):
    """Let libraries look for their caches in an empty folder, and no package be installed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(packages, "is_installed", lambda source, name: False)


def write(path, size: int = 1):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def test_weight_files_of_a_folder_are_candidates(tmp_path):
    """Files named as a backbone are candidates, small ones first, with torchvision's hash or without; other files are not."""
    large = write(tmp_path / "w/vgg16-397923af.pth", 9)
    small = write(tmp_path / "w/mobilenet_v2.safetensors", 2)
    of_timm = write(tmp_path / "w/timm/efficientnet_lite0.pt", 5)
    for name in ("notes.txt", "my_network.pth", "SHA256SUMS", "timm/resnet18.txt"):
        write(tmp_path / "w" / name)
    assert candidates.at_hand(tmp_path / "w") == [
        Candidate("mobilenet_v2", "folder", small),
        Candidate("timm/efficientnet_lite0", "folder", of_timm),
        Candidate("vgg16", "folder", large),
    ]


def test_a_cache_and_a_package_are_looked_at(tmp_path, monkeypatch):
    """Weights in a library's cache and installed packages are candidates; a network that a folder has too is that of the folder."""
    assert candidates.at_hand(tmp_path / "none") == []
    cached = write(cache_folder() / "alexnet-owt-7be5be79.pth", 3)
    write(cache_folder() / "squeezenet1_1-b8a52dc0.pth", 3)
    folder = write(tmp_path / "w/squeezenet1_1.pth", 2)
    monkeypatch.setattr(packages, "is_installed", lambda source, name: name == "efficientnet_lite1")
    monkeypatch.setattr(packages, "find", lambda source, name: cached)
    assert candidates.at_hand(tmp_path / "w") == [
        Candidate("squeezenet1_1", "folder", folder),
        Candidate("alexnet", "imagenet", cached),
        Candidate("timm/efficientnet_lite1", "package", cached),
    ]
