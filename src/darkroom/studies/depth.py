"""The study of depth: the same networks with and without skip connections, shallow and deep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from darkroom.config.study_params import Depth
from darkroom.studies import plots
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunConfig, RunResult, by_label, comparisons
from darkroom.studies.summary import SummaryRow, by_name, describe_difference

PLAIN, RESIDUAL = "plain", "residual"
ARCHITECTURES = {PLAIN: "plain", RESIDUAL: "resnet"}


class DepthStudy(Study):
    title = "Depth and skip connections"
    question = "Why does a deeper network learn less, and what do skip connections change?"
    paper = "He et al. 2016"
    held_constant = "the images, their order and the number of steps; at each depth, multiply-adds and parameters"
    varies = ("architecture",)
    settings: Depth

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per depth, seed and kind."""
        settings, steps = self.settings, self.steps(images)
        return [
            self.run_config(f"{depth} layers", label, seed, f"{name}{depth}", steps, {"width": settings.width})
            for depth in sorted(settings.depths) for seed in range(settings.seeds) for label, name in ARCHITECTURES.items()
        ]  # fmt: skip

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        """Return the change with depth by kind, and the difference at the greatest depth."""
        names = by_name(rows)
        shallow, *_, deep = comparisons(results)
        changes = []
        for label in ARCHITECTURES:
            first, last = names[shallow, label], names[deep, label]
            changes.append(
                f"{label} networks go from {first.accuracy.value:.4f} at {shallow} to {last.accuracy.value:.4f} at {deep} "
                f"(on training images {first.train_accuracy:.4f} to {last.train_accuracy:.4f})"
            )
        return f"{', '.join(changes)}. Skip connections: {describe_difference(names[deep, RESIDUAL])}."

    def draw(self, axes: Sequence[Any], results: Sequence[RunResult], colors: Mapping[str, str]) -> None:
        """Draw the gradients of the layers of the deepest networks, before the first step and after the last."""
        deepest = comparisons(results)[-1]
        for axis, is_last in zip(axes, (False, True), strict=True):
            title = f"{deepest}: gradient of a layer, {'last step' if is_last else 'step 0'}"
            plots.draw_layers(axis, by_label(results, deepest), "gradient", colors, title, is_last)
