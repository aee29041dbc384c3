"""A trained model: predictions, heat maps and embeddings of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
from PIL import Image

from darkroom.api.html import picture, table
from darkroom.core.errors import ParamsError, SourceError, WorkspaceError
from darkroom.data import decoding, upright
from darkroom.inference import explanation, image_files
from darkroom.inference.classifier import Classifier, ModelInfo
from darkroom.inference.image_files import NO_PROBLEM, Problem, Row
from darkroom.models.base import Preprocessing

THUMBNAIL, HEAT_MAP = 64, 224  # pixels a side in a notebook
SHOWN = 50  # rows of a table in a notebook
BATCH = image_files.BATCH
ORIENTATION = 0x0112  # EXIF's tag
CHANNELS = ((), (1,), (3,), (4,))  # of an array, after its height and width

OneImage = str | os.PathLike[str] | Image.Image | np.ndarray
Images = OneImage | Iterable[OneImage]


class Predictions(Sequence[Row]):
    """A row per image, in their order: path, label, confidence and probabilities by class, or an error with its remedy."""

    def __init__(self, rows: list[Row], classes: tuple[str, ...], thumbnails: list[np.ndarray | None]) -> None:
        self.rows, self.classes, self._thumbnails = rows, classes, thumbnails

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Predictions: ...
    def __getitem__(self, place: int | slice) -> Row | Predictions:
        if isinstance(place, slice):
            return Predictions(self.rows[place], self.classes, self._thumbnails[place])
        return self.rows[place]

    @property
    def labels(self) -> list[str | None]:
        """The label of each image, None where it cannot be read."""
        return [row.label for row in self.rows]

    @property
    def probabilities(self) -> np.ndarray:
        """Calibrated probabilities (N, classes) float64, NaN where an image cannot be read."""
        missing = dict.fromkeys(self.classes, np.nan)
        return np.array([list((row.probabilities or missing).values()) for row in self.rows]).reshape(len(self), len(self.classes))

    @property
    def unknown(self) -> list[bool | None]:
        """Whether each image is unlike the training images; None where it cannot be read, or the model does not tell."""
        return [row.unknown for row in self.rows]

    def to_frame(self) -> pd.DataFrame:
        """Return a row per image: path, label, confidence, unknown, error, remedy, and the probability of each class."""
        rows = [{key: value for key, value in asdict(row).items() if key != "probabilities"} for row in self.rows]
        columns = ["path", "label", "confidence", "unknown", "error", "remedy"]
        return pd.DataFrame(rows, columns=columns).join(
            pd.DataFrame(self.probabilities, columns=[f"p_{name}" for name in self.classes])
        )

    def __repr__(self) -> str:
        return repr(self.to_frame()[["path", "label", "confidence", "unknown", "error"]])

    def _repr_html_(self) -> str:
        cells = []
        for row, image in zip(self.rows[:SHOWN], self._thumbnails[:SHOWN], strict=True):
            shown = "" if image is None else picture(image, row.path, THUMBNAIL)
            label = f"unknown, perhaps {escape(str(row.label))}" if row.unknown else escape(str(row.label))
            result = label if row.error is None else f"{escape(row.error)}; {escape(str(row.remedy))}"
            cells.append((shown, escape(row.path), result, "" if row.confidence is None else f"{row.confidence:.1%}"))
        more = f"<p>and {len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return table(("image", "path", "label", "confidence"), cells) + more


@dataclass(frozen=True)
class Explanation:
    """A heat map: where an image (S, S, 3) uint8 speaks for `label`, `heat` (S, S) float32 from 0 to 1."""

    path: str
    label: str
    probability: float
    method: str
    image: np.ndarray
    heat: np.ndarray

    @property
    def overlay(self) -> np.ndarray:
        """The image (S, S, 3) uint8 under its heat map."""
        return explanation.overlay(self.image, self.heat)

    def __repr__(self) -> str:
        return f"<{self.method} of {self.path}: {self.label} {self.probability:.1%}>"

    def _repr_html_(self) -> str:
        pair = picture(self.image, self.path, HEAT_MAP) + picture(self.overlay, f"heat map of {self.label}", HEAT_MAP)
        return f"{pair}<p>{escape(self.path)}: {escape(self.label)} {self.probability:.1%}, {escape(self.method)}</p>"


class Model:
    """A trained network with the preprocessing and the class names of its training."""

    def __init__(self, classifier: Classifier, info: ModelInfo) -> None:
        self.classifier, self.info = classifier, info

    @property
    def classes(self) -> tuple[str, ...]:
        return self.classifier.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """The size, the resizing and the background that images are prepared with."""
        return self.classifier.checkpoint.preprocessing

    def __repr__(self) -> str:
        return f"<{self.info.description}: {len(self.classes)} classes, {self.preprocessing.image_size} px>"

    def predict(self, images: Images, coverage: float | None = None, refuse: float | None = None) -> Predictions:
        """Return a prediction for each image; one that cannot be read has an error and its remedy instead.

        With a coverage, such as 0.9, each row has a `prediction_set` too: classes that hold the true one for this share of
        images. Raises ParamsError where that needs more validation images than the model was trained with.

        A row is `unknown` where its image is unlike the training images, `distance` away from them. With `refuse`, such as
        0.02, that share of images like them is, from this call on; 0 is for none. Raises ParamsError where the model has no
        abstention.

        Images are files, folders (searched with their subfolders), globs, PIL images, or arrays (H, W, 3) or (H, W) uint8,
        one or several of them. Raises WorkspaceError if a folder or a glob holds no image.
        """
        if coverage is not None:
            self.classifier.checkpoint.conformal.check(coverage)
        if refuse is not None:
            self.classifier.refuse(refuse)
        rows, thumbnails = [], []
        for batch in _batches(_listed(images)):
            squares = [self._square(item) for item in batch]
            readable = [square for square, _ in squares if square is not None]
            predictions = iter(self.classifier.measure(np.stack(readable)).predictions() if readable else [])
            for item, (square, reason) in zip(batch, squares, strict=True):
                own = None if square is None else next(predictions)
                rows.append(image_files.row(_name(item), self.classifier, own, reason))
                if coverage is not None and own is not None and own.probabilities is not None:
                    (rows[-1].prediction_set,) = self.classifier.prediction_sets(own.probabilities[None], coverage)
                thumbnails.append(square)
        return Predictions(rows, self.classes, thumbnails)

    def explain(self, image: OneImage, label: str = "", by: str = "") -> Explanation:
        """Return the heat map of an image for a label, by default the one that is predicted.

        `by` is LayerCAM, Grad-CAM or occlusion; by default what suits the network. Raises ParamsError for another name or
        label, SourceError if the image cannot be read.
        """
        if by and by not in explanation.METHODS:
            raise ParamsError(f'there is no method "{by}"', f"choose from {', '.join(explanation.METHODS)}")
        if label and label not in self.classes:
            raise ParamsError(f'there is no class "{label}"', f"choose from {', '.join(self.classes)}")
        square, reason = self._square(image)
        if square is None:
            raise SourceError(f"{_name(image)} cannot be read: {reason[0]}", reason[1])
        probabilities = self.classifier.probabilities(square[None])[0]
        target = self.classes.index(label) if label else int(probabilities.argmax())
        heats, method = explanation.heat_maps(self.classifier.network, square[None], [target], by)
        return Explanation(_name(image), self.classes[target], float(probabilities[target]), method, square, heats[0])

    def embed(self, images: Images) -> np.ndarray:
        """Return embeddings (N, D) float32. Raises SourceError that names the first image that cannot be read."""
        parts = [np.empty((0, self.classifier.network.features.dim), np.float32)]
        for batch in _batches(_listed(images)):
            squares = []
            for item in batch:
                square, reason = self._square(item)
                if square is None:
                    raise SourceError(f"{_name(item)} cannot be read: {reason[0]}", reason[1])
                squares.append(square)
            parts.append(self.classifier.embed(np.stack(squares))[0])
        return np.concatenate(parts)

    def _square(self, image: OneImage) -> tuple[np.ndarray | None, Problem]:
        """Return an image (S, S, 3) uint8 as `ingest` prepares it, or None with the reason and its remedy."""
        settings = (self.preprocessing.image_size, self.preprocessing.resize, self.preprocessing.background)
        if isinstance(image, Image.Image):
            try:
                image = upright.upright_rgb(image, image.getexif().get(ORIENTATION), self.preprocessing.background)
            except OSError as error:  # Pillow reads a file when its pixels are needed
                return None, (str(error).lower(), image_files.problem_of("corrupt")[1])
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim < 2 or image.shape[2:] not in CHANNELS or not image.size:
                reason = f"an array {image.shape} of {image.dtype} is no image"
                raise ParamsError(reason, "pass (H, W, 3) or (H, W) uint8, or a list of such arrays")
            decoded = decoding.from_array(image, *settings)
        else:
            content, problem = image_files.read(Path(image))
            if content is None:
                return None, problem
            decoded = decoding.decode(content, *settings)
        return decoded.pixels, NO_PROBLEM if decoded.pixels is not None else image_files.problem_of(decoded.reason)


def _listed(images: Images) -> list[OneImage]:
    """Return every image; folders and globs are searched."""
    is_one = isinstance(images, str | os.PathLike | Image.Image | np.ndarray) or not isinstance(images, Iterable)
    items: list[Any] = [images] if is_one else list(images)  # type: ignore[arg-type]
    result: list[OneImage] = []
    for item in items:
        if isinstance(item, Image.Image | np.ndarray):
            result.append(item)
            continue
        if not isinstance(item, str | os.PathLike):
            remedy = "pass a path, a PIL image or an array (H, W, 3) uint8, or a list of them"
            raise ParamsError(f"{item!r:.60} is no image", remedy)
        files = list(image_files.expand([os.fspath(item)]))
        if not files:
            raise WorkspaceError(f"there are no images in {os.fspath(item)}", "folders are searched for *.jpg, *.png, …")
        result += files
    return result


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _name(image: OneImage) -> str:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"<{type(image).__name__}>"
