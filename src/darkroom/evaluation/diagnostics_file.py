"""Content of diagnostics.json, which docs/evaluation.md describes; `metrics_io` reads and writes it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AliasChoices, Field

from darkroom.evaluation.metrics_io import Combinations, Content, Document, Range

DIAGNOSTICS = "diagnostics.json"


class Corruption(Content):
    """Accuracy of the model and of the pixel baseline in each severity of a corruption, mildest first."""

    kind: str
    accuracy: list[float]
    pixel_baseline: list[float]


class Robustness(Content):
    """Accuracy and mean corruption errors on `images` test images of `of`."""

    of: int
    images: int
    accuracy: float
    corruption_error: float
    pixel_baseline_accuracy: float
    pixel_baseline_corruption_error: float
    mean_corruption_error: float | None = Field(validation_alias=AliasChoices("mean_corruption_error", "relative_corruption_error"))
    corruptions: dict[str, Corruption]


class Slice(Content):
    """Accuracy on the images with one value of a column, and on the `rest`."""

    column: str
    value: str
    images: int
    accuracy: float
    low: float
    high: float
    rest: float
    p: float
    p_holm: float


class Mistake(Content):
    """A misclassified test image, the confidence of the prediction, and the probability of the true class."""

    path: str
    sha256: str
    label: str
    predicted: str
    confidence: float
    label_probability: float


class ConfusedPair(Content):
    """Two classes, and how many images of either are classified as the other."""

    classes: tuple[str, str]
    count: int
    first_as_second: int
    second_as_first: int
    share: float


class AlwaysWrong(Content):
    """A test image that every model misclassifies; `models` has the prediction and the confidence of each."""

    path: str
    sha256: str
    label: str
    predicted: str
    agree: int
    confidence: float
    models: dict[str, tuple[str, float]]


class Counts(Content):
    """Numbers of test images: all, and those that the best model, or every model, misclassifies."""

    images: int
    mistakes: int
    always_wrong: int


class LabelCheck(Content):
    """How label issues were found: inputs and `c` of the regression, accuracy out of fold, their number.

    `wrong_share` is the estimated share of wrong labels among all images, `expected_precision` that among the
    candidates, and `expected_precision_at_10` among the first ten; older files lack these, and they are null without
    candidates.
    """

    inputs: str
    folds: int
    c: float
    images: int
    accuracy: float
    candidates: int
    draws: int = 1
    temperature: float = 1.0
    wrong_share: float | None = None
    expected_precision: float | None = None
    expected_precision_at_10: float | None = None


class Accuracies(Content):
    """The mean accuracy over draws of training images, the lowest and the highest."""

    mean: float
    low: float
    high: float


class LearningCurve(Content):
    """Test accuracy of linear classifiers of each kind of inputs by the number of training images, the fewest first.

    `embedder` is the model whose frozen backbone makes the features, None without one; `of` are all training images. `gain` is
    that of the last doubling, with its 95% interval, for features, or without them for pixels.
    """

    embedder: str | None
    of: int
    test_images: int
    images: list[int]
    curves: dict[str, list[Accuracies]]
    gain: float
    gain_interval: Range


class Diagnostics(Document):
    """Content of diagnostics.json; older files lack the learning curve, and it is null with too few images or too many classes."""

    SCHEMA: ClassVar[int] = 3
    STAGE: ClassVar[str] = "diagnose"

    model: str
    robustness: Robustness
    slices: list[Slice]
    views: Combinations
    counts: Counts
    mistakes: list[Mistake]
    confused: list[ConfusedPair]
    always_wrong: list[AlwaysWrong]
    labels: LabelCheck
    learning_curve: LearningCurve | None = None
