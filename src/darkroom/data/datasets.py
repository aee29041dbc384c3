"""Named data sets, which `fetch` writes: a folder of classes, or an .npz that keeps the set's own test split."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from darkroom.core import atomic, deadline, machine_limits, shortage
from darkroom.core.errors import DarkroomError, SourceError
from darkroom.core.lazy import lazy_imports
from darkroom.core.os_errors import is_retryable
from darkroom.data import glyphs, remote_files

with lazy_imports():
    from torchvision import datasets as torchvision_datasets

DOWNLOADS = Path(".darkroom/downloads")
MNIST_MD5 = {  # of the uncompressed files
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


@dataclass(frozen=True)
class DatasetOptions:
    """The size and number of rendered images, where named sets come from, the folder for downloads, and the setting that says where
    they come from, for messages; the address of the set `url`, and its version.
    """

    size: int = 64
    count: int = 5_000
    seed: int = 0
    source: str = "download"
    downloads: Path = DOWNLOADS
    setting: str = "fetch.source"
    address: str = ""
    version: str = ""


def write_digits(folder: Path, options: DatasetOptions) -> int:
    """Write scikit-learn's handwritten digits (1,797 of 8×8 pixels) as PNG files in one folder per class."""
    rows = _load_digits()
    images = (rows[:, :64].reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)
    return _write_folder(folder, images, [str(int(label)) for label in rows[:, 64]])


def _load_digits() -> np.ndarray:
    """Return the digits as (1797, 65) float64: pixels 0 to 16 and the label."""
    # reading scikit-learn's file takes a tenth of a second, importing scikit-learn several seconds
    return np.loadtxt(glyphs.package_folder("sklearn") / "datasets" / "data" / "digits.csv.gz", delimiter=",")


def write_glyphs(folder: Path, options: DatasetOptions) -> int:
    """Write rendered characters as PNG files in one folder per class, small letters in `a_small` and so on."""
    images, labels, classes = glyphs.render(options.count, options.size, options.seed)
    names = [name if not name.islower() else f"{name}_small" for name in classes]
    return _write_folder(folder, images[..., 0], [names[label] for label in labels])


def _write_folder(folder: Path, images: np.ndarray, labels: list[str]) -> int:
    for label in sorted(set(labels)):
        (folder / label).mkdir(parents=True, exist_ok=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / label / f"{i:05d}.png")
    return len(images)


def write_benchmark(name: str, folder: Path, options: DatasetOptions) -> int:
    """Write MNIST, Fashion-MNIST or CIFAR-10 as one .npz with its own train and test images.

    They are downloaded with torchvision's checksums, or read from a folder that holds the files as they are
    distributed. Raises SourceError where neither works.
    """
    kind: Any = getattr(torchvision_datasets, {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}[name])
    download = options.source == "download"
    root = options.downloads
    root.mkdir(parents=True, exist_ok=True)
    try:
        if not download:
            root = _unpack_local(name, kind.__name__, options)
        with deadline.no_silence():
            parts = {split: kind(root, train=split == "train", download=download) for split in ("train", "test")}
    except DarkroomError:
        raise
    except Exception as error:  # a damaged file, or a server that is down, raises anything
        machine_limits.check(error)
        where = "downloaded" if download else f"read from {options.source}"
        raise SourceError(
            f"{name} cannot be {where}: {str(error) or 'a file is damaged'}",
            f"check the network, or set `{options.setting}` to a folder with its files as they are distributed"
            if download
            else f"copy the files again from where they came, or set `{options.setting}` to download",
            # "Error downloading" is torchvision's, when every mirror failed
            download and (is_retryable(error) or str(error).startswith("Error downloading")),
        ) from error
    arrays: dict[str, Any] = {"class_names": np.array([str(name).partition(" - ")[0] for name in parts["train"].classes])}
    for split, part in parts.items():
        arrays[f"{split}_images"] = np.asarray(part.data)
        arrays[f"{split}_labels"] = np.asarray(part.targets)
    np.savez(folder / f"{name}.npz", **arrays)
    return len(arrays["train_labels"]) + len(arrays["test_labels"])


def _unpack_local(name: str, kind: str, options: DatasetOptions) -> Path:
    """Return a folder where torchvision finds the files that lie in `options.source`, or in its subfolder `name`."""
    source, root, setting = Path(options.source).expanduser(), options.downloads / "local", options.setting
    inside = source / name if (source / name).is_dir() else source
    if name == "cifar10":
        if (inside / "cifar-10-batches-py").is_dir():
            return inside
        packed = inside / "cifar-10-python.tar.gz"
        if packed.is_file():
            with tarfile.open(packed) as archive:
                archive.extractall(root, filter="data")
            return root
        raise _absent(name, inside, "cifar-10-python.tar.gz, or the folder cifar-10-batches-py", setting)
    for file in MNIST_MD5:
        target = root / kind / "raw" / file
        plain, packed = inside / file, inside / f"{file}.gz"
        if not plain.is_file() and not packed.is_file():
            raise _absent(name, inside, f"{file}.gz, or {file}", setting)
        with atomic.new_file(target) as working:
            if plain.is_file():
                shortage.copy_file(plain, working)
            else:
                with gzip.open(packed) as stream, working.open("wb") as out:
                    shutil.copyfileobj(stream, out)
            is_mnist = hashlib.md5(working.read_bytes()).hexdigest() == MNIST_MD5[file]
            if is_mnist != (name == "mnist"):
                raise SourceError(
                    f"{plain if plain.is_file() else packed} is {'not ' if name == 'mnist' else ''}the file of MNIST: the files of "
                    f"{name} have the same names",
                    f"put the files of {name} into a folder of that name, in the folder that `{setting}` names",
                )
    return root


def _absent(name: str, folder: Path, expected: str, setting: str) -> SourceError:
    names = sorted(path.name for path in folder.iterdir())[:5] if folder.is_dir() else []
    return SourceError(
        f"{folder} does not hold {name}: looked for {expected}, found {', '.join(names) or 'nothing'}",
        f"set `{setting}` to the folder with the files as they are distributed, or to download",
    )


@contextmanager
def named_or_path(data: str, options: DatasetOptions) -> Iterator[Path]:
    """Yield the folder of a named data set, which is written for the length of a block, or `data` as a path."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(data).expanduser()
        if data in DATASETS:
            path = Path(scratch) / data
            path.mkdir()
            DATASETS[data](path, options)
        yield path


def write_copy(folder: Path, options: DatasetOptions) -> int:
    """Write a copy of the files at an address; errors as of `remote_files.copy`."""
    if not options.address:
        raise SourceError("the data set `url` is a copy of `fetch.url`, which names no address", "set `fetch.url`")
    return remote_files.copy(folder, options.address, options.version, options.downloads / "url")


DATASETS: dict[str, Callable[[Path, DatasetOptions], int]] = {
    "digits": write_digits,
    "glyphs": write_glyphs,
    **{name: partial(write_benchmark, name) for name in ("mnist", "fashion_mnist", "cifar10")},
    "url": write_copy,
}
