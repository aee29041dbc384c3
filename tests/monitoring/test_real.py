"""A model of flowers: held-back flowers are no drift, ants and bees are."""

from __future__ import annotations

import json
import os
import shutil
import tarfile

import numpy as np

from darkroom.cli import main
from darkroom.config.params import Compute, Training
from darkroom.data.decoding import decode
from darkroom.models import weight_files, weights
from darkroom.models.backbones import Backbone, Spec
from darkroom.models.base import IMAGENET, Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.training.batches import Examples
from darkroom.training.loop import fit
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
        chosen = [member for found in folders.values() for member in found[skip // len(folders) :][:each]]
        return [(member.name, tar.extractfile(member).read()) for member in chosen]


def pixels(found: list[tuple[str, bytes]]) -> np.ndarray:
    return np.stack([decode(content, SIZE, "crop", (0, 0, 0)).pixels for _, content in found])


def test_other_pictures_are_a_drift_and_more_of_the_same_are_not(shared, tmp_path, monkeypatch, capsys):
    """A head for flowers on MobileNetV2: `darkroom monitor` finds no drift in flowers that were held back, and one in insects."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    flowers = members(shared / "flowers.tar", 500)
    classes = tuple(sorted({name.split("/")[1] for name, _ in flowers}))
    labels = np.array([classes.index(name.split("/")[1]) for name, _ in flowers])
    shown, part = pixels(flowers), np.arange(len(flowers)) % 5
    backbone = Backbone(Spec("mobilenet_v2", SIZE, "pooled"))
    weights.fill(backbone, weights.read(weight_files.find(shared / "weights", "mobilenet_v2")), "weights")
    network = Network(backbone, Preprocessing(SIZE, "crop", (0, 0, 0), *IMAGENET), len(classes))
    for parameter in backbone.parameters():
        parameter.requires_grad = False
    hyper = Training(
        epochs=4, batch_size=32, optimizer="adamw", lr=0.01, weight_decay=0.01, warmup_epochs=0, label_smoothing=0.05,
        class_weights="none", patience=4,
    )  # fmt: skip
    train, val = (Examples(shown[None, keep], labels[keep]) for keep in (part > 1, part == 0))
    fit(network, train, val, hyper, Compute(seed=0, threads=2, accelerator="cpu", precision="32-true"), 5, freeze_statistics=True)
    about = Checkpoint(
        "transfer/mobilenet_v2", backbone.spec.as_dict(), Preprocessing(SIZE, "crop", (0, 0, 0), *IMAGENET), classes, {}, {}
    )
    (tmp_path / "model").mkdir()
    save(tmp_path / "model", about, network.state_dict(), 1, [{"epoch": 1.0}])
    (tmp_path / "data/ingested").mkdir(parents=True)
    (tmp_path / "data/ingested/classes.json").write_text(json.dumps(classes))
    for number, split in enumerate(("val", "test")):
        (tmp_path / "data/ingested" / split).mkdir(parents=True)
        np.save(tmp_path / "data/ingested" / split / "images.npy", shown[part == number])
        np.save(tmp_path / "data/ingested" / split / "labels.npy", labels[part == number])
    arrived = {"more": members(shared / "flowers.tar", 100, skip=500), "other": members(shared / "hymenoptera.tar", 100)}
    found = {}
    for folder, contents in arrived.items():
        (tmp_path / folder).mkdir()
        for number, (_, content) in enumerate(contents):
            (tmp_path / folder / f"{number}.jpg").write_bytes(content)
            os.utime(tmp_path / folder / f"{number}.jpg", (1e9, 1e9))
        capsys.readouterr()
        assert main(["monitor", folder, "--model", "model", "--json", "--out", f"out-{folder}"]) == 0
        found[folder] = json.loads(capsys.readouterr().out)
    assert found["more"]["new"] == found["other"]["new"] == 100
    assert not found["more"]["drifted"], found["more"]["tests"]
    assert found["other"]["drifted"], found["other"]["tests"]
