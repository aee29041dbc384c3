"""Contents of metrics.json and details.json, and the reader and the writer of these and of diagnostics.json (`diagnostics_file`).

docs/evaluation.md describes every field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from darkroom.core import atomic, json_files
from darkroom.core.errors import WorkspaceError

METRICS, DETAILS = "metrics.json", "details.json"
PIXEL_BASELINE = "pixel_baseline"  # logistic regression on pixels; has no checkpoint and is never selected
OLD_NAMES = {"reference": PIXEL_BASELINE}  # names of models in files of earlier versions
ModelName = Annotated[str, AfterValidator(lambda name: OLD_NAMES.get(name, name))]
REMEDY = "run `dvc repro evaluate`"
Range = tuple[float, float] | None


class Content(BaseModel):
    """Base of everything that the files hold; instances are immutable."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Document(Content):
    """Base of what a whole file holds; `STAGE` writes it."""

    SCHEMA: ClassVar[int]
    STAGE: ClassVar[str] = "evaluate"


class Calibration(Content):
    """The temperature of a model, and its expected calibration error with and without it."""

    temperature: float
    ece: float
    ece_uncalibrated: float


class SetMetrics(Content):
    """Prediction sets on test: the share that holds the true class, the mean number of classes, the share without any."""

    coverage: float
    size: float
    empty: float


class AbstentionMetrics(Content):
    """Abstention on test: the share of images that may be unknown and the share that is, the accuracy on the others (None if
    all are), and the validation images of the threshold, which is fitted to them where they are too few for a rank."""

    refuse: float
    refused: float
    accuracy: float | None
    val_images: int
    is_fitted: bool


class AnsweredShare(Content):
    """The accuracy on a share of the images, the others being refused."""

    answered: float
    accuracy: float


class ModelMetrics(Content):
    """Headline figures of one model; `top_<k>_accuracy` is an extra field, since k is a param."""

    model_config = ConfigDict(extra="allow")

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    weighted_f1: float
    log_loss: float
    brier: float
    roc_auc: float | None
    average_precision: float | None
    intervals: dict[str, Range]
    calibration: Calibration
    prediction_sets: dict[str, SetMetrics] = {}  # by the coverage that is asked for
    aurc: float | None = None  # area under the curve of risk and coverage, by confidence
    abstention: AbstentionMetrics | None = None
    val_accuracy: float
    val_macro_f1: float
    val_log_loss: float
    parameters: int
    multiply_adds: int
    checkpoint_bytes: int | None


class ClassMetrics(Content):
    """Figures of one class; the areas are None where they are not defined."""

    precision: float
    recall: float
    f1: float
    support: int
    roc_auc: float | None
    average_precision: float | None


class Bin(Content):
    """An interval of confidence of a reliability curve; without images both means are None."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class ModelDetails(Content):
    """Figures by class, confusions (a row per true class), and reliability with and without temperature."""

    per_class: dict[str, ClassMetrics]
    confusion_matrix: list[list[int]]
    bins: list[Bin]
    bins_uncalibrated: list[Bin]
    answered_by_confidence: list[AnsweredShare] = []
    answered_by_distance: list[AnsweredShare] = []


class Pair(Content):
    """The accuracy of a minus that of b, its interval, and p-values of McNemar's exact test."""

    a: ModelName
    b: ModelName
    difference: float
    low: float | None
    high: float | None
    mcnemar_p: float
    p_holm: float


class Selection(Content):
    """What the choice of the best model rests on: the metric, and validation images or, of `folds`, those of all folds.

    `leader` has the best value, `indistinguishable` are the models that these images cannot tell from the best one,
    `absent_classes` those without images among them.
    """

    metric: str
    leader: ModelName
    folds: int
    images: int
    groups: int
    indistinguishable: list[ModelName]
    absent_classes: list[str]


class CrossValidated(Content):
    """Figures of one model on the images that it was not trained on, of all folds; and its accuracy in each fold."""

    figures: dict[str, float]
    intervals: dict[str, Range]
    accuracy_by_fold: list[float]


class CrossValidation(Content):
    """A cross-validation of every model on the training and validation images; without `folds` it was not asked for."""

    folds: int
    images: int
    groups: int
    models: dict[ModelName, CrossValidated]


class Metrics(Document):
    """Content of metrics.json; `selection` is missing in files of earlier versions, `cross_validation` without folds."""

    SCHEMA: ClassVar[int] = 2

    best: str
    confidence: float
    resamples: int
    images: int
    groups: int
    selection: Selection | None = None
    cross_validation: CrossValidation | None = None
    models: dict[ModelName, ModelMetrics]

    @model_validator(mode="after")
    def _has_best(self) -> Metrics:
        if self.best not in self.models:
            raise ValueError(f"the best model, {self.best}, is not among its models")
        return self

    @property
    def best_figures(self) -> ModelMetrics:
        """Return the figures of the selected model."""
        return self.models[self.best]


class EnsembleMetrics(Content):
    """Figures of an ensemble or of averaged views; `ModelMetrics`' headline figures are extra fields."""

    model_config = ConfigDict(extra="allow")

    members: dict[str, int]
    views: int
    accuracy: float
    log_loss: float
    aurc: float | None = None
    val_accuracy: float
    val_log_loss: float
    parameters: int
    multiply_adds: int
    intervals: dict[str, Range]


class Combinations(Content):
    """Figures of ensembles or of averaged views, and their pairs with the best model."""

    models: dict[ModelName, EnsembleMetrics] = {}
    pairs: list[Pair] = []


class Details(Document):
    """Content of details.json; without ensembles in files of earlier versions."""

    SCHEMA: ClassVar[int] = 2

    classes: list[str]
    models: dict[ModelName, ModelDetails]
    pairs: list[Pair]
    ensembles: Combinations = Combinations()


File = TypeVar("File", bound=Document)


def write(path: Path, content: Document) -> None:
    """Write a file; equal contents give equal bytes."""
    atomic.write_json(path, {"schema": content.SCHEMA, **content.model_dump(mode="json")})


def read(path: Path, kind: type[File]) -> File:
    """Return the content of a file that `evaluate` or `diagnose` wrote.

    Raises WorkspaceError where the file is missing, damaged or has another schema. Names of models of earlier
    versions become today's.
    """
    remedy = f"run `dvc repro {kind.STAGE}`"
    try:
        content = json_files.load(path, remedy)
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} does not exist: nothing has been evaluated yet", remedy) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != kind.SCHEMA:
        raise WorkspaceError(f"{path} has schema {schema}, this Darkroom reads {kind.SCHEMA}", remedy)
    return json_files.validate(content, kind, path, remedy)


def read_both(metrics: Path, details: Path) -> tuple[Metrics, Details]:
    """Return metrics.json and details.json, which must be of one evaluation; errors as of `read`."""
    headlines, figures = read(metrics, Metrics), read(details, Details)
    if headlines.models.keys() != figures.models.keys():
        raise WorkspaceError(f"{metrics} and {details} are of two evaluations: they have different models", REMEDY)
    return headlines, figures
