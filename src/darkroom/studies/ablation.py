"""Studies of one network and of variants of it, which studies/params.yaml declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from darkroom.config.study_settings import Ablation
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunConfig, RunResult, comparisons
from darkroom.studies.summary import SummaryRow, best, format_estimate, list_significant, of_comparison

PLAIN = "plain"  # of inference/tta.py


class AblationStudy(Study):
    """Comparisons of variants that differ from the network of the settings in what they name, with equally many steps."""

    held_constant = "the number of steps, and within a comparison everything but what a label names"
    varies = ("architecture", "options", "images", "policy", "weight_decay", "lr", "optimizer", "scheme", "views", "tta_modes")
    settings: Ablation

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per comparison, seed and variant."""
        return [
            self._run(comparison, label, seed, images, changes)
            for comparison, variants in self.settings.comparisons.items() for seed in self.settings.run_seeds
            for label, changes in variants.items()
        ]  # fmt: skip

    def _run(self, comparison: str, label: str, seed: int, images: int, changes: Mapping[str, Any]) -> RunConfig:
        settings = self.settings
        fields = {key: value for key, value in changes.items() if key not in ("options", "architecture")}
        if fields.get("policy") == "none":
            fields["policy"] = ""
        if "images" in fields:
            fields["images"] = min(fields["images"], images)
        architecture = changes.get("architecture", settings.architecture)
        options = (settings.options if architecture == settings.architecture else {}) | changes.get("options", {})
        if (comparison, label, seed) == self._shown:
            fields["tta_modes"] = (PLAIN,)
        return self.run_config(comparison, label, seed, architecture, self.steps(images), options, **fields)

    @property
    def _shown(self) -> tuple[str, str, int]:
        comparison, variants = next(iter(self.settings.comparisons.items()))
        return comparison, next(iter(variants)), self.settings.first_seed

    def shown(self, results: Sequence[RunResult]) -> RunResult:
        """Return the run whose predictions are drawn: the first one of the first label."""
        return next(r for r in results if (r.config.comparison, r.config.label, r.config.seed) == self._shown)

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        sentences = []
        for comparison in comparisons(results):
            variants = of_comparison(rows, comparison)
            top = best(variants)
            widest = max(variants, key=lambda row: row.train_accuracy - row.accuracy.value)
            sentences.append(
                f"{comparison}: {top.label} has the highest mean, {format_estimate(top.accuracy)}; {list_significant(variants)}. "
                f"The largest distance between training and held-out accuracy is that of {widest.label}, "
                f"{widest.train_accuracy:.4f} and {widest.accuracy.value:.4f}"
            )
        return ". ".join(sentences) + "."


class MlpStudy(AblationStudy):
    title = "A multi-layer perceptron"
    question = "When does a perceptron over-fit, and what do dropout, weight decay and more images change?"
    paper = "Rumelhart et al. 1986, Srivastava et al. 2014"


class CnnStudy(AblationStudy):
    title = "A convolutional network, part by part"
    question = "What do convolutions, batch normalisation, dropout and augmentation each add?"
    paper = "LeCun et al. 1998, Ioffe and Szegedy 2015, Srivastava et al. 2014"


class NinStudy(AblationStudy):
    title = "Network in Network"
    question = "What do 1×1 convolutions after each convolution add at equal cost, and global average pooling at the end?"
    paper = "Lin et al. 2014"


class FeaturesStudy(AblationStudy):
    title = "Hand-engineered features against learned ones"
    question = "From how many images on are features that a network learns better than those that people designed?"
    paper = "Dalal and Triggs 2005, LeCun et al. 1998"
