"""The study of transfer learning: trained part, number of images, source of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from darkroom.config.study_params import Transfer
from darkroom.studies import plots
from darkroom.studies.base import ReadSample, Study
from darkroom.studies.run_config import RunConfig, RunResult, by_label
from darkroom.studies.samples import Sample
from darkroom.studies.summary import SummaryRow, best, by_name, describe_difference, format_estimate, of_comparison

SCRATCH, FROZEN, WHOLE = "scratch", "frozen", "whole network"
PARTS, SOURCES = "trained part", "source of weights"


class TransferStudy(Study):
    title = "Transfer learning"
    question = "When are pretrained weights better than random ones, and how much of the network should be trained?"
    paper = "Yosinski et al. 2014, Gidaris et al. 2018, Kornblith et al. 2019"
    held_constant = "within a comparison the images, their order and the number of steps; the steps of the pretraining"
    varies = ("pretraining", "weights", "trained_blocks")
    settings: Transfer

    def extra_samples(self, own: Sample, read: ReadSample) -> dict[str, Sample]:
        return self.pretraining_samples(self.settings.sources, own, read)

    def runs(self, images: int) -> list[RunConfig]:
        """Return the runs by trained part, source of weights, and number of training images."""
        settings = self.settings
        few = min(settings.few_images, images)
        parts: dict[str, int | None] = {FROZEN: 0}
        parts |= {f"{count} block{'s' * (count > 1)}": count for count in settings.blocks} | {WHOLE: None}
        runs = []
        for seed in settings.run_seeds:
            base = self.run_config("", SCRATCH, seed, settings.architecture, settings.steps, settings.options)
            pretrained = self.pretrained(base, settings.sources[0])
            runs.append(replace(base, comparison=PARTS, images=few))
            for label, blocks in parts.items():
                runs.append(replace(pretrained, comparison=PARTS, images=few, label=label, trained_blocks=blocks))
            runs.append(replace(base, comparison=SOURCES, images=few, label="random"))
            for source in settings.sources:
                runs.append(replace(self.pretrained(base, source), comparison=SOURCES, images=few, label=source))
            for count in sorted({min(size, images) for size in settings.train_sizes} - {few}):  # `few` is the first comparison
                comparison = f"{count} images"
                runs.append(replace(base, comparison=comparison, images=count))
                for label in (FROZEN, WHOLE):
                    blocks = parts[label]
                    runs.append(replace(pretrained, comparison=comparison, images=count, label=label, trained_blocks=blocks))
        return runs

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        names = by_name(rows)
        sizes = {result.config.images: result.config.comparison for result in results if result.config.comparison != SOURCES}
        few = next(result.config.images for result in results if result.config.comparison == PARTS)
        differences = "; ".join(
            describe_difference(names[sizes[count], WHOLE], f"{count} images") for count in sorted({min(sizes), few, max(sizes)})
        )
        part, source = best(of_comparison(rows, PARTS)), best(of_comparison(rows, SOURCES))
        return (
            f"Weights from {self.settings.sources[0]} against random ones, with the whole network trained: {differences}. "
            f"The best trained part is {part.label}, {format_estimate(part.accuracy)}; the best source is {source.label}, "
            f"{format_estimate(source.accuracy)}."
        )

    def draw(self, axes: Sequence[Any], results: Sequence[RunResult], colors: Mapping[str, str]) -> None:
        left, right = axes
        for label in (SCRATCH, FROZEN, WHOLE):
            accuracies: dict[int, list[float]] = {}
            for result in sorted(results, key=lambda result: result.config.images):
                if result.config.label == label and result.config.comparison != SOURCES:
                    accuracies.setdefault(result.config.images, []).append(result.accuracy)
            means = [sum(values) / len(values) for values in accuracies.values()]
            left.plot(list(accuracies), means, "o-", color=colors[label], lw=1.5, ms=4)
            left.annotate(label, (next(iter(accuracies)), means[0]), fontsize=7)
        left.set_xscale("log")
        left.set_title("accuracy against training images", fontsize=9)
        plots.draw_curves(right, by_label(results, PARTS), "val_accuracy", colors, "held-out accuracy by trained part")
        right.legend(fontsize=7)
