"""Results of runs on disk, by the digest of their settings, images, code, libraries and device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from darkroom.core import atomic, checksums
from darkroom.models import weight_files
from darkroom.models.backbones import packages
from darkroom.models.backbones import registry as backbones
from darkroom.studies.run_config import RunConfig, RunResult, weight_source
from darkroom.studies.samples import Sample
from darkroom.training.devices import device_of

FOLDER = Path(".darkroom/studies")
MODULES = (  # of this room: those that decide a figure
    "initial_weights", "learning_rate", "probes", "run_config", "samples", "search", "trainer", "vectorized",
)  # fmt: skip
ROOMS = ("augmentation", "inference/tta.py", "models", "training")
LIBRARIES = ("torch", "torchvision", "albumentations", "opencv-python-headless", "numpy")
RESULTS = TypeAdapter(list[RunResult])

Samples = Mapping[str, Sample]  # by `RunConfig.sample`; "" is the study's own


@cache
def code_digest() -> str:
    """Return the digest of the code that decides a result, which is not all of this room."""
    room = Path(__file__).parent
    files = [room / f"{name}.py" for name in MODULES]
    for name in ROOMS:
        path = room.parent / name
        files += [path] if path.is_file() else sorted(path.rglob("*.py"))
    sha = hashlib.sha256("".join(f"{name} {version(name)}\n" for name in LIBRARIES).encode())
    for file in files:
        sha.update(f"{file.relative_to(room.parent)}\n".encode() + file.read_bytes())
    return sha.hexdigest()


@dataclass(frozen=True)
class ResultCache:
    """The results in a folder, a file for each unit of runs that are trained together."""

    samples: Samples
    accelerator: str
    folder: Path = FOLDER
    is_cpu: bool = False  # whatever the accelerator is here: of a machine that has no GPU

    @cached_property
    def is_gpu(self) -> bool:
        return not self.is_cpu and device_of(self.accelerator).type != "cpu"

    def file(self, unit: Sequence[RunConfig], *more: str) -> Path:
        """Return the file of a unit's results; `more` is what else decides them."""
        first = unit[0]
        digests = [self.samples[config.sample].digest for config in (first, first.pretraining) if config]
        keys = [config.key() for config in unit]
        content = [code_digest(), digests, _weights_digest(first), self.accelerator, self.is_gpu, keys, *more]
        return self.folder / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}.jsonl"

    def weights_file(self, config: RunConfig) -> Path:
        """Return the file of the last weights of a run that others are initialised from."""
        return self.file([config]).with_suffix(".safetensors")


def write(file: Path, results: Sequence[RunResult]) -> None:
    """Write results as a line of JSON, after a line with its SHA-256."""
    content = RESULTS.dump_json(list(results))
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(file) as working:
        working.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read(file: Path, unit: Sequence[RunConfig]) -> list[RunResult] | None:
    """Return the results of a unit, or None if there are none or the file is damaged."""
    try:
        checksum, _, content = file.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != checksum:
            return None
        results = RESULTS.validate_json(content)
    except (OSError, ValidationError):
        return None
    return results if [result.config for result in results] == list(unit) else None


def _weights_digest(config: RunConfig) -> str:
    """Return the SHA-256 of the file of initial weights; empty for downloaded or random ones."""
    source, folder = weight_source(config.weights)
    source = backbones.weights_source(config.architecture, source) if config.weights else ""
    if source == "package":
        return checksums.of_file(packages.find(*backbones.find(config.architecture)))
    return checksums.of_file(weight_files.find(folder, config.architecture)) if source == "folder" else ""
