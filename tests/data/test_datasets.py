"""Data sets known by name, and what weights may be pretrained on."""

from __future__ import annotations

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import MNIST

from darkroom.config.params import parse
from darkroom.core.errors import DarkroomError, SourceError
from darkroom.data import datasets, glyphs
from darkroom.stages.weights import _pretraining_images


@pytest.mark.slow
def test_digits_are_the_real_ones(tmp_path):
    """All 1,797 digits are written as 8×8 images in ten folders, with their full range of grey."""
    assert datasets.DATASETS["digits"](tmp_path, datasets.DatasetOptions()) == 1797
    assert sorted(path.name for path in tmp_path.iterdir()) == list("0123456789")
    image = np.asarray(Image.open(tmp_path / "0" / "00000.png"))
    assert image.shape == (8, 8)
    assert image.max() == 239  # 15 of 16


def test_glyph_i_depends_on_the_seed_and_i_alone():
    """More glyphs only add to those that there were; another seed draws others.

    Every class is there and none is blank.
    """
    images, labels, classes = glyphs.render(141, 32, seed=1)
    fewer = glyphs.render(50, 32, seed=1)[0]
    assert (images[:50] == fewer).all()
    assert (glyphs.render(50, 32, seed=2)[0] != fewer).any()
    assert (np.bincount(labels) == 3).all()
    assert len(classes) == 47
    assert (images.std((1, 2, 3)) > 10).all()


def test_glyphs_are_drawn_once(tmp_path, monkeypatch):
    """Cached glyphs equal rendered ones; other glyphs, other code and a damaged file are rendered anew."""
    expected = glyphs.render(50, 16, 3)
    calls = []
    monkeypatch.setattr(glyphs, "render", lambda *arguments: calls.append(arguments) or expected)

    def same() -> bool:
        images, labels, classes = glyphs.render_cached(50, 16, 3, tmp_path)
        return np.array_equal(images, expected[0]) and np.array_equal(labels, expected[1]) and classes == expected[2]

    assert same()
    assert same()
    assert len(calls) == 1
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert same()
    file.write_bytes(content[:100])
    assert same()
    assert len(calls) == 3
    glyphs.render_cached(50, 16, 4, tmp_path)
    monkeypatch.setattr(glyphs, "version", lambda name: "0")
    assert same()
    assert len(calls) == 5


@pytest.mark.parametrize("font", glyphs.FONTS)
def test_every_font_draws_every_character(font):
    """Each font that glyphs uses has ink for each class, and no two classes look alike in it."""
    drawn = [glyphs._draw(character, font).tobytes() for character in glyphs.CLASSES]
    assert all(np.frombuffer(item, np.uint8).max() > 128 for item in drawn)
    assert len(set(drawn)) == len(drawn)


def test_glyphs_become_a_folder_of_classes(tmp_path):
    """Written glyphs have a folder per class, and no two folders differ by case alone."""
    datasets.DATASETS["glyphs"](tmp_path, datasets.DatasetOptions(size=16, count=94))
    names = [path.name for path in tmp_path.iterdir()]
    assert len({name.casefold() for name in names}) == len(names) == 47


def pretraining(values, **changes):
    values["weights"] |= {"pretrain_images": 100} | changes
    return _pretraining_images(parse(values))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glyphs", "digits"])
def test_weights_can_be_pretrained_on_a_named_set(values, name, tmp_path, monkeypatch):
    """Pretraining images come in the size of the run, as many as asked for, in the same order every time."""
    monkeypatch.chdir(tmp_path)
    values["ingest"]["source"] = "elsewhere"
    images, labels, classes = pretraining(values, pretrain_on=name)
    assert images.shape == (100, 32, 32, 3)
    assert len(labels) == 100
    assert len(classes) == {"glyphs": 47, "digits": 10}[name]
    assert (pretraining(values, pretrain_on=name)[0] == images).all()


def test_weights_can_be_pretrained_on_a_folder(values, folder, tmp_path, monkeypatch):
    """Any folder that ingest accepts will do; one without images says so."""
    monkeypatch.chdir(tmp_path)
    images, labels, classes = pretraining(values, pretrain_on=str(folder))
    assert len(images) == len(labels) == 60
    assert classes == ("cat", "dog")
    with pytest.raises(DarkroomError):
        pretraining(values, pretrain_on=str(folder / "cat"))


def idx(images: np.ndarray) -> bytes:
    """Return an array of bytes as the files of MNIST hold it."""
    return bytes([0, 0, 8, images.ndim]) + np.array(images.shape, ">i4").tobytes() + images.astype(np.uint8).tobytes()


def distributed(folder, packed=True):
    """Write small files of MNIST's kind: 30 training and 20 test images."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, count in (("train", 30), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for kind, content in (("images-idx3", idx(images)), ("labels-idx1", idx(labels))):
            if packed:
                (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
            else:
                (folder / f"{name}-{kind}-ubyte").write_bytes(content)
    return folder


def recognise(monkeypatch, folder):
    """Let the files in a folder be MNIST's."""
    for path in folder.iterdir():
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        monkeypatch.setitem(datasets.MNIST_MD5, path.name.removesuffix(".gz"), hashlib.md5(content).hexdigest())


@pytest.mark.parametrize(("place", "packed"), [("", True), ("", False), ("mnist", True)])
def test_files_as_they_are_distributed_are_read(tmp_path, place, packed, monkeypatch):
    """Packed or not, in the folder or in one of the set's name: train and test images come out as they are."""
    recognise(monkeypatch, distributed(tmp_path / "files" / place, packed))
    options = datasets.DatasetOptions(source=str(tmp_path / "files"), downloads=tmp_path / "downloads")
    (tmp_path / "out").mkdir()
    assert datasets.DATASETS["mnist"](tmp_path / "out", options) == 50
    with np.load(tmp_path / "out" / "mnist.npz") as arrays:
        assert arrays["train_images"].shape == (30, 28, 28)
        assert arrays["test_labels"].tolist() == [i % 10 for i in range(20)]
        assert len(arrays["class_names"]) == 10


def test_absent_or_damaged_files_are_named(tmp_path):
    """A folder without the files says what was looked for and what is there; a damaged file is refused."""
    options = datasets.DatasetOptions(source=str(tmp_path), downloads=tmp_path / "downloads")
    for name in ("mnist", "fashion_mnist", "cifar10"):
        with pytest.raises(SourceError, match="looked for"):
            datasets.DATASETS[name](tmp_path, options)
    distributed(tmp_path / "mnist", packed=False)
    (tmp_path / "mnist" / "train-images-idx3-ubyte").write_bytes(b"nothing")
    with pytest.raises(SourceError) as error:
        datasets.DATASETS["mnist"](tmp_path, options)
    assert "fetch.source" in error.value.remedy


def test_one_set_is_not_taken_for_another(tmp_path, monkeypatch):
    """MNIST and Fashion-MNIST have the same file names: the bytes decide, and a damaged packed file says so."""
    distributed(tmp_path / "files")
    options = datasets.DatasetOptions(source=str(tmp_path / "files"), downloads=tmp_path / "downloads")
    with pytest.raises(SourceError, match=r"train-images-idx3-ubyte.* is not the file of MNIST"):
        datasets.DATASETS["mnist"](tmp_path, options)
    assert datasets.DATASETS["fashion_mnist"](tmp_path, options) == 50
    recognise(monkeypatch, tmp_path / "files")
    with pytest.raises(SourceError, match="is the file of MNIST"):
        datasets.DATASETS["fashion_mnist"](tmp_path, options)
    packed = tmp_path / "files" / "t10k-images-idx3-ubyte.gz"
    for content in (packed.read_bytes()[:500], b"<html>", packed.read_bytes()[:600] + b"x" * 99 + packed.read_bytes()[700:]):
        packed.write_bytes(content)
        with pytest.raises(SourceError):
            datasets.DATASETS["mnist"](tmp_path, options)


@pytest.fixture
def server(tmp_path):
    """Serve a folder on loopback; yield the folder and its address."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, args=[0.02], daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()


def test_a_data_set_is_downloaded_once_and_its_checksums_hold(tmp_path, server, monkeypatch):
    """MNIST comes from a server, once.

    A file whose checksum is wrong, and a server that is down, are refused with a remedy.
    """
    folder, address = server
    distributed(folder / "files")
    files = sorted((folder / "files").iterdir())
    monkeypatch.setattr(MNIST, "mirrors", [address + "files/"])
    digests = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in files]
    options = datasets.DatasetOptions(downloads=tmp_path / "downloads")
    for resources, good in (([(name, "0" * 32) for name, _ in digests], False), (digests, True)):
        monkeypatch.setattr(MNIST, "resources", resources)
        if good:
            assert datasets.DATASETS["mnist"](tmp_path, options) == 50
        else:
            with pytest.raises(SourceError) as error:
                datasets.DATASETS["mnist"](tmp_path, options)
            assert "fetch.source" in error.value.remedy
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    assert datasets.DATASETS["mnist"](tmp_path, options) == 50
    with pytest.raises(SourceError, match="cannot be downloaded"):
        datasets.DATASETS["mnist"](tmp_path, datasets.DatasetOptions(downloads=tmp_path / "elsewhere"))


@pytest.mark.slow
def test_the_real_mnist(tmp_path, shared):
    """The files of MNIST give 60,000 training and 10,000 test images, and ingest keeps the test images apart."""
    options = datasets.DatasetOptions(source=str(shared / "mnist"), downloads=tmp_path / "downloads")
    (tmp_path / "mnist").mkdir()
    assert datasets.DATASETS["mnist"](tmp_path / "mnist", options) == 70_000
    with np.load(tmp_path / "mnist" / "mnist.npz") as arrays:
        assert arrays["train_images"].shape == (60_000, 28, 28)
        assert np.bincount(arrays["test_labels"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
