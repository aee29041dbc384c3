"""The study of architectures: families from perceptron to residual network, trained with equal multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from darkroom.config.study_params import Architecture
from darkroom.studies import plots
from darkroom.studies.base import Study, count_multiply_adds
from darkroom.studies.run_config import RunConfig, RunResult
from darkroom.studies.summary import SummaryRow, best, format_estimate, list_significant

COMPARISON = "equal multiply-adds"
FORWARD_PASSES = 3  # a training step costs three: the gradients of weights and of inputs take as many products each


class ArchitectureStudy(Study):
    title = "Architectures at equal cost"
    question = "Which accuracy does each family of architectures reach with the same number of multiply-adds?"
    paper = "LeCun et al. 1998, Simonyan and Zisserman 2015, He et al. 2016, Sandler et al. 2018"
    held_constant = "the images and their order, and the multiply-adds of the whole training"
    varies = ("architecture", "options", "steps", "warmup", "eval_points")
    settings: Architecture

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per seed and architecture. A cheaper network makes more steps."""
        settings = self.settings
        steps = {}
        for name, options in settings.architectures.items():
            forward = count_multiply_adds(name, settings.image_size, settings.channels, options)
            steps[name] = max(1, round(settings.budget * 1e9 / (forward * settings.batch_size * FORWARD_PASSES)))
        return [
            self.run_config(COMPARISON, name, seed, name, steps[name], options)
            for seed in range(settings.seeds) for name, options in settings.architectures.items()
        ]  # fmt: skip

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        """Return the best architecture, the significant differences, and the Pareto front."""
        top = best(rows)
        return (
            f"At equal multiply-adds {top.label} has the highest accuracy, {format_estimate(top.accuracy)}; "
            f"{list_significant(rows)}. Pareto front of accuracy and multiply-adds of an image: {', '.join(pareto_front(rows))}."
        )

    def draw(self, axes: Sequence[Any], results: Sequence[RunResult], colors: Mapping[str, str]) -> None:
        """Draw accuracy against the multiply-adds of an image and against parameters."""
        plots.draw_costs(axes, results, colors, [(COMPARISON, "multiply_adds"), (COMPARISON, "parameters")])


def pareto_front(rows: Sequence[SummaryRow]) -> list[str]:
    """Return the labels that no other dominates in accuracy and multiply-adds of an image, cheapest first."""
    front: list[str] = []
    highest = -1.0
    for row in sorted(rows, key=lambda row: (row.multiply_adds, -row.accuracy.value)):
        if row.accuracy.value > highest:
            front.append(row.label)
            highest = row.accuracy.value
    return front
