"""params.yaml as frozen models: every key is typed and bounded, and the file decides.

Only a key that files of earlier versions lack has a default.

A mistake becomes a `ParamsError` that names the key, the problem and, for an unknown key, its nearest neighbour.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from darkroom.config.backbone_names import BackboneName
from darkroom.config.yaml_files import parse_assignment, parse_yaml, read_yaml
from darkroom.core import user_paths
from darkroom.core.errors import HALF_CHARACTER, ParamsError, nearest
from darkroom.core.source_names import decorated_functions

__all__ = ["Params", "listed", "mistakes", "parse", "parse_assignment", "parse_yaml", "read", "read_yaml", "validate"]

Dataset = Literal["digits", "glyphs", "mnist", "fashion_mnist", "cifar10", "url"]
Metric = Literal["log_loss", "accuracy", "macro_f1", "balanced_accuracy"]  # by which the best model is chosen
DATASETS = get_args(Dataset)
POLICIES = decorated_functions(Path(__file__).parents[1] / "augmentation" / "policies.py", "policy")
if TYPE_CHECKING:
    Policy = str
else:
    Policy = Literal[POLICIES]
SOURCES = ("imagenet", "package", "pretrain", "random", "folder")  # of weights
WEIGHTS = "data/weights"  # `weights.folder` where no other is named
OWN_CODE, KEPT_CODE = Path("backbones"), Path(".darkroom/own-backbones")  # of networks of a person's own: as it is, and was
SPLITS = ("train", "val", "test")

Count = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Channel = Annotated[int, Field(ge=0, le=255, strict=True)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=Section)


class Compute(Section):
    """The seed and the machine: threads, accelerator, precision, processes. They are part of a run's result."""

    seed: Seed
    threads: Count
    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    processes: Count = 1


class Fetch(Section):
    datasets: list[Dataset]
    source: Annotated[str, Field(min_length=1)]
    glyphs: Annotated[int, Field(ge=62, strict=True)]
    url: str = ""
    version: Annotated[str, Field(pattern="^[0-9a-z]*$")] = ""

    @model_validator(mode="after")
    def _check_url(self) -> Fetch:
        if "url" in self.datasets and not user_paths.is_address(self.url):
            raise ValueError("url is no address, and datasets has url, which is a copy of it: `darkroom recipe --data ADDRESS`")
        if user_paths.has_secret(self.url):
            raise ValueError(
                "url has a password, a key or a signature, which git would keep: write the address alone, and give credentials in "
                "the environment (AWS_ACCESS_KEY_ID, …) or in fsspec's configuration"
            )
        return self


class Ingest(Section):
    source: Annotated[str, Field(min_length=1)]
    image_size: Annotated[int, Field(ge=8, le=1024, strict=True)]
    resize: Literal["crop", "pad", "stretch"]
    background: tuple[Channel, Channel, Channel]
    min_size: Count
    class_folder: Literal["auto", "first", "last"] = "auto"
    split_by: Literal["hash", "stratified"]
    val_share: Share
    test_share: Share
    near_duplicates: Literal["group", "exact", "off"] = "group"
    on_conflict: Literal["quarantine", "keep"]
    on_leak: Literal["quarantine", "keep"]
    max_quarantined: Fraction
    seed: Seed

    @model_validator(mode="after")
    def _check_shares(self) -> Ingest:
        if self.val_share + self.test_share >= 0.9:
            raise ValueError("val_share and test_share together leave less than a tenth for training")
        return self


class Augment(Section):
    policy: Policy
    views: Annotated[int, Field(ge=1, le=100_000, strict=True)]
    storage: Literal["stored", "online"]
    seed: Seed


class Weights(Section):
    source: str
    folder: Annotated[str, Field(min_length=1)]
    pretrain_on: Annotated[str, Field(min_length=1)]
    pretrain_images: Annotated[int, Field(ge=100, strict=True)]
    pretrain_epochs: Count
    pretrain_budget: Positive
    pretrain_lr: Positive
    pretrain_batch_size: Annotated[int, Field(ge=2, strict=True)]

    @model_validator(mode="after")
    def _check_source(self) -> Weights:
        if self.source not in SOURCES:
            raise ValueError(
                f'source is "{self.source}"{nearest(self.source, SOURCES)}; it is {", ".join(SOURCES[:-1])} or {SOURCES[-1]}, '
                "and a folder of weight files is `folder`: `darkroom recipe --weights FOLDER` writes both"
            )
        if self.folder.startswith("~"):
            raise ValueError("folder: write the whole path, DVC does not know ~ (`darkroom recipe --weights` expands it)")
        return self


class Embed(Section):
    feature_maps: Literal["float32", "float16"] = "float32"
    feature_maps_gib: Annotated[Number, Field(ge=0)] = 8


class Training(Section):
    """The settings of the training loop."""

    epochs: Count
    batch_size: Annotated[int, Field(ge=2, strict=True)]
    optimizer: Literal["adamw", "sgd"]
    lr: Positive
    weight_decay: NonNegative
    warmup_epochs: NonNegative
    label_smoothing: Share
    class_weights: Literal["none", "balanced"]
    patience: Count


class Baseline(Training):
    architecture: Annotated[str, Field(pattern=r"^[a-z0-9_/.]+$")]
    channels: Literal[1, 3]
    width: Annotated[int, Field(ge=4, le=512, strict=True)]

    @field_validator("architecture", mode="before")
    @classmethod
    def _check_architecture(cls, name: Any) -> Any:
        if isinstance(name, str) and name.startswith("own/"):  # DVC would not run the stage again for an edited file
            raise ValueError(
                "a network of your own is one of `backbones`; with `weights.source: random` and a `finetune.unfreeze` of all its "
                "blocks it is trained from scratch"
            )
        return name


class Transfer(Training):
    head: Literal["pooled", "classifier"]


class Finetune(Training):
    unfreeze: Number  # a whole number of blocks, or a share of them below 1
    lr_decay: Annotated[Number, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _check_unfreeze(self) -> Finetune:
        if self.unfreeze <= 0 or (self.unfreeze > 1 and self.unfreeze != int(self.unfreeze)):
            raise ValueError(f"unfreeze is a whole number of blocks or a share of them below 1, not {self.unfreeze}")
        return self


class Evaluate(Section):
    select: Metric = "log_loss"
    top_k: Count
    batch_size: Count
    refuse: Annotated[Number, Field(ge=0, lt=1)] = 0.02


class Diagnose(Section):
    robustness_images: Count
    views: Literal["none", "mirror", "crops"]


class Register(Section):
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    promote: Literal["gate", "manual", "never"]
    min_accuracy: Fraction
    max_drop: Fraction
    max_class_drop: Fraction
    max_calibration_error: Fraction
    max_milliseconds: Positive | None
    max_megabytes: Positive | None
    quantize: Literal["none", "int8"] = "none"


class Params(Section):
    """The whole of params.yaml."""

    backbones: list[BackboneName]
    compute: Compute
    fetch: Fetch
    ingest: Ingest
    augment: Augment
    weights: Weights
    embed: Embed = Embed()
    baseline: Baseline
    transfer: Transfer
    finetune: Finetune
    cross_validation: Annotated[int, Field(ge=0, le=100, strict=True)] = 0
    evaluate: Evaluate
    diagnose: Diagnose
    register_: Register = Field(alias="register")

    @model_validator(mode="after")
    def _check_sections(self) -> Params:
        if len(set(self.backbones)) != len(self.backbones):
            raise ValueError("backbones names a network twice")
        for name in self.backbones:
            inside = next((other for other in self.backbones if other.startswith(f"{name}/")), None)
            if inside:  # one's folder of outputs would be inside the other's
                raise ValueError(f"backbones names {name} and {inside}: the one's files would lie among the other's")
        if self.cross_validation == 1:
            raise ValueError("cross_validation is a number of folds, 2 or more, or 0: off")
        if self.weights.source == "pretrain" and _is_overlap(self.weights.pretrain_on, self.ingest.source):
            raise ValueError("weights.pretrain_on overlaps with the data set itself: its test images would leak into the weights")
        if len(set(self.fetch.datasets)) != len(self.fetch.datasets):
            raise ValueError("fetch.datasets names a data set twice")
        if user_paths.is_address(self.ingest.source):
            raise ValueError(
                "ingest.source is an address on the network, whose files the stage fetch copies: `darkroom recipe --data ADDRESS` "
                "writes fetch.url, fetch.version and ingest.source"
            )
        if self.ingest.source.startswith("~"):
            raise ValueError("ingest.source: write the whole path, DVC does not know ~ (`darkroom recipe --data` expands it)")
        return self

    def model_names(self) -> list[str]:
        """Return the names of the models that are trained: `baseline`, `transfer/vgg16`, `finetune/vgg16`."""
        return ["baseline", *(f"{stage}/{name}" for stage in ("transfer", "finetune") for name in self.backbones)]


def _is_overlap(one: str, other: str) -> bool:
    """Tell whether two sources are the same, or one lies within the other; a named data set lies in data/raw."""
    first, second = (Path("data/raw", name) if name in DATASETS else Path(os.path.expanduser(name)) for name in (one, other))
    first, second = first.resolve(), second.resolve()
    above = second == first.parent if one in DATASETS else second in first.parents  # a data set by name is no folder yet
    return first == second or first in second.parents or above


def parse(content: Any, origin: str = "params.yaml") -> Params:
    """Return the params, or raise one ParamsError that lists every mistake."""
    return validate(Params, content, origin, "; `darkroom recipe --list` lists complete sets of values")


def validate(model: type[Model], content: Any, origin: str, hint: str = "") -> Model:
    """Return the content of the file `origin` as a model.

    Raises one ParamsError that lists every mistake; `hint` is the end of its remedy.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [_explain(item, content, model) for item in error.errors()]
        raise ParamsError(
            f"{origin}: {listed(problems)}", f"correct {origin}; `git diff {origin}` shows what changed{hint}"
        ) from None
    except UnicodeEncodeError:
        raise ParamsError(f"{origin}: {HALF_CHARACTER}", f"correct {origin}{hint}") from None


def mistakes(content: Any) -> list[str]:
    """Return every mistake in the content of params.yaml, a sentence each."""
    try:
        Params.model_validate(content)
    except ValidationError as error:
        return [_explain(item, content, Params) for item in error.errors()]
    except UnicodeEncodeError:
        return [HALF_CHARACTER]
    return []


def listed(problems: list[str]) -> str:
    """Return one sentence, or several with their number."""
    return ("" if len(problems) == 1 else f"{len(problems)} mistakes\n  ") + "\n  ".join(problems)


def _explain(item: Any, content: Any, model: Any) -> str:
    """Turn one of pydantic's errors into a sentence."""
    where = [str(part) for part in item["loc"]]
    key = ".".join(where) or "the file"
    if item["type"] == "extra_forbidden":
        for part in where[:-1]:
            model = next((f.annotation for n, f in model.model_fields.items() if part in (n, f.alias)), model)
        keys = [f.alias or name for name, f in model.model_fields.items()]
        return f'unknown key "{key}"{nearest(where[-1], keys)}'
    if item["type"] == "missing":
        return f'"{key}" is missing'
    if not where and not isinstance(content, dict):
        return "the file is not a mapping of sections"
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not where:
        return message
    return f"{key}: {message}" + (f" (it is {item['input']!r})" if where and len(where) > 1 else "")


def read(path: Path = Path("params.yaml")) -> Params:
    """Read and validate a params file."""
    return parse(read_yaml(path), str(path))
