"""Export of a checkpoint to ONNX, `torch.export` and OpenVINO; each program is compared with the checkpoint.

A program takes `images` (N, S, S, 3) uint8 and returns `logits` and `probabilities` (N, classes) float32, and `distance` (N,)
float32 where the classifier has a threshold for it. Its own metadata have its classes, preprocessing, temperature and
threshold; the same is in `model.json` beside it.
"""

from __future__ import annotations

import io
import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from torch import nn

from darkroom.core import checksums, json_files, machine_limits, shortage
from darkroom.core.errors import WeightsError, WorkspaceError
from darkroom.core.lazy import lazy_imports
from darkroom.inference.classifier import Classifier
from darkroom.inference.exported_classifier import (
    DESCRIPTION,
    DISTANCE,
    FILES,
    INT8_DESCRIPTION,
    INT8_ONNX,
    ONNX,
    OPENVINO,
    PAGE,
    TORCH,
    OnnxProgram,
    OpenVinoProgram,
    ProgramOutputs,
    TorchProgram,
)
from darkroom.models import engine
from darkroom.models.base import Levels

with lazy_imports():  # OpenVINO is optional
    import onnx
    import openvino

README = "README.md"
OUTPUTS = ("logits", "probabilities", DISTANCE)
NOTE = "from the training images: an image beyond the distance of `abstention` is unknown"
Metadata = Mapping[str, Any]


class CalibratedNetwork(nn.Module):
    """A network whose logits are divided by the temperature, so that callers of the program need not know it.

    forward: (N, S, S, 3) uint8 to the `output_names`.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        network, self.temperature = classifier.network, classifier.checkpoint.temperature
        self.distance = network.distance if classifier.threshold else None
        self.normalize, self.head = network.normalize, network.head
        self.features = Levels(network.features, self.distance.steps if self.distance else 0)
        self.output_names = OUTPUTS if self.distance else OUTPUTS[:2]
        self.eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        levels = self.features(self.normalize(images))
        logits = self.head(levels[0]) / self.temperature
        distances = (self.distance(*levels),) if self.distance else ()
        return logits, logits.softmax(1), *distances


@dataclass(frozen=True)
class Format:
    """A format of programs: its files, of which the first one is loaded, how they are written, and loaded."""

    files: tuple[str, ...]
    write: Callable[[CalibratedNetwork, np.ndarray, Metadata, Path], None]
    load: Callable[[Path], Callable[[np.ndarray], ProgramOutputs]]


def export(
    classifier: Classifier, images: np.ndarray, folder: Path, formats: Sequence[str] = ("onnx", "pt2"), about: str = ""
) -> dict[str, float]:
    """Write the programs of a classifier and a README into a folder, and load them again; return each one's error, by its
    file.

    `images` (N ≥ 2, S, S, 3) uint8 are what they are compared on. The error is a share of the largest logit, or distance. `about`
    says for people which model it is. A program that cannot be made, or whose error is too large, is left out and named
    on stdout. Raises WeightsError if none is left.
    """
    checkpoint = classifier.checkpoint
    _, logits, distances = classifier.outputs(images)
    expected = ProgramOutputs(logits / checkpoint.temperature, distances if classifier.threshold else None)
    if not np.isfinite(logits).all():
        raise WeightsError(f"{checkpoint.name} outputs NaN or infinity", "train it again with a lower `lr`: `dvc repro`")
    folder.mkdir(exist_ok=True)
    metadata = describe(classifier, about)
    errors: dict[str, float] = {}
    weight_bytes = sum(weights.nbytes for weights in classifier.network.state_dict().values())
    for name in formats:
        files, program = FORMATS[name].files, FORMATS[name].files[0]
        shortage.require_space(folder / program, weight_bytes, at_least=True)
        try:
            with shortage.noted(folder / program, folder):
                FORMATS[name].write(CalibratedNetwork(classifier), images[:2], metadata, folder)
            error = _largest_error(FORMATS[name].load(folder / program), images, expected)
            problem = "" if error <= engine.TOLERANCE else f"its outputs differ by {error:.1e} of the largest"
        except Exception as exception:  # exporters raise errors of every kind
            machine_limits.check(exception)  # a full disk says nothing about the network
            problem = f"{type(exception).__name__}: {(str(exception).strip().splitlines() or [''])[0]}"
        if problem:
            for file in files:
                (folder / file).unlink(missing_ok=True)
            print(f"{checkpoint.name} has no {program}: {problem}")
        else:
            errors[program] = error
    if not errors:
        raise WeightsError(f"{checkpoint.name} cannot be exported", "use another backbone: torchvision's common ones can")
    present = [folder / file for name in formats for file in FORMATS[name].files if (folder / file).exists()]
    own = {FILES: {file.name: checksums.of_file(file) for file in present}, "conformal": asdict(checkpoint.conformal)}
    json_files.write_sealed(folder / DESCRIPTION, {**metadata, **own})
    _write_readme(folder, metadata, list(errors))
    return errors


def add_int8(source: Path, folder: Path) -> None:
    """Copy a version's program of 8-bit integers from the folder `source` into one that may have other programs, and add it to the
    README."""
    folder.mkdir(exist_ok=True)
    for file in (INT8_ONNX, INT8_DESCRIPTION):
        shutil.copyfile(source / file, folder / file)
    add_readme(folder)


def add_readme(folder: Path, metadata: Metadata | None = None) -> None:
    """Write the README of all that a folder of programs has, with `metadata` where it has no description of its own."""
    others = [FORMATS[name].files[0] for name in FORMATS if (folder / FORMATS[name].files[0]).exists()]
    further = [file for file in (INT8_ONNX, PAGE) if (folder / file).exists()]
    description = folder / (DESCRIPTION if others else INT8_DESCRIPTION)
    if description.exists():
        metadata = json.loads(description.read_text(encoding="utf-8"))
    assert metadata is not None
    outputs = {name: metadata["outputs"][name] for name in OUTPUTS if name in metadata["outputs"]}  # in the program's order
    _write_readme(folder, {**metadata, "outputs": outputs}, [*others, *further])


def describe(classifier: Classifier, about: str = "") -> dict[str, Any]:
    """Return the metadata of a classifier's programs: what they take and return, as JSON values.

    `mean` and `std` are left out: a program normalises by itself, and its callers shall not do it twice.
    """
    checkpoint, size, count = classifier.checkpoint, classifier.checkpoint.preprocessing.image_size, len(classifier.classes)
    return {
        "name": checkpoint.name,
        "about": about or checkpoint.name,
        "classes": list(classifier.classes),
        "input": {"name": "images", "dtype": "uint8", "shape": ["N", size, size, 3], "layout": "NHWC", "colors": "RGB"},
        "outputs": {
            "logits": {"dtype": "float32", "shape": ["N", count], "note": "divided by the temperature"},
            "probabilities": {"dtype": "float32", "shape": ["N", count], "note": "softmax of the logits"},
            **({DISTANCE: {"dtype": "float32", "shape": ["N"], "note": NOTE}} if classifier.threshold else {}),
        },
        "preprocessing": {
            "image_size": size,
            "resize": checkpoint.preprocessing.resize,
            "background": list(checkpoint.preprocessing.background),
            "normalization": "by the program: pass pixels from 0 to 255",
        },
        "temperature": checkpoint.temperature,
        "prediction_sets": checkpoint.conformal.table(count),
        "abstention": classifier.threshold.as_dict() if classifier.threshold else None,
    }


def _write_readme(folder: Path, metadata: Metadata, files: Sequence[str]) -> None:
    """Write how to use the programs of a folder, with code that runs, into its README.md."""
    place = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, autoescape=False)
    text = place.get_template("exported.md.j2").render(metadata, files=files, size=metadata["preprocessing"]["image_size"])
    (folder / README).write_text(text, encoding="utf-8")


def check_installed(formats: Sequence[str]) -> None:
    """Raise WorkspaceError where a format needs a package that is not installed."""
    if "openvino" in formats:
        try:
            openvino.__version__  # noqa: B018  (imports it)
        except ImportError as error:
            raise WorkspaceError("the format openvino needs the package openvino", "install it: pip install openvino") from error


def noise_images(size: int) -> np.ndarray:
    """Return images (8, S, S, 3) uint8 on which programs can be compared where no photographs are at hand: noise of
    several scales."""
    rng = np.random.default_rng(0)
    scales = [min(size, cells) for cells in (2, 4, 8, 16, 32, 64, 128, 256)]
    return np.stack([_noise(rng, cells, size) for cells in scales])


def _noise(rng: np.random.Generator, cells: int, size: int) -> np.ndarray:
    index = np.arange(size) * cells // size
    return rng.integers(0, 256, (cells, cells, 3), np.uint8)[index][:, index]


def _write_onnx(network: CalibratedNetwork, example: np.ndarray, metadata: Metadata, folder: Path) -> None:
    program = onnx.load_from_string(engine.export_onnx(network, example, "images", network.output_names))
    onnx.helper.set_model_props(program, as_text(metadata))
    program.doc_string = metadata["about"]
    onnx.save(program, folder / ONNX)


def _write_torch(network: CalibratedNetwork, example: np.ndarray, metadata: Metadata, folder: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("batch", min=1)},)
        program: Any = torch.export.export(network, (torch.from_numpy(example),), dynamic_shapes=shapes)
        program._example_inputs = None  # they would be stored as a pickle
        content = io.BytesIO()  # where a disk is full, torch's own writer ends the process
        torch.export.save(program, content, extra_files={DESCRIPTION: json.dumps(metadata, ensure_ascii=False)})
    (folder / TORCH).write_bytes(content.getbuffer())


def _write_openvino(network: CalibratedNetwork, example: np.ndarray, metadata: Metadata, folder: Path) -> None:
    source = engine.export_onnx(network, example, "images", network.output_names)
    program = openvino.Core().read_model(source)
    for name, value in as_text(metadata).items():
        program.set_rt_info(value, ["model_info", name])
    openvino.save_model(program, str(folder / OPENVINO), compress_to_fp16=False)


def as_text(metadata: Metadata) -> dict[str, str]:
    """Return the metadata for formats that keep texts: everything but texts as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}


FORMATS = {
    "onnx": Format((ONNX,), _write_onnx, OnnxProgram),
    "pt2": Format((TORCH,), _write_torch, TorchProgram),
    "openvino": Format((OPENVINO, "model.bin"), _write_openvino, OpenVinoProgram),
}


def _largest_error(program: Callable[[np.ndarray], ProgramOutputs], images: np.ndarray, expected: ProgramOutputs) -> float:
    """Return a program's largest error, in batches of one and several, as a share of its largest logit or distance."""
    parts = program(images[:1]), program(images[1:])
    errors = []
    for first, second, values in zip(*parts, expected, strict=True):
        if values is not None:
            difference = np.abs(np.concatenate([first, second]) - values).max()
            errors.append(float(difference / max(float(np.abs(values).max()), 1e-30)))
    return max(errors)
