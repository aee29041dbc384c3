"""The study of ensembles and test-time crops, against one network and one view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from darkroom.config.study_settings import Practice
from darkroom.inference.tta import VIEW_COUNTS, check_mode
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunConfig, RunResult
from darkroom.studies.samples import Sample
from darkroom.studies.summary import SummaryRow, describe_difference, of_comparison

TRAINED, TTA, CROPS, ENSEMBLES = "networks", "test-time augmentation", "crops at one scale", "ensembles"
CENTER = "center_crop"
ONE, WIDE = "one", "one wide"


class PracticeStudy(Study):
    title = "Ensembles and multi-crop"
    question = "How much do several views of an image, several networks, or one network of the same cost add?"
    paper = "Krizhevsky et al. 2012, Lakshminarayanan et al. 2017"
    held_constant = "the images, their order and the number of steps; further views and networks cost multiply-adds"
    varies = ("options", "tta_modes")
    settings: Practice

    def runs(self, images: int) -> list[RunConfig]:
        """Return `ensemble_size` networks per seed, and a wide one, which costs about as much as all of them."""
        settings, size, steps = self.settings, self.settings.ensemble_size, self.steps(images)
        for name in settings.tta_modes:
            check_mode(name)
        wide = {"width": round(settings.width * math.sqrt(size))}
        runs = []
        for seed in range(settings.first_seed * size, (settings.first_seed + settings.seeds) * size):
            base = self.run_config(
                TRAINED, ONE, seed, settings.architecture, steps, {"width": settings.width},
                policy="" if settings.policy == "none" else settings.policy, tta_modes=tuple(settings.tta_modes),
            )  # fmt: skip
            runs.append(base)
            if seed % size == 0:
                runs.append(replace(base, label=WIDE, options=wide, tta_modes=tuple(settings.tta_modes[:1])))
        return runs

    def compared(self, results: Sequence[RunResult], sample: Sample) -> list[RunResult]:
        """Return a result for each TTA mode of each network, and for ensembles, which average probabilities."""
        settings, labels = self.settings, sample.val_labels
        small = [result for result in results if result.config.label == ONE]
        wide = {result.config.seed: result for result in results if result.config.label == WIDE}
        derived = [
            ensemble([result], mode, TTA, mode.replace("_", " "), result.config.seed, labels)
            for result in small for mode in settings.tta_modes
        ]  # fmt: skip
        if CENTER in settings.tta_modes:  # one crop against several: what averaging adds, apart from the scale of a crop
            crops = [CENTER, *(mode for mode in settings.tta_modes if mode.endswith("_crops"))]
            derived += [
                ensemble([result], mode, CROPS, mode.replace("_", " "), result.config.seed, labels)
                for result in small for mode in crops
            ]  # fmt: skip
        first, last = settings.tta_modes[0], settings.tta_modes[-1]
        for i, seed in enumerate(settings.run_seeds):
            group = small[i * settings.ensemble_size : (i + 1) * settings.ensemble_size]
            sizes = sorted({max(2, (len(group) + 1) // 2), len(group)})
            modes = {ONE: (group[:1], first), **{f"{size} networks": (group[:size], first) for size in sizes}}
            modes[f"{len(group)} networks, {last.replace('_', ' ')}"] = (group, last)
            modes[WIDE] = ([wide[group[0].config.seed]], first)
            derived += [ensemble(some, mode, ENSEMBLES, label, seed, labels) for label, (some, mode) in modes.items()]
        return sorted(derived, key=lambda result: (TTA, CROPS, ENSEMBLES).index(result.config.comparison))

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        modes = of_comparison(rows, TTA)
        one, *_, many, crops, wide = of_comparison(rows, ENSEMBLES)
        views = "; ".join(f"{row.label} {describe_difference(row)}" for row in modes[1:])
        crop_rows = of_comparison(rows, CROPS)
        averaged = "".join(f"{row.label} against {crop_rows[0].label}: {describe_difference(row)}. " for row in crop_rows[1:])
        return (
            f"Against {modes[0].label}: {views}. {averaged}Against one network: {many.label} {describe_difference(many)}; "
            f"{crops.label} {describe_difference(crops)}; one wide network, {wide.multiply_adds / one.multiply_adds:.1f} times "
            f"the multiply-adds, {describe_difference(wide)}."
        )


def ensemble(
    members: Sequence[RunResult], mode: str, comparison: str, label: str, seed: int, labels: np.ndarray
) -> RunResult:  # fmt: skip
    """Return the result of averaged probabilities (N, classes), with the costs of all networks and views."""
    first, count, views = members[0], len(members), VIEW_COUNTS[mode]
    probabilities = np.mean([member.probabilities[mode] for member in members], 0)
    of_label = np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1)
    loss, accuracy = float(-np.log(of_label).mean()), float((probabilities.argmax(1) == labels).mean())
    return replace(
        first, config=replace(first.config, comparison=comparison, label=label, seed=seed), probabilities={},
        curve=[*first.curve[:-1], replace(first.curve[-1], val_loss=loss, val_accuracy=accuracy)],
        parameters=first.parameters * count, multiply_adds=first.multiply_adds * count * views,
        seconds=first.seconds * count, latency=first.latency * count * views,
    )  # fmt: skip
