"""A model of flowers: held-out flowers are no drift, ants and bees are."""

from __future__ import annotations

import json
import os
import shutil
import tarfile

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from darkroom.cli import main
from darkroom.data import manifest
from darkroom.data.decoding import decode
from darkroom.data.manifest import Row
from darkroom.models import weight_files, weights
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import IMAGENET, Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.specs import BackboneSpec
from tests.conftest import ROOT

SIZE = 96


def members(archive, count: int, skip: int = 0) -> list[tuple[str, bytes]]:
    """Return name and content of the image files of a tar, some of each folder in turn."""
    with tarfile.open(archive) as tar:
        folders: dict[str, list] = {}
        for member in tar.getmembers():
            if member.isfile() and member.name.lower().endswith(".jpg"):
                folders.setdefault(member.name.rpartition("/")[0], []).append(member)
        each = count // len(folders)
        chosen = [member for files in folders.values() for member in files[skip // len(folders) :][:each]]
        return [(member.name, tar.extractfile(member).read()) for member in chosen]


def decode_all(contents: list[tuple[str, bytes]]) -> np.ndarray:
    return np.stack([decode(content, SIZE, "crop", (0, 0, 0)).pixels for _, content in contents])


@pytest.mark.slow
@torch.no_grad()
def test_other_pictures_are_drift_and_more_of_the_same_are_not(shared, tmp_path, monkeypatch, capsys):
    """With a head for flowers on MobileNetV2, `darkroom monitor` finds no drift in held-out flowers, and
    drift in insects."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    flowers = members(shared / "flowers.tar", 300)
    classes = tuple(sorted({name.split("/")[1] for name, _ in flowers}))
    labels = np.array([classes.index(name.split("/")[1]) for name, _ in flowers])
    images, part = decode_all(flowers), np.arange(len(flowers)) % 5
    backbone = TorchvisionBackbone(BackboneSpec("mobilenet_v2", SIZE, "pooled"))
    weights.fill(backbone, weights.read(weight_files.find(shared / "weights", "mobilenet_v2")), "weights")
    network = Network(backbone, Preprocessing(SIZE, "crop", (0, 0, 0), *IMAGENET), len(classes))
    network.eval()
    embeddings = np.concatenate(
        [network.features(network.normalize(batch)).numpy() for batch in torch.from_numpy(images).split(64)]
    )
    regression = LogisticRegression(max_iter=300).fit(embeddings[part > 1], labels[part > 1])
    network.head.weight.data = torch.from_numpy(regression.coef_).float()
    network.head.bias.data = torch.from_numpy(regression.intercept_).float()
    checkpoint = Checkpoint(
        "transfer/mobilenet_v2", backbone.spec, Preprocessing(SIZE, "crop", (0, 0, 0), *IMAGENET), classes, {}, {}
    )
    (tmp_path / "model").mkdir()
    save(tmp_path / "model", checkpoint, network.state_dict(), 1, [{"epoch": 1.0}])
    (tmp_path / "data/ingested").mkdir(parents=True)
    (tmp_path / "data/ingested/classes.json").write_text(json.dumps(classes))
    for number, split in enumerate(("val", "test")):
        (tmp_path / "data/ingested" / split).mkdir(parents=True)
        np.save(tmp_path / "data/ingested" / split / "images.npy", images[part == number])
        np.save(tmp_path / "data/ingested" / split / "labels.npy", labels[part == number])
    rows = [Row(path=f"{i}", split=("val", "test")[part[i]], pixel_hash=f"{i}") for i in range(len(flowers)) if part[i] < 2]
    manifest.write(tmp_path / "data/ingested/manifest.parquet", rows)
    arriving = {"more": members(shared / "flowers.tar", 100, skip=300), "other": members(shared / "hymenoptera.tar", 100)}
    checks = {}
    for folder, contents in arriving.items():
        (tmp_path / folder).mkdir()
        for number, (_, content) in enumerate(contents):
            (tmp_path / folder / f"{number}.jpg").write_bytes(content)
            os.utime(tmp_path / folder / f"{number}.jpg", (1e9, 1e9))
        capsys.readouterr()
        code = 3 if folder == "other" else 0
        assert main(["monitor", folder, "--model", "model", "--json", "--out", f"out-{folder}"]) == code
        checks[folder] = json.loads(capsys.readouterr().out)
    assert checks["more"]["new"] == checks["other"]["new"] == 100
    assert not checks["more"]["drifted"], checks["more"]["tests"]
    assert checks["other"]["drifted"], checks["other"]["tests"]
