"""The study of depthwise-separable convolutions: MobileNet against standard convolutions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from darkroom.config.study_params import Separable
from darkroom.studies.base import Study, count_multiply_adds
from darkroom.studies.run_config import RunConfig, RunResult
from darkroom.studies.summary import SummaryRow, by_name, describe_difference

EQUAL_WIDTH, EQUAL_COST = "equal width", "no more multiply-adds"
SEPARABLE, STANDARD = "separable", "standard"
ARCHITECTURES = {SEPARABLE: "mobilenet_v1", STANDARD: "mobilenet_v1_standard"}
WIDTH_STEP = 0.005  # of the search for a width of equal cost


class SeparableStudy(Study):
    title = "Depthwise-separable convolutions"
    question = "Is a convolution per channel followed by a 1×1 convolution as good as a standard one, at its lower cost?"
    paper = "Howard et al. 2017"
    held_constant = "the images, their order and the number of steps; the number of channels, or the multiply-adds of an image"
    varies = ("architecture", "options")
    settings: Separable

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per comparison, seed and kind."""
        settings, steps = self.settings, self.steps(images)
        widths = {EQUAL_WIDTH: settings.width, EQUAL_COST: self.equal_cost_width()}
        return [
            self.run_config(comparison, label, seed, name, steps, {"width": width if label == STANDARD else settings.width})
            for comparison, width in widths.items() for seed in range(settings.seeds) for label, name in ARCHITECTURES.items()
        ]  # fmt: skip

    def equal_cost_width(self) -> float:
        """Return the largest width at which standard convolutions cost no more than the separable ones."""
        settings = self.settings

        def cost(kind: str, width: float) -> int:
            return count_multiply_adds(ARCHITECTURES[kind], settings.image_size, settings.channels, {"width": width})

        widths = [round(WIDTH_STEP * i, 6) for i in range(1, max(2, round(settings.width / WIDTH_STEP) + 1))]
        index = bisect_right(widths, cost(SEPARABLE, settings.width), key=lambda width: cost(STANDARD, width))
        return widths[max(0, index - 1)]

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        """Return the cost of standard convolutions, and their difference in accuracy."""
        names = by_name(rows)
        cheap, dear = names[EQUAL_WIDTH, SEPARABLE], names[EQUAL_WIDTH, STANDARD]
        differences = "; ".join(describe_difference(names[comparison, STANDARD]) for comparison in (EQUAL_WIDTH, EQUAL_COST))
        return (
            f"Standard convolutions of the same width cost {dear.multiply_adds / cheap.multiply_adds:.1f} times the multiply-adds "
            f"and {dear.parameters / cheap.parameters:.1f} times the parameters. Their accuracy: {differences}."
        )
