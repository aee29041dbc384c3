"""A classifier as a program that needs nothing of what trained it: ONNX, and beside it a `torch.export` program.

A folder with `model.onnx`, `model.pt2` (one of them may be missing) and `model.json`. Both programs take (N, S, S, 3) uint8 as
ingest makes them, and give logits (N, classes) that are divided by the checkpoint's temperature already: their softmax is the
probabilities. Neither is a pickle.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from darkroom.inference import predict
from darkroom.inference.predict import Answer

ONNX, TORCH, ABOUT = "model.onnx", "model.pt2", "model.json"
AT_ONCE = 32


class Exported:
    """A classifier of files; ONNX Runtime computes, or torch where the network has no ONNX program."""

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        self.classes: tuple[str, ...] = tuple(content["classes"])
        self.preprocessing = SimpleNamespace(**content["preprocessing"])
        self.program: Any = Onnx(folder / ONNX) if (folder / ONNX).exists() else Torch(folder / TORCH)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return logits (N, classes) float32 for images (N, S, S, 3) uint8."""
        parts = [self.program(np.ascontiguousarray(images[start : start + AT_ONCE])) for start in range(0, len(images), AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)

    def files(self, contents: list[bytes]) -> list[Answer]:
        """Answer for the bytes of image files of any format and size; a file that cannot be read gets a reason."""
        return predict.files(contents, self.preprocessing, lambda images: predict.softmax(self.logits(images)))


def words(error: str) -> str:
    """Say for people why an image has no answer."""
    from darkroom.data.quarantine_reasons import REASONS

    return REASONS[error]


class Onnx:
    """An ONNX program: (N, S, S, 3) uint8 to logits (N, classes)."""

    def __init__(self, file: Path) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"inputs": images})[0]


class Torch:
    """A `torch.export` program: (N, S, S, 3) uint8 to logits (N, classes)."""

    def __init__(self, file: Path) -> None:
        import torch

        self.torch, self.network = torch, torch.export.load(file).module()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with self.torch.inference_mode():
            return self.network(self.torch.from_numpy(images)).numpy()
