"""studies/params.yaml as frozen models, as `darkroom.params` has params.yaml: a section per study, with a key per size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from darkroom.config.params import Count, NotNegative, Number, Positive, Section, Seed, Share, read_yaml, validated
from darkroom.core.errors import nearest

FILE = Path("studies/params.yaml")
SIZES = ("quick", "full")
Size = Annotated[int, Field(ge=8, le=1024, strict=True)]
Optimizers = Literal["adamw", "sgd", "adam", "heavy_ball", "plain_sgd"]
Schedules = Literal["cosine", "constant", "step", "linear", "one_cycle"]
Policy = Literal["none", "light", "standard", "strong", "characters"]
Options = dict[str, Any]
REPEATING = ("hidden",)  # lists that may hold a value twice


class Machine(Section):
    """What members run on; the number of processes changes how long a study takes, and no figure."""

    processes: Count
    accelerator: Literal["auto", "cpu", "cuda", "mps"]


class Setting(Section):
    """What every study takes: its data, how often it is repeated, and how members are trained; `Timed`: for how long."""

    data: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    image_size: Size
    channels: Literal[1, 3]
    images: Count | None
    held_out: Share
    seeds: Annotated[int, Field(ge=3, strict=True)]
    batch_size: Annotated[int, Field(ge=2, strict=True)]
    optimizer: Optimizers
    lr: Positive
    weight_decay: NotNegative
    looks: Count

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        for name, value in self:
            if isinstance(value, list) and name not in REPEATING and len(set(map(str, value))) < len(value):
                raise ValueError(f"{name} names something twice")
        return self


class Timed(Setting):
    epochs: Count
    warmup_epochs: NotNegative


class Initialization(Timed):
    networks: Annotated[list[Literal["mlp", "cnn"]], Field(min_length=1)]
    hidden: Annotated[list[Count], Field(min_length=1)]
    schemes: Annotated[list[str], Field(min_length=2)]


class Depth(Timed):
    depths: Annotated[list[Literal[8, 20, 32, 44, 56]], Field(min_length=2)]
    width: Annotated[int, Field(ge=4, le=256, strict=True)]


class Bottleneck(Timed):
    width: Annotated[Number, Field(gt=0, le=2)]  # of table 1's modules


class Separable(Timed):
    width: Annotated[Number, Field(gt=0, le=2)]  # of MobileNet's layers


class Architecture(Setting):
    budget: Positive  # of each member, in 10⁹ multiply-adds, forward and backward
    warmup: Share  # of the steps
    architectures: Annotated[dict[str, dict[str, Any]], Field(min_length=2)]


class Scaling(Timed):
    base_size: Size  # pixels a side of the base; images are read at `image_size`
    width: Annotated[Number, Field(gt=0, le=2)]  # of EfficientNet-B0's layers
    factors: Annotated[list[Annotated[Number, Field(gt=1, le=64)]], Field(min_length=1)]  # of the base's multiply-adds


class Augmentation(Timed):
    architecture: Annotated[str, Field(min_length=1)]
    options: Options
    policies: Annotated[list[Policy], Field(min_length=2)]  # the first is what the others are compared with
    policy: Policy  # of the numbers of views
    views: Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Field(min_length=2)]  # 0: new ones in each epoch


class Transfer(Setting):
    steps: Count  # of each member
    warmup: Share  # of the steps
    architecture: Annotated[str, Field(min_length=1)]
    options: Options
    few: Annotated[int, Field(ge=2, strict=True)]  # training images where their number is not what is asked about
    blocks: Annotated[list[Count], Field(min_length=1)]  # how many of the last blocks are trained
    learning: Annotated[list[Annotated[int, Field(ge=2, strict=True)]], Field(min_length=2)]  # numbers of training images
    sources: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]  # for the source imagenet: imagenet (downloaded), or a folder of files
    before_images: Count
    before_steps: Count
    before_lr: Positive

    @field_validator("sources")
    @classmethod
    def _apart(cls, sources: list[str]) -> list[str]:
        if "random" in sources:
            raise ValueError("random is there without being named")
        return sources


class Optimizer(Timed):
    lr: NotNegative  # 0: what a range test finds  # type: ignore[assignment]
    architecture: Annotated[str, Field(min_length=1)]
    options: Options
    optimizers: Annotated[list[Optimizers], Field(min_length=2)]
    schedules: Annotated[list[str], Field(min_length=2)]
    batch_sizes: Annotated[list[Annotated[int, Field(ge=2, strict=True)]], Field(min_length=2)]


class Practice(Timed):
    architecture: Annotated[str, Field(min_length=1)]
    width: Annotated[int, Field(ge=4, le=256, strict=True)]
    policy: Policy
    together: Annotated[int, Field(ge=2, le=20, strict=True)]  # networks of an ensemble
    ways: Annotated[list[str], Field(min_length=2)]


class Configured(Section):
    """What a search may vary, beside the options of the architecture."""

    lr: Positive
    weight_decay: NotNegative
    batch_size: Annotated[int, Field(ge=2, strict=True)]
    optimizer: Optimizers
    schedule: Schedules
    warmup: Share  # of the steps
    policy: Policy
    views: Annotated[int, Field(ge=0, strict=True)]  # 0: new ones in each epoch
    scheme: str  # as the architecture draws its weights where there is none


class Tune(Setting, Configured):
    epochs: Count
    architecture: Annotated[str, Field(min_length=1)]
    options: Options
    on: Literal["baseline", "embeddings"]
    before: Annotated[str, Field(min_length=1)]  # whose embeddings: glyphs, rotations, imagenet, a folder, a data set
    weights: Annotated[str, Field(min_length=1)]  # for imagenet: imagenet (downloaded), or a folder of files
    before_images: Count
    before_steps: Count
    before_lr: Positive
    inner: Annotated[Number, Field(gt=0, lt=1)]  # share of the training images by which trials are judged
    budget: Annotated[int, Field(ge=2, strict=True)]  # of a search, in whole trainings
    pruner: Literal["median", "hyperband", "none"]
    space: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]

    @field_validator("space")
    @classmethod
    def _declared(cls, space: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        """Check that each key is a setting, its values are such as that takes, and the section's own value is among them."""
        if {"options", "on", *Configured.model_fields} <= info.data.keys():
            given = {name: info.data[name] for name in Configured.model_fields}
            own = given | {f"options.{name}": value for name, value in info.data["options"].items()}
            if info.data["on"] == "embeddings":  # the network below the head is there before the search
                own = {name: own[name] for name in Configured.model_fields if name != "scheme"}
            for name, declared in space.items():
                if name not in own:
                    raise ValueError(f'"{name}" cannot be searched{nearest(name, own)}; there are {", ".join(own)}')
                for value in _values(name, declared, own[name]):
                    try:
                        Configured.model_validate(given | ({name: value} if name in given else {}))
                    except ValidationError as error:
                        raise ValueError(f"{name} cannot be {value!r}: {error.errors()[0]['msg']}") from None
        return space


def _values(name: str, declared: dict[str, Any], own: Any) -> list[Any]:
    """Return the choices or the ends between which a setting may vary; `own`, what it is without a search, has to be there."""
    keys, number = set(declared), (int, float)
    if keys == {"low", "high", "log"} and all(type(value) in number for value in (declared["low"], declared["high"], own)):
        low, high = values = [declared["low"], declared["high"]]
        is_finite, is_log = math.isfinite(low) and math.isfinite(high), declared["log"]
        is_sound = is_finite and low < high and type(is_log) is bool and (low > 0 or not is_log)
        is_within = low <= own <= high
    elif keys == {"choices"} and isinstance(declared["choices"], list):
        values = declared["choices"]
        kind = (str,) if isinstance(own, str) else number
        is_sound, is_within = len(values) > 1 and all(isinstance(value, kind) for value in values), own in values
    else:
        raise ValueError(f"{name} takes {{choices: […]}}, or {{low, high, log}} if it is a number")
    if not is_sound:
        raise ValueError(
            f"{name} takes two choices or more of the kind of {own!r}; or low < high, finite, above 0 where log is true"
        )
    if not is_within:
        raise ValueError(f"{name} is {own!r} without a search, which its space does not have")
    return values


class Autoencoder(Section):
    """What the lab's command takes as options."""

    data: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    size: Size
    images: Count
    codes: Annotated[list[Count], Field(min_length=1)]
    epochs: Count
    conv_epochs: Annotated[int, Field(ge=0, strict=True)]
    seed: Seed


Kind = TypeVar("Kind", bound=Setting)


class Sizes(Section, Generic[Kind]):
    """A study in minutes, and one to be sure of."""

    quick: Kind
    full: Kind


class Studies(Section):
    """The whole of studies/params.yaml; `size` is the one that `dvc repro` runs."""

    size: Literal["quick", "full"]
    machine: Machine
    initialization: Sizes[Initialization]
    depth: Sizes[Depth]
    bottleneck: Sizes[Bottleneck]
    separable: Sizes[Separable]
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
    return validated(Studies, content, origin, hint)


def read(path: Path = FILE) -> Studies:
    """Read and validate the params of the studies."""
    return parse(read_yaml(path), origin=str(path))
