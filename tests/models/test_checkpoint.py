"""Checkpoints: a folder without pickles that gives back the same network."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from darkroom.core import checksums, json_files
from darkroom.core.errors import DarkroomError, WorkspaceError
from darkroom.inference.classifier import Classifier
from darkroom.models import checkpoint, mahalanobis, tensor_files, weight_files
from darkroom.models.abstention import CalibrationDistances
from darkroom.models.base import Network, Preprocessing
from darkroom.models.factory import build_features
from darkroom.models.specs import BackboneSpec, CompactSpec
from tests.models.known_images import fit_dark

PREPROCESSING = Preprocessing(32, "crop", (0, 0, 0), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


@pytest.mark.parametrize("spec", [CompactSpec(32, 8), BackboneSpec("squeezenet1_1", 32), BackboneSpec("mnasnet0_5", 32)])
def test_what_is_saved_is_what_is_loaded(tmp_path, spec):
    """A saved network gives the same logits bit for bit, and saving it twice the same bytes."""
    network = Network(build_features(spec, 1), PREPROCESSING, 3, 1).eval()
    distances = fit_dark(network, 32)
    original = checkpoint.Checkpoint(
        "baseline", spec, PREPROCESSING, ("a", "b", "ü"), {"lr": 0.1}, {"epoch": 1}, 1.25, abstention=distances
    )
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        checkpoint.save(tmp_path / name, original, network.state_dict(), network.parameter_count(), [{"epoch": 1, "val_loss": 0.5}])
    loaded, described = checkpoint.load(tmp_path / "one")
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        for one, other in zip(loaded.outputs(images), network.outputs(images), strict=True):
            assert torch.equal(one, other)
    assert described == original
    assert weight_files.checkpoint_digest(tmp_path / "one") == weight_files.checkpoint_digest(tmp_path / "two")


def small(folder: Path, width: int = 4, seed: int = 0) -> Path:
    """Write a small checkpoint."""
    network = Network(build_features(CompactSpec(32, width), seed), PREPROCESSING, 2, seed)
    original = checkpoint.Checkpoint("baseline", CompactSpec(32, width), PREPROCESSING, ("a", "b"), {}, {}, 3.0)
    folder.mkdir(exist_ok=True)
    checkpoint.save(folder, original, network.state_dict(), network.parameter_count(), [{"epoch": 1}])
    return folder


def of_an_earlier_version(folder: Path, **changed: object) -> Path:
    """Make a checkpoint one without checksums, with these values of its description."""
    content = json.loads((folder / "model.json").read_text())
    del content["checksum"]
    (folder / "model.json").write_text(json.dumps(content | {"schema": 1} | changed))
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    return folder


def test_a_checkpoint_of_an_early_version_is_read(tmp_path):
    """Checkpoints without checksums are read, and without a temperature it is one: their predictions do not change."""
    folder = of_an_earlier_version(small(tmp_path))
    assert checkpoint.load(folder)[1].temperature == 3
    content = json.loads((folder / "model.json").read_text())
    del content["temperature"]
    (folder / "model.json").write_text(json.dumps(content))
    assert checkpoint.load(folder)[1].temperature == 1


def test_a_distance_of_an_earlier_version_is_read(tmp_path):
    """A checkpoint that does not say what its distance takes has one of embeddings alone, which gives the same distances; a step
    that the network has not is refused."""
    network = Network(build_features(CompactSpec(32, 4)), PREPROCESSING, 2).eval()
    images = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
    embeddings = network.embed(images).detach().numpy()
    network.distance = mahalanobis.fit([embeddings], np.arange(8) % 2, 2)
    distances = CalibrationDistances.of(network.distance.measure(embeddings))
    description = checkpoint.Checkpoint("some", CompactSpec(32, 4), PREPROCESSING, ("a", "b"), {}, {}, abstention=distances)
    checkpoint.save(tmp_path, description, network.state_dict(), 1, [{"epoch": 1.0}])
    content = json.loads((tmp_path / "model.json").read_text())
    for steps, fact in ((None, ""), (99, "step 99"), (5, "does not fit|do not fit")):
        content["abstention"].pop("steps", None)
        if steps:
            content["abstention"]["steps"] = steps
        content.pop(checksums.KEY)
        json_files.write_sealed(tmp_path / "model.json", content)
        content = json.loads((tmp_path / "model.json").read_text())
        if fact:
            with pytest.raises(WorkspaceError, match=fact):
                checkpoint.load(tmp_path)
        else:
            loaded = Classifier(*checkpoint.load(tmp_path))
            assert np.array_equal(loaded.outputs(images.numpy()).distances, network.distance.measure(embeddings))
            assert np.array_equal(loaded.distances(embeddings), network.distance.measure(embeddings))


@pytest.mark.slow
def test_no_damaged_checkpoint_is_used(tmp_path):
    """Wherever a bit of the description or the weights is flipped, the checkpoint is refused with a remedy, or means the same."""
    folder, draw = small(tmp_path), random.Random(0)
    _, expected = checkpoint.load(folder)
    digest = tensor_files.checksum(load_file(folder / "model.safetensors"))
    refused = unchanged = 0
    for name in ("model.json", "model.safetensors"):
        content = (folder / name).read_bytes()
        for _ in range(150):
            damaged = bytearray(content)
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
            (folder / name).write_bytes(damaged)
            try:
                network, described = checkpoint.load(folder)
            except DarkroomError as error:
                refused += name in error.problem and bool(error.remedy)
            else:
                assert described == expected
                assert tensor_files.checksum(network.state_dict()) == digest
                unchanged += 1
        (folder / name).write_bytes(content)
    assert refused + unchanged == 300
    assert refused > 250


def test_weights_of_another_model_are_refused(tmp_path):
    """Whole weights of the same shapes beside the description of another model, as an interrupted copy leaves, are no model."""
    one, other = small(tmp_path / "one"), small(tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", one / "model.safetensors")
    with pytest.raises(WorkspaceError, match="another model"):
        checkpoint.load(one)
    assert checkpoint.load(other)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_of_a_model_have_the_permissions_of_the_umask(tmp_path, umask, mode):
    """Another user can read a model as far as the umask lets them; safetensors itself makes a file for its owner alone."""
    before = os.umask(umask)
    try:
        folder = small(tmp_path / "model")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {mode}


def test_what_may_not_be_read_is_not_called_missing(tmp_path, monkeypatch):
    """A file without the permission to read it is named with its remedy: safetensors says of it that it does not exist."""
    folder = small(tmp_path)

    def refuse(*_):
        raise FileNotFoundError("No such file or directory")

    def deny(path: Path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "safe_open", refuse)
        patch.setattr(tensor_files.Path, "open", lambda path, mode: deny(path) if path.suffix == ".safetensors" else None)
        with pytest.raises(WorkspaceError, match=r"model\.safetensors cannot be read: Permission denied"):
            tensor_files.load(folder / "model.safetensors", "none")


@pytest.mark.parametrize(
    "changed",
    [
        {"schema": 3}, {"schema": [[]]}, {"name": 1}, {"classes": "ab"}, {"classes": ["a", "a"]}, {"classes": []},
        {"classes": ["a", ""]}, {"temperature": 0},
        {"temperature": "NaN"}, {"preprocessing": []}, {"preprocessing": None}, {"architecture": "compact"},
        {"architecture": {"family": []}}, {"architecture": {"family": "compact", "image_size": 10**9}},
        {"architecture": {"family": "classic", "name": "nosuch", "image_size": 32}},
        {"architecture": {"family": "classic", "name": "mlp", "image_size": 32, "options": {"hidden": [-1]}}},
        {"architecture": {"family": "torchvision", "name": "../x", "image_size": 32}},
        {"architecture": {"family": "compact", "image_size": 64, "width": 4}},  # which the preprocessing does not make
        {"architecture": {"family": "compact", "image_size": 32, "width": 16}}, {"params": 3}, {"best": {"epoch": "x"}},
    ],
    ids=lambda changed: str(changed)[:40],
)  # fmt: skip
def test_a_description_that_makes_no_sense_is_refused(tmp_path, changed):
    """A value of another type or beyond its bounds is an error about the file with a remedy, also without a checksum."""
    with pytest.raises(DarkroomError, match=r"damaged|describes an architecture|has schema") as error:
        checkpoint.load(of_an_earlier_version(small(tmp_path), **changed))
    assert error.value.remedy


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"schema": 1' + b"0" * 5000 + b"}", b'{"a": NaN}']
)
def test_a_description_that_is_no_object_is_refused(tmp_path, content):
    """Bytes that are no JSON object are an error about the file with a remedy."""
    (small(tmp_path) / "model.json").write_bytes(content)
    with pytest.raises(WorkspaceError, match=r"model\.json is damaged"):
        checkpoint.load(tmp_path)


def test_the_remedy_names_the_stage_and_the_output(tmp_path, monkeypatch):
    """A damaged output of a stage is restored by DVC or made again by its stage; another folder is copied again."""
    monkeypatch.chdir(tmp_path)
    (small(tmp_path / "models") / "model.json").write_bytes(b"{")
    with pytest.raises(WorkspaceError) as error:
        checkpoint.load(Path("models"))
    assert "copy it again" in error.value.remedy
    Path("dvc.lock").write_text("stages: {transfer@a b: {outs: [{path: models, md5: x}]}}")
    for folder in (Path("models"), tmp_path / "models"):
        with pytest.raises(WorkspaceError) as error:
            checkpoint.load(folder)
        assert "`dvc checkout --relink -f models`" in error.value.remedy
        assert "`dvc repro -f -s 'transfer@a b'`" in error.value.remedy


def test_a_folder_that_is_no_checkpoint_is_an_error(tmp_path):
    """A missing description or weights of another network are refused with a remedy."""
    with pytest.raises(WorkspaceError):
        checkpoint.load(tmp_path)
    with pytest.raises(WorkspaceError):
        weight_files.checkpoint_digest(tmp_path)
    network = Network(build_features(CompactSpec(32, 8)), PREPROCESSING, 2)
    original = checkpoint.Checkpoint("baseline", CompactSpec(32, 16), PREPROCESSING, ("a", "b"), {}, {})
    checkpoint.save(tmp_path, original, network.state_dict(), network.parameter_count(), [{"epoch": 1}])
    with pytest.raises(WorkspaceError, match="do not fit"):
        checkpoint.load(tmp_path)
