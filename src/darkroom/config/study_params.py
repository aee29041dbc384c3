"""studies/params.yaml as frozen models: a section per study, with a key per size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field

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
    """The whole of studies/params.yaml; `size` is the one that `dvc repro` runs."""

    size: Literal["quick", "smoke", "full"]
    machine: Machine
    initialization: Sizes[Initialization]
    mlp: Sizes[Ablation]
    cnn: Sizes[Ablation]
    nin: Sizes[Ablation]
    features: Sizes[Ablation]
    depth: Sizes[Depth]
    bottleneck: Sizes[Bottleneck]
    inception: Sizes[Inception]
    separable: Sizes[Separable]
    inverted: Sizes[Inverted]
    architecture: Sizes[Architecture]
    scaling: Sizes[Scaling]
    augmentation: Sizes[Augmentation]
    transfer: Sizes[Transfer]
    optimizer: Sizes[Optimizer]
    practice: Sizes[Practice]
    tune: Sizes[Tune]
    autoencoder: Autoencoder


def parse(content: Any, hint: str = "", origin: str = str(FILE)) -> Studies:
    """Return the params, or raise one ParamsError that lists every mistake; `hint` ends the remedy."""
    return validate(Studies, content, origin, hint)


def has_size(content: Any, name: str, size: str) -> bool:
    """Tell whether the content of a file has the settings of a study for a size."""
    return isinstance(content, dict) and isinstance(content.get(name), dict) and isinstance(content[name].get(size), dict)


def read(path: Path = FILE) -> Studies:
    """Read and validate the params of the studies."""
    return parse(read_yaml(path), origin=str(path))


def model_of(name: str) -> type[Setting]:
    """Return the model of a study's settings."""
    sizes: Any = Studies.model_fields[name].annotation
    model: type[Setting] = sizes.model_fields[SIZES[0]].annotation
    return model
