"""What every study has: the base class, and the cost of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from darkroom.config.study_settings import Setting
from darkroom.core.charts import Chart
from darkroom.models import factory
from darkroom.models.macs import layers
from darkroom.studies import chart_data, initial_weights
from darkroom.studies.run_config import RunConfig, RunResult, comparisons, count_steps
from darkroom.studies.samples import ROTATIONS, Sample, rotate
from darkroom.studies.summary import SummaryRow

IMAGENET, PRETRAINING = "imagenet", "pretraining"

ReadSample = Callable[[str, int], Sample]  # (source, number of training images at most)


class Study(ABC):
    """A question, the runs that answer it, and the finding.

    `held_constant` says what the runs share, `varies` names the fields of `RunConfig` in which runs of a
    comparison differ. A subclass sets the class attributes and defines `runs` and `finding`; the other
    methods have defaults.
    """

    title: ClassVar[str]
    question: ClassVar[str]
    paper: ClassVar[str]
    held_constant: ClassVar[str]
    varies: ClassVar[tuple[str, ...]]
    settings: Any

    def __init__(self, settings: Setting) -> None:
        self.settings = settings

    @abstractmethod
    def runs(self, images: int) -> list[RunConfig]:
        """Return the runs for a number of training images. The first label of a comparison is its reference."""

    @abstractmethod
    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        """Return the result in a few sentences."""

    def extra_samples(self, own: Sample, read: ReadSample) -> dict[str, Sample]:
        """Return the images that runs are trained on besides the study's own, by `RunConfig.sample`."""
        return {}

    def search(  # noqa: B027
        self, samples: Mapping[str, Sample], accelerator: str, on_result: Callable[..., None]
    ) -> None:
        """Search for the settings of runs; `on_result` is called with each result, and its tags."""

    def compared(self, results: Sequence[RunResult], sample: Sample) -> list[RunResult]:
        """Return the results to compare: those of the runs, or others derived from them."""
        return list(results)

    def charts(self, results: Sequence[RunResult]) -> list[Chart]:
        """Return the study's own charts; by default accuracy against multiply-adds, for each comparison."""
        return [chart_data.costs(results, name, "multiply_adds") for name in comparisons(results)]

    def figures(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> list[dict[str, Any]]:
        """Return what the study measured beside its rows, for summary.json.

        Each has a comparison, a label, and a number or a text by its name.
        """
        return []

    def shown(self, results: Sequence[RunResult]) -> RunResult | None:
        """Return a run with predictions for the held-out images, which are drawn; None draws none."""
        return None

    def tables(self) -> dict[str, str]:
        """Return further files to write: text by file name."""
        return {}

    def steps(self, images: int) -> int:
        """Return the steps of `settings.epochs`."""
        return count_steps(images, self.settings.batch_size, self.settings.epochs)

    def run_config(
        self, comparison: str, label: str, seed: int, architecture: str, steps: int, options: Mapping[str, Any], **changes: Any
    ) -> RunConfig:  # fmt: skip
        """Return a run with the hyperparameters of the settings, except for `changes`."""
        settings = self.settings
        fields = {
            "batch_size": settings.batch_size, "optimizer": settings.optimizer, "lr": settings.lr,
            "weight_decay": settings.weight_decay, "warmup": settings.warmup_steps(steps),
            "eval_points": min(settings.eval_points, steps),
        }  # fmt: skip
        return RunConfig(comparison, label, seed, architecture, dict(options), steps=steps, **fields | changes)

    def pretraining_samples(self, sources: Sequence[str], own: Sample, read: ReadSample) -> dict[str, Sample]:
        """Return the images of each pretraining: rotations of the study's own training images, or another source."""
        images = self.settings.pretrain_images
        return {s: rotate(own) if s == ROTATIONS else read(s, images) for s in sources if s != IMAGENET}

    def pretrained(self, run: RunConfig, source: str) -> RunConfig:
        """Return a run with initial weights from a source. Every seed has the same pretraining."""
        settings = self.settings
        if source == IMAGENET:
            initial_weights.check_weights(run.architecture, settings.weights)
            return replace(run, weights=settings.weights)
        start = self.run_config(
            PRETRAINING, source, 0, settings.architecture, settings.pretrain_steps, settings.options, lr=settings.pretrain_lr,
            eval_points=1, sample=source,
        )  # fmt: skip
        return replace(run, pretraining=start)


def count_multiply_adds(name: str, size: int, channels: int, options: Mapping[str, Any]) -> int:
    """Return the multiply-adds of an architecture for one image, forward, without its last layer."""
    features = factory.build_features(factory.make_spec(name, size, channels, options))
    return sum(layer.multiply_adds for layer in layers(features, (channels, size, size)))
