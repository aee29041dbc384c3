"""Make programs of a checkpoint that need nothing of what trained it, and compare each with the checkpoint."""

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
from darkroom.inference import exported
from darkroom.inference.classifier import Classifier
from darkroom.models import engine


def package(classifier: Classifier, images: np.ndarray, out: Path) -> dict[str, float]:
    """Write the programs of a classifier into a new folder, and load them again; return how far each is from the checkpoint.

    `images` (N ≥ 2, S, S, 3) uint8 are what they are compared on; the difference is a share of the largest logit. A program that
    cannot be made, or gives other answers, is left out, and that is said; WeightsError where none is left.
    """
    checkpoint = classifier.checkpoint
    expected = classifier.logits(images) / checkpoint.temperature
    if not np.isfinite(expected).all():
        raise WeightsError(f"{checkpoint.name} answers with what is no number", "train it again with a lower `lr`: `dvc repro`")
    out.mkdir()
    about = {"name": checkpoint.name, "classes": checkpoint.classes, "preprocessing": checkpoint.preprocessing.as_dict()}
    (out / exported.ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    made: dict[str, float] = {}
    for name, make, load in (
        (exported.ONNX, _onnx, exported.Onnx),
        (exported.TORCH, _torch, exported.Torch),
    ):
        try:
            make(classifier, images[:2], out / name)
            apart = _apart(load(out / name), images, expected)
            reason = "" if apart <= engine.TOLERANCE else f"its answers differ by {apart:.1e} of the largest"
        except Exception as error:
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        if reason:
            (out / name).unlink(missing_ok=True)
            print(f"{name} is not made of {checkpoint.name}: {reason}")
        else:
            made[name] = apart
    if not made:
        raise WeightsError(f"{checkpoint.name} cannot be exported", "use another backbone: torchvision's common ones can")
    return made


class Calibrated(nn.Module):
    """A network whose logits are divided by the temperature, so that whoever runs the program need not know it."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network, self.temperature = classifier.network, classifier.checkpoint.temperature
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images) / self.temperature


def _onnx(classifier: Classifier, example: np.ndarray, file: Path) -> None:
    file.write_bytes(engine.export(Calibrated(classifier), example))


def _torch(classifier: Classifier, example: np.ndarray, file: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        free = ({0: torch.export.Dim("batch", min=1)},)
        program: Any = torch.export.export(Calibrated(classifier), (torch.from_numpy(example),), dynamic_shapes=free)
        program._example_inputs = None  # they would be kept as a pickle
        torch.export.save(program, file)


def _apart(program: Callable[[np.ndarray], np.ndarray], images: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of a program's logits, for one image and for several, as a share of the largest logit."""
    got = np.concatenate([program(images[:1]), program(images[1:])])
    return float(np.abs(got - expected).max() / max(float(np.abs(expected).max()), 1e-30))
