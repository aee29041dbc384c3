"""The study of augmentation: policies, and the number of views of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from darkroom.config.study_params import Augmentation
from darkroom.studies import plots
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunConfig, RunResult, by_label
from darkroom.studies.summary import (
    SummaryRow,
    best,
    describe_difference,
    format_estimate,
    list_significant,
    of_comparison,
)

POLICIES, VIEWS = "policy", "views of an image"
NEW = "new each epoch"


class AugmentationStudy(Study):
    title = "Augmentation"
    question = "How much do augmented images add, and are new ones needed in every epoch?"
    paper = "Simard et al. 2003, Shorten and Khoshgoftaar 2019"
    held_constant = "the images, their order and the number of steps; the view of an image in an epoch differs"
    varies = ("policy", "views")
    settings: Augmentation

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per seed and policy, and one per seed and number of views."""
        settings, steps = self.settings, self.steps(images)
        runs = []
        for seed in range(settings.seeds):
            base = self.run_config(POLICIES, "", seed, settings.architecture, steps, settings.options)
            runs += [replace(base, label=name, policy="" if name == "none" else name) for name in settings.policies]
            base = replace(base, comparison=VIEWS, policy=settings.policy)
            runs += [replace(base, label=str(count) if count else NEW, views=count) for count in settings.views]
        return runs

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        """Return the best policy, the significant differences, and the difference that more views make."""
        policies, views = of_comparison(rows, POLICIES), of_comparison(rows, VIEWS)
        top = best(policies)
        return (
            f"The policy with the highest mean is {top.label}, {format_estimate(top.accuracy)}; {list_significant(policies)}. "
            f"Views: {views[-1].label} instead of {views[0].label}: {describe_difference(views[-1])}."
        )

    def draw(self, axes: Sequence[Any], results: Sequence[RunResult], colors: Mapping[str, str]) -> None:
        """Draw the loss on held-out images over the steps, by policy and by number of views."""
        for axis, comparison in zip(axes, (POLICIES, VIEWS), strict=True):
            title = f"{comparison}: loss on held-out images"
            plots.draw_curves(axis, by_label(results, comparison), "val_loss", colors, title)
