"""The settings of each study, as frozen models."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from darkroom.config.params import Count, NonNegative, Number, Policy, Positive, Section, Share
from darkroom.core.errors import nearest

RENAMED = {  # keys of earlier versions, which are read as well
    "looks": "eval_points", "ways": "tta_modes", "together": "ensemble_size", "on": "tuned", "few": "few_images",
    "learning": "train_sizes", "inner": "inner_val_share", "before": "pretrain_on", "before_images": "pretrain_images",
    "before_steps": "pretrain_steps", "before_lr": "pretrain_lr",
}  # fmt: skip
REPEATING = ("hidden",)  # lists that may hold a value twice

Pixels = Annotated[int, Field(ge=8, le=1024, strict=True)]
AtLeastTwo = Annotated[int, Field(ge=2, strict=True)]
NonNegativeInt = Annotated[int, Field(ge=0, strict=True)]
Width = Annotated[Number, Field(gt=0, le=2)]
Channels = Annotated[int, Field(ge=4, le=256, strict=True)]
Text = Annotated[str, Field(min_length=1)]
OptimizerName = Literal["adamw", "sgd", "adam", "heavy_ball", "plain_sgd"]
ScheduleName = Literal["cosine", "constant", "step", "linear", "one_cycle"]
Options = dict[str, Any]


class Setting(Section):
    """What every study takes. `Timed` and `Stepped` add the length of a training."""

    data: Text = Field(description="a named data set, a folder of classes, an archive or an .npz")
    source: Text = Field(description="where named data sets come from: download, or a folder with the files as distributed")
    image_size: Pixels = Field(description="pixels a side")
    channels: Literal[1, 3] = Field(description="1: grey, 3: colour")
    images: Count | None = Field(description="maximum number of training images; null: all")
    held_out: Share = Field(description="share that is held out of a source without test images")
    held_out_images: AtLeastTwo | None = Field(None, description="maximum number of held-out images; null: all")
    seeds: Annotated[int, Field(ge=3, strict=True)] = Field(description="runs of each label")
    first_seed: NonNegativeInt = Field(0, description="seed of the first of them; the others follow it")
    batch_size: AtLeastTwo = Field(description="images of a step")
    optimizer: OptimizerName = Field(description="optimizer; sgd has Nesterov's momentum")
    lr: Positive = Field(description="highest learning rate")
    weight_decay: NonNegative = Field(description="weight decay")
    eval_points: Count = Field(description="evaluations of a run, after the one before the first step")

    @property
    def run_seeds(self) -> range:
        """The seeds of the runs of a label."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, content: Any) -> Any:
        return {RENAMED.get(key, key): value for key, value in content.items()} if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _no_duplicates(self) -> Self:
        for name, value in self:
            if isinstance(value, list) and name not in REPEATING and len(set(map(str, value))) < len(value):
                raise ValueError(f"{name} has a value twice")
        return self


class Timed(Setting):
    epochs: Count = Field(description="epochs of a run")
    warmup_epochs: NonNegative = Field(description="epochs of the warm-up")

    def warmup_steps(self, steps: int) -> int:
        return round(self.warmup_epochs * steps / self.epochs)


class Stepped(Setting):
    warmup: Share = Field(description="share of the steps that are warm-up")

    def warmup_steps(self, steps: int) -> int:
        return round(self.warmup * steps)


class Initialization(Timed):
    networks: Annotated[list[Literal["mlp", "cnn"]], Field(min_length=1)] = Field(description="cnn is LeNet-5 with ReLU")
    hidden: Annotated[list[Count], Field(min_length=1)] = Field(description="units of the hidden layers of the mlp")
    schemes: Annotated[list[str], Field(min_length=2)] = Field(description="schemes of models/init.py")


class Depth(Timed):
    depths: Annotated[list[Literal[8, 20, 32, 44, 56]], Field(min_length=2)] = Field(description="layers")
    width: Channels = Field(description="channels of the first stage")


class Bottleneck(Timed):
    width: Channels = Field(description="channels of the first stage")
    kernel: Literal[3, 5, 7] = Field(description="side of the convolutions after the bottlenecks")
    reductions: Annotated[list[AtLeastTwo], Field(min_length=1)] = Field(description="a bottleneck has 1/N of the channels")


class Inception(Timed):
    width: Width = Field(description="share of the channels of GoogLeNet's modules")


class Separable(Timed):
    widths: Annotated[list[Channels], Field(min_length=1)] = Field(description="channels of the first stage")
    blocks: Count = Field(description="blocks of a stage")


class Inverted(Timed):
    width: Channels = Field(description="channels of the first stage of version 1")
    blocks: Count = Field(description="blocks of a stage")


class Architecture(Stepped):
    budget: Positive = Field(description="10⁹ multiply-adds of each run, forward and backward")
    architectures: Annotated[dict[str, Options], Field(min_length=2)] = Field(description="architectures with options")


class OneArchitecture(Setting):
    architecture: Text = Field(description="an architecture of `darkroom models`")
    options: Options = Field(description="options of the architecture")


class Scaling(OneArchitecture, Timed):
    base_size: Pixels = Field(description="pixels a side for the base network; images are read at image_size")
    factors: Annotated[list[Annotated[Number, Field(gt=1, le=64)]], Field(min_length=1)] = Field(
        description="factors of the base network's multiply-adds"
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.base_size > self.image_size:
            raise ValueError("base_size is larger than image_size")
        return self


class Augmentation(OneArchitecture, Timed):
    policies: Annotated[list[Policy], Field(min_length=2)] = Field(description="policies; the first is the reference")
    policy: Policy = Field(description="the policy of the comparison of numbers of views")
    views: Annotated[list[NonNegativeInt], Field(min_length=2)] = Field(description="views of an image; 0: new each epoch")


class Ablation(OneArchitecture, Timed):
    comparisons: Annotated[dict[str, dict[str, dict[str, Any]]], Field(min_length=1)] = Field(
        description="{COMPARISON: {LABEL: {KEY: VALUE}}}: what each label changes; the first one is the reference"
    )

    @field_validator("comparisons")
    @classmethod
    def _check_comparisons(cls, comparisons: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
        for name, variants in comparisons.items():
            if len(variants) < 2:
                raise ValueError(f'"{name}" has fewer than two labels')
            for label, changes in variants.items():
                try:
                    Variant.model_validate(changes)
                except ValidationError as error:
                    place, text = error.errors()[0]["loc"], error.errors()[0]["msg"]
                    key = str(place[0]) if place else ""
                    raise ValueError(f'"{label}" of "{name}": {key}: {text}{nearest(key, Variant.model_fields)}') from None
        return comparisons


class Variant(Section):
    """What a label of an ablation may change; `options` are added to those of the settings."""

    architecture: str = ""
    options: Options = Field({})
    images: Count = 1
    policy: Policy = "none"
    views: NonNegativeInt = 0
    optimizer: OptimizerName = "adamw"
    lr: Positive = 1.0
    weight_decay: NonNegative = 0.0
    scheme: str = ""


class Pretrained(OneArchitecture):
    """A network that is trained on something else first."""

    weights: Text = Field(description="weights of the source imagenet: imagenet (downloaded), package, or a folder of files")
    pretrain_images: Count = Field(description="maximum number of images of a pretraining")
    pretrain_steps: Count = Field(description="steps of a pretraining")
    pretrain_lr: Positive = Field(description="highest learning rate of a pretraining")


class Transfer(Pretrained, Stepped):
    steps: Count = Field(description="steps of a run")
    few_images: AtLeastTwo = Field(description="training images of the first two comparisons; a multiple of batch_size")
    epochs: Count = Field(10, description="epochs where the number of training images is compared, if they are more than `steps`")
    enlarged_to: Annotated[int, Field(ge=0, le=1024, strict=True)] = Field(
        0, description="pixels a side to which images are enlarged for pretrained networks; 0: unchanged"
    )
    frozen_lr: NonNegative = Field(0, description="highest learning rate of a new layer on a frozen network; 0: `lr`")
    scratch: Text | None = Field(None, description="architecture that is trained from random weights; null: the same")
    scratch_options: Options = Field({}, description="its options")
    scratch_lr: NonNegative = Field(0, description="its highest learning rate; 0: the same")
    blocks: Annotated[list[Count], Field(min_length=1)] = Field(description="numbers of last blocks that are trained")
    train_sizes: Annotated[list[AtLeastTwo], Field(min_length=2)] = Field(description="numbers of training images to compare")
    sources: Annotated[list[Text], Field(min_length=1)] = Field(
        description="pretraining: glyphs, rotations, imagenet, a data set or a folder; the first is used in all comparisons"
    )

    @field_validator("sources")
    @classmethod
    def _without_random(cls, sources: list[str]) -> list[str]:
        if "random" in sources:
            raise ValueError("random is always compared; remove it from sources")
        return sources


class Optimizer(OneArchitecture, Timed):
    lr: NonNegative = Field(description="highest learning rate; 0: found by a range test")  # type: ignore[assignment]
    optimizers: Annotated[list[OptimizerName], Field(min_length=2)] = Field(description="optimizers to compare")
    schedules: Annotated[list[str], Field(min_length=2)] = Field(description="schedules to compare")
    batch_sizes: Annotated[list[AtLeastTwo], Field(min_length=2)] = Field(description="batch sizes to compare")


class Practice(Timed):
    architecture: Text = Field(description="an architecture of `darkroom models`")
    width: Channels = Field(description="width of one network; the wide one has the multiply-adds of ensemble_size of them")
    policy: Policy = Field(description="augmentation policy")
    ensemble_size: Annotated[int, Field(ge=2, le=20, strict=True)] = Field(description="networks of an ensemble")
    tta_modes: Annotated[list[str], Field(min_length=2)] = Field(
        description="plain, mirrored, center_crop, five_crops, ten_crops; the first is the reference"
    )


class Searchable(Section):
    """What a search may vary, besides the options of the architecture."""

    lr: Positive = Field(description="highest learning rate")
    weight_decay: NonNegative = Field(description="weight decay")
    batch_size: AtLeastTwo = Field(description="images of a step")
    optimizer: OptimizerName = Field(description="optimizer; sgd has Nesterov's momentum")
    schedule: ScheduleName = Field(description="learning-rate schedule")
    warmup: Share = Field(description="share of the steps that are warm-up")
    policy: Policy = Field(description="augmentation policy")
    views: NonNegativeInt = Field(description="views of an image; 0: new ones in each epoch")
    scheme: str = Field(description="initialisation; empty: the one of the architecture")


class Tune(Searchable, Pretrained, Stepped):
    epochs: Count = Field(description="epochs of a run and of a trial")
    tuned: Literal["baseline", "embeddings"] = Field(description="a whole network, or a head on a pretrained one")
    pretrain_on: Text = Field(description="pretraining for embeddings: glyphs, rotations, imagenet, a data set or a folder")
    inner_val_share: Annotated[Number, Field(gt=0, lt=1)] = Field(description="share of the training images that judges trials")
    budget: AtLeastTwo = Field(description="budget of a search, in whole trainings")
    pruner: Literal["median", "hyperband", "none"] = Field(description="Optuna's pruner")
    space: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = Field(
        description="{SETTING: {low, high, log}} or {SETTING: {choices: […]}}; options of the architecture as options.NAME"
    )

    @field_validator("space")
    @classmethod
    def _check_space(cls, space: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        """Check that each key is a setting, its values are allowed, and its default is among them."""
        settings = info.data
        if not {"options", "tuned", *Searchable.model_fields} <= settings.keys():
            return space
        searchable = {name: settings[name] for name in Searchable.model_fields}
        if settings["tuned"] == "embeddings":  # the network below the head is fixed
            defaults = {name: value for name, value in searchable.items() if name != "scheme"}
        else:
            defaults = searchable | {f"options.{name}": value for name, value in settings["options"].items()}
        for name, declared in space.items():
            if name not in defaults:
                raise ValueError(f'"{name}" cannot be searched{nearest(name, defaults)}; choose from {", ".join(defaults)}')
            for value in _declared_values(name, declared, defaults[name]):
                try:
                    Searchable.model_validate(searchable | ({name: value} if name in searchable else {}))
                except ValidationError as error:
                    raise ValueError(f"{name} cannot be {value!r}: {error.errors()[0]['msg']}") from None
        return space


def _declared_values(name: str, declared: dict[str, Any], default: Any) -> list[Any]:
    """Return the choices or the ends of a setting's space, which must contain its default."""
    keys, number = set(declared), (int, float)
    if keys == {"low", "high", "log"} and all(type(value) in number for value in (declared["low"], declared["high"], default)):
        low, high = values = [declared["low"], declared["high"]]
        is_finite, is_log = math.isfinite(low) and math.isfinite(high), declared["log"]
        is_valid = is_finite and low < high and type(is_log) is bool and (low > 0 or not is_log)
        is_within = low <= default <= high
    elif keys == {"choices"} and isinstance(declared["choices"], list):
        values = declared["choices"]
        kind = (str,) if isinstance(default, str) else number
        is_valid, is_within = len(values) > 1 and all(isinstance(value, kind) for value in values), default in values
    else:
        raise ValueError(f"{name} takes {{choices: […]}}, or {{low, high, log}} if it is a number")
    if not is_valid:
        raise ValueError(
            f"{name} takes two or more choices of the kind of {default!r}; or low < high, finite, above 0 if log is true"
        )
    if not is_within:
        raise ValueError(f"{name} is {default!r} by default, which its space does not contain")
    return values
