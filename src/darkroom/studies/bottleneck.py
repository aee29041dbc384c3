"""The study of bottlenecks: Inception modules with and without 1×1 convolutions before the wide ones."""

from __future__ import annotations

from collections.abc import Sequence

from darkroom.config.study_params import Bottleneck
from darkroom.studies.base import Study, count_multiply_adds
from darkroom.studies.run_config import RunConfig, RunResult
from darkroom.studies.summary import SummaryRow, by_name, describe_difference

EQUAL_STEPS, EQUAL_COST = "equal steps", "equal multiply-adds"
WITH, WITHOUT = "with 1×1", "without"
ARCHITECTURES = {WITH: "inception_small", WITHOUT: "inception_small_naive"}


class BottleneckStudy(Study):
    title = "1×1 convolutions as bottlenecks"
    question = "How much do 1×1 convolutions before the 3×3 and 5×5 ones save, and do they cost accuracy?"
    paper = "Szegedy et al. 2015, Lin et al. 2014"
    held_constant = "the images and their order; the number of steps, or the multiply-adds of the training"
    varies = ("architecture", "steps", "warmup", "eval_points")
    settings: Bottleneck

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per comparison, seed and kind.

        At equal multiply-adds the dearer network makes fewer steps.
        """
        settings, steps = self.settings, self.steps(images)
        options = {"width": settings.width}
        costs = {
            label: count_multiply_adds(name, settings.image_size, settings.channels, options)
            for label, name in ARCHITECTURES.items()
        }
        runs = []
        for comparison in (EQUAL_STEPS, EQUAL_COST):
            for seed in range(settings.seeds):
                for label, name in ARCHITECTURES.items():
                    count = steps if comparison == EQUAL_STEPS else max(1, round(steps * costs[WITH] / costs[label]))
                    runs.append(self.run_config(comparison, label, seed, name, count, options))
        return runs

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        """Return the savings by 1×1 convolutions, and the difference in accuracy without them."""
        names = by_name(rows)
        small, large = names[EQUAL_STEPS, WITH], names[EQUAL_STEPS, WITHOUT]
        multiply_adds, parameters = small.multiply_adds / large.multiply_adds, small.parameters / large.parameters
        differences = "; ".join(describe_difference(names[comparison, WITHOUT]) for comparison in (EQUAL_STEPS, EQUAL_COST))
        return (
            f"With 1×1 convolutions an image takes {multiply_adds:.0%} of the multiply-adds, and the network has "
            f"{parameters:.0%} of the parameters. Without them: {differences}."
        )
