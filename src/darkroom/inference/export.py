"""Export of a checkpoint to ONNX and `torch.export`; each program is compared with the checkpoint."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from darkroom.core.errors import WeightsError
from darkroom.inference.classifier import Classifier
from darkroom.inference.exported_classifier import DESCRIPTION, ONNX, TORCH, OnnxProgram, TorchProgram
from darkroom.models import engine


def export(classifier: Classifier, images: np.ndarray, folder: Path) -> dict[str, float]:
    """Write the programs of a classifier into a new folder and load them again; return each one's error.

    `images` (N ≥ 2, S, S, 3) uint8 are what they are compared on. The error is a share of the largest logit.
    A program that cannot be made, or whose error is too large, is left out and named on stdout. Raises
    WeightsError if none is left.
    """
    checkpoint = classifier.checkpoint
    expected = classifier.logits(images) / checkpoint.temperature
    if not np.isfinite(expected).all():
        raise WeightsError(f"{checkpoint.name} outputs NaN or infinity", "train it again with a lower `lr`: `dvc repro`")
    folder.mkdir()
    content = {"name": checkpoint.name, "classes": checkpoint.classes, "preprocessing": checkpoint.preprocessing.as_dict()}
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    errors: dict[str, float] = {}
    for name, write, load in ((ONNX, _write_onnx, OnnxProgram), (TORCH, _write_torch, TorchProgram)):
        try:
            write(CalibratedNetwork(classifier), images[:2], folder / name)
            error = _largest_error(load(folder / name), images, expected)
            problem = "" if error <= engine.TOLERANCE else f"its logits differ by {error:.1e} of the largest"
        except Exception as exception:  # exporters raise errors of every kind
            problem = f"{type(exception).__name__}: {(str(exception).strip().splitlines() or [''])[0]}"
        if problem:
            (folder / name).unlink(missing_ok=True)
            print(f"{checkpoint.name} has no {name}: {problem}")
        else:
            errors[name] = error
    if not errors:
        raise WeightsError(f"{checkpoint.name} cannot be exported", "use another backbone: torchvision's common ones can")
    return errors


class CalibratedNetwork(nn.Module):
    """A network whose logits are divided by the temperature, so that callers of the program need not know it."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network, self.temperature = classifier.network, classifier.checkpoint.temperature
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images) / self.temperature


def _write_onnx(network: nn.Module, example: np.ndarray, file: Path) -> None:
    file.write_bytes(engine.export_onnx(network, example))


def _write_torch(network: nn.Module, example: np.ndarray, file: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("batch", min=1)},)
        program: Any = torch.export.export(network, (torch.from_numpy(example),), dynamic_shapes=shapes)
        program._example_inputs = None  # they would be stored as a pickle
        torch.export.save(program, file)


def _largest_error(program: Callable[[np.ndarray], np.ndarray], images: np.ndarray, expected: np.ndarray) -> float:
    """Return a program's largest error, in batches of one and several, as a share of the largest logit."""
    logits = np.concatenate([program(images[:1]), program(images[1:])])
    return float(np.abs(logits - expected).max() / max(float(np.abs(expected).max()), 1e-30))
