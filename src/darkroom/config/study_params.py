"""studies/params.yaml as frozen models: a section per study, with a key per size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import Field, create_model

from darkroom.config.params import Count, NonNegative, Section, Seed, read_yaml, validate
from darkroom.config.study_settings import (
    Ablation,
    Architecture,
    Augmentation,
    Bottleneck,
    Depth,
    Inception,
    Initialization,
    Inverted,
    NonNegativeInt,
    Optimizer,
    Pixels,
    Practice,
    Scaling,
    Separable,
    Setting,
    Text,
    Transfer,
    Tune,
)

FILE = Path("studies/params.yaml")
SIZES = ("quick", "smoke", "full")


class StudyEntry(NamedTuple):
    """What one study is: a line of summary, the model of its settings, and its module in darkroom.studies, which has its name
    where none is given. Its class is `NameStudy`."""

    summary: str
    settings: type[Setting]
    module: str = ""


STUDIES = {  # the registry of studies, in the order in which they are listed
    "initialization": StudyEntry("ten initialisations of the weights", Initialization, "training_settings"),
    "mlp": StudyEntry("a perceptron with fewer images, dropout, weight decay", Ablation, "ablation"),
    "cnn": StudyEntry("a convolutional network without one of its parts", Ablation, "ablation"),
    "nin": StudyEntry("Network in Network with and without its 1×1 convolutions", Ablation, "ablation"),
    "features": StudyEntry("histograms of gradients against a convolutional network, by number of images", Ablation, "ablation"),
    "architecture": StudyEntry("architecture families at equal multiply-adds", Architecture, "architectures"),
    "depth": StudyEntry("plain and residual networks, shallow and deep", Depth, "architectures"),
    "bottleneck": StudyEntry("1×1 convolutions that leave fewer channels to 5×5 ones", Bottleneck, "architectures"),
    "inception": StudyEntry("Inception modules, naive ones, and 3×3 convolutions of the same cost", Inception, "architectures"),
    "separable": StudyEntry(
        "depthwise-separable and standard convolutions, at equal width and at equal cost", Separable, "architectures"
    ),
    "inverted": StudyEntry(
        "MobileNet's two versions at equal cost, and the second without one of its parts", Inverted, "architectures"
    ),
    "scaling": StudyEntry("more depth, more width, larger images or all three, at equal multiply-adds", Scaling),
    "augmentation": StudyEntry("augmentation policies, and the number of views of an image", Augmentation, "training_settings"),
    "transfer": StudyEntry("the trained part of a network, the number of training images, the source of the weights", Transfer),
    "optimizer": StudyEntry(
        "optimizers, schedules and batch sizes, each with its own learning rate", Optimizer, "training_settings"
    ),
    "practice": StudyEntry("test-time crops and ensembles against one network", Practice),
    "tune": StudyEntry("Optuna's TPE, random search and no search, at equal cost", Tune),
}


class Machine(Section):
    """The machine; changes how long a study takes, and no figure."""

    processes: Count
    accelerator: Literal["auto", "cpu", "cuda", "mps"]


class Autoencoder(Section):
    """The options of `darkroom lab autoencoder`."""

    data: Text
    source: Text
    size: Pixels
    images: Count
    codes: Annotated[list[Count], Field(min_length=1)]
    epochs: Count
    conv_epochs: NonNegativeInt
    noise: NonNegative
    seed: Seed


Kind = TypeVar("Kind", bound=Setting)


class Sizes(Section, Generic[Kind]):
    """The settings of a study by size: minutes, less than one, as long as it takes."""

    quick: Kind
    smoke: Kind | None = None  # files of earlier versions have none
    full: Kind


class Studies(Section):
    """What studies/params.yaml has besides the sections of the studies; `size` is the one that `dvc repro` runs."""

    size: Literal["quick", "smoke", "full"]
    machine: Machine
    autoencoder: Autoencoder


_SECTIONS: Any = {name: (Sizes[entry.settings], ...) for name, entry in STUDIES.items()}  # type: ignore[name-defined]
WholeFile = create_model("WholeFile", __base__=Studies, __doc__="The whole of studies/params.yaml.", **_SECTIONS)


def parse(content: Any, hint: str = "", origin: str = str(FILE)) -> Studies:
    """Return the params, or raise one ParamsError that lists every mistake; `hint` ends the remedy."""
    return validate(WholeFile, content, origin, hint)


def has_size(content: Any, name: str, size: str) -> bool:
    """Tell whether the content of a file has the settings of a study for a size."""
    return isinstance(content, dict) and isinstance(content.get(name), dict) and isinstance(content[name].get(size), dict)


def read(path: Path = FILE) -> Studies:
    """Read and validate the params of the studies."""
    return parse(read_yaml(path), origin=str(path))


def model_of(name: str) -> type[Setting]:
    """Return the model of a study's settings."""
    return STUDIES[name].settings
