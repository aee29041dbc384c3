"""The study of initialisation: ten schemes, on a perceptron and a convolutional network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from darkroom.config.study_params import Initialization
from darkroom.models.init import scheme
from darkroom.studies import plots
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunConfig, RunResult, by_label, comparisons
from darkroom.studies.summary import SummaryRow, best, format_difference, format_estimate, of_comparison

REFERENCE = "kaiming"
ARCHITECTURES = {"mlp": "mlp", "cnn": "lenet5"}


class InitializationStudy(Study):
    title = "Initialisation of weights"
    question = "How much of the result of a training is decided by the initial weights?"
    paper = "Glorot and Bengio 2010, He et al. 2015, Saxe et al. 2014, Mishkin and Matas 2016"
    held_constant = "the images, their order and the number of steps"
    varies = ("label", "scheme")
    settings: Initialization

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per network, seed and scheme. LeNet-5 has ReLU, as the perceptron does."""
        settings, steps = self.settings, self.steps(images)
        for name in settings.schemes:
            scheme(name)
        names = sorted(settings.schemes, key=lambda name: name != REFERENCE)
        options: dict[str, dict[str, Any]] = {"mlp": {"hidden": list(settings.hidden)}, "cnn": {"activation": "relu"}}
        return [
            self.run_config(network, name, seed, ARCHITECTURES[network], steps, options[network], scheme=name)
            for network in settings.networks for seed in range(settings.seeds) for name in names
        ]  # fmt: skip

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        """Return, for each network, the best scheme and those significantly worse than the reference."""
        sentences = []
        for network in comparisons(results):
            schemes = of_comparison(rows, network)
            top, reference = best(schemes), schemes[0].label
            failed = [row.label for row in schemes if row.train_accuracy < 0.5 * top.train_accuracy]
            worse = [
                f"{row.label} {format_difference(row.difference)}" for row in schemes if row.is_worse and row.label not in failed
            ]
            sentence = f"{network}: of {len(schemes)} schemes {top.label} has the highest mean, {format_estimate(top.accuracy)}"
            if top.difference:
                sentence += f", {'significantly' if top.is_significant else 'not significantly'} above {reference}"
            if failed:
                sentence += f"; less than half of its training accuracy: {', '.join(failed)}"
            if worse:
                sentence += f"; significantly below {reference}: {', '.join(worse)}"
            sentences.append(sentence)
        return ". ".join(sentences) + "."

    def draw(self, axes: Sequence[Any], results: Sequence[RunResult], colors: Mapping[str, str]) -> None:
        """Draw outputs and gradients of the layers of the first network before the first step."""
        network = comparisons(results)[0]
        groups = by_label(results, network)
        for axis, key, text in zip(axes, ("std", "gradient"), ("standard deviation of outputs", "gradient"), strict=True):
            plots.draw_layers(axis, groups, key, colors, f"{network}: {text} by layer, step 0")
