"""The study of transfer learning: trained part, number of images, source of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from darkroom.config.study_settings import Transfer
from darkroom.core.charts import Chart
from darkroom.studies import chart_data
from darkroom.studies.base import ReadSample, Study
from darkroom.studies.run_config import RunConfig, RunResult, comparisons, count_steps
from darkroom.studies.samples import Sample
from darkroom.studies.summary import SummaryRow, best, by_name, describe_difference, format_estimate, of_comparison

SCRATCH, FROZEN, WHOLE = "scratch", "frozen", "whole network"
PARTS, SOURCES = "trained part", "source of weights"


class TransferStudy(Study):
    title = "Transfer learning"
    question = "When are pretrained weights better than random ones, and how much of the network should be trained?"
    paper = "Yosinski et al. 2014, Gidaris et al. 2018, Kornblith et al. 2019"
    held_constant = "within a comparison the images, their order and the number of steps; the steps of the pretraining"
    varies = ("pretraining", "weights", "trained_blocks", "cache_features", "architecture", "options", "lr", "image_size")
    settings: Transfer

    def extra_samples(self, own: Sample, read: ReadSample) -> dict[str, Sample]:
        return self.pretraining_samples(self.settings.sources, own, read)

    def runs(self, images: int) -> list[RunConfig]:
        """Return the runs by trained part, by source of weights if there are several, and by number of training images.

        With more images there are more steps, `epochs` of them, since a network from scratch would not see them otherwise.
        """
        settings = self.settings
        few = min(settings.few_images, images)
        parts: dict[str, int | None] = {f"{count} block{'s' * (count > 1)}": count for count in settings.blocks} | {WHOLE: None}
        runs = []
        for seed in settings.run_seeds:
            base = self.run_config("", SCRATCH, seed, settings.architecture, settings.steps, settings.options)
            base = replace(base, image_size=settings.enlarged_to)
            pretrained = self.pretrained(base, settings.sources[0])
            runs += self._scratch_and_frozen(PARTS, seed, few, settings.steps)
            for label, blocks in parts.items():
                part = replace(pretrained, comparison=PARTS, images=few, label=label, trained_blocks=blocks)
                runs.append(replace(part, cache_features=blocks is not None))
            if len(settings.sources) > 1:
                runs.append(replace(base, comparison=SOURCES, images=few, label="random"))
                for source in settings.sources:
                    runs.append(replace(self.pretrained(base, source), comparison=SOURCES, images=few, label=source))
            for count in sorted({min(size, images) for size in settings.train_sizes}):
                steps = max(settings.steps, count_steps(count, settings.batch_size, settings.epochs))
                runs += self._scratch_and_frozen(f"{count} images", seed, count, steps)
        return runs

    def _scratch_and_frozen(self, comparison: str, seed: int, count: int, steps: int) -> list[RunConfig]:
        """Return a network from random weights, and a new last layer on a frozen one, for a number of training images."""
        settings = self.settings
        scratch = self.run_config(
            comparison, SCRATCH, seed, settings.scratch or settings.architecture, steps,
            settings.scratch_options if settings.scratch else settings.options, images=count, lr=settings.scratch_lr or settings.lr,
        )  # fmt: skip
        frozen = self.run_config(
            comparison,
            FROZEN,
            seed,
            settings.architecture,
            steps,
            settings.options,
            images=count,
            lr=settings.frozen_lr or settings.lr,
        )
        frozen = self.pretrained(replace(frozen, image_size=settings.enlarged_to), settings.sources[0])
        return [scratch, replace(frozen, trained_blocks=0, cache_features=True)]

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        part = best(of_comparison(rows, PARTS))
        sentences = [f"The best trained part is {part.label}, {format_estimate(part.accuracy)}"]
        if sources := of_comparison(rows, SOURCES):
            source = best(sources)
            sentences.append(f"the best source of weights is {source.label}, {format_estimate(source.accuracy)}")
        sizes = [name for name in comparisons(results) if name not in (PARTS, SOURCES)]
        names = by_name(rows)
        frozen = "; ".join(describe_difference(names[name, FROZEN], name) for name in sizes)
        return f"{'; '.join(sentences)}. A new layer on frozen features against scratch: {frozen}. {self._crossing(names, sizes)}"

    def _crossing(self, names: Mapping[tuple[str, str], SummaryRow], sizes: Sequence[str]) -> str:
        """Say from how many images on scratch is better, by interpolation between the logarithms of two numbers."""
        gains = [names[name, FROZEN].accuracy.value - names[name, SCRATCH].accuracy.value for name in sizes]
        counts = [int(name.split()[0]) for name in sizes]
        for (low, high), (first, second) in zip(pairwise(counts), pairwise(gains), strict=True):
            if first > 0 >= second:
                share = first / (first - second)
                return f"Scratch passes the frozen features at about {low * (high / low) ** share:,.0f} images."
        if gains[0] <= 0:
            return f"Scratch is no worse from {counts[0]} images on."
        return f"Up to {counts[-1]:,} images the frozen features are better."

    def charts(self, results: Sequence[RunResult]) -> list[Chart]:
        def images(result: RunResult) -> int | None:
            return None if result.config.comparison in (PARTS, SOURCES) else result.config.images

        title = "accuracy against training images"
        return [chart_data.accuracies(results, (SCRATCH, FROZEN), images, title, "training images")]
