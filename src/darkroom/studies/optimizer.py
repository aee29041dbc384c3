"""The study of optimizers, schedules and batch sizes, each with its own learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from darkroom.config.study_params import Optimizer
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunConfig, RunResult, by_label, count_steps
from darkroom.studies.schedules import schedule
from darkroom.studies.summary import SummaryRow, best, format_estimate, list_significant, of_comparison

OPTIMIZERS, SCHEDULES, BATCHES = "optimizer", "schedule", "batch size"


class OptimizerStudy(Study):
    title = "Optimizers, schedules and batch sizes"
    question = "How much do optimizer, schedule and batch size matter if each has its own learning rate?"
    paper = (
        "Polyak 1964, Sutskever et al. 2013, Kingma and Ba 2015, Loshchilov and Hutter 2017 and 2019, Smith 2017, Goyal et al. 2017"
    )
    held_constant = "the images and the number of epochs; among optimizers and among schedules, the number of steps"
    varies = ("optimizer", "weight_decay", "schedule", "batch_size", "steps", "warmup", "eval_points")
    settings: Optimizer

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per seed and optimizer, schedule and batch size.

        With `lr: 0` a range test finds the rate.
        """
        settings = self.settings
        for name in settings.schedules:
            schedule(name)
        runs = []
        for seed in range(settings.seeds):
            base = self.run_config(OPTIMIZERS, "", seed, settings.architecture, self.steps(images), settings.options)
            runs += [replace(base, label=name, optimizer=name) for name in settings.optimizers]
            runs += [replace(base, comparison=SCHEDULES, label=name, schedule=name) for name in settings.schedules]
            for size in settings.batch_sizes:
                steps = count_steps(images, size, settings.epochs)
                runs.append(self.run_config(
                    BATCHES, str(size), seed, settings.architecture, steps, settings.options, batch_size=size,
                ))  # fmt: skip
        return runs

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        """Return the best label of each comparison, its learning rate, and the significant differences."""
        sentences = []
        for comparison in (OPTIMIZERS, SCHEDULES, BATCHES):
            labels = of_comparison(rows, comparison)
            top = best(labels)
            rates = [result.lr for result in by_label(results, comparison)[top.label]]
            mean_rate = math.exp(sum(map(math.log, rates)) / len(rates))  # geometric
            sentences.append(
                f"{comparison}: {top.label} has the highest mean, {format_estimate(top.accuracy)} at a learning rate of "
                f"{mean_rate:.2g}; {list_significant(labels)}"
            )
        return ". ".join(sentences) + "."

    def draw(self, axes: Sequence[Any], results: Sequence[RunResult], colors: Mapping[str, str]) -> None:
        """Draw the range tests of the optimizers, and the learning rates by batch size."""
        left, right = axes
        for label, group in by_label(results, OPTIMIZERS).items():
            if group[0].lr_test:
                left.plot(*zip(*group[0].lr_test, strict=True), color=colors[label], lw=1.5)
            left.axvline(group[0].lr, color=colors[label], lw=0.8, ls=":")
        left.set_xscale("log")
        left.set_xlabel("learning rate; dotted: the one used", fontsize=8)
        left.set_title("range test: loss of seed 0", fontsize=9)
        for label, group in by_label(results, BATCHES).items():
            right.plot([int(label)] * len(group), [result.lr for result in group], "o", color=colors[label], ms=4)
        right.set_xscale("log", base=2)
        right.set_yscale("log")
        right.set_xlabel("batch size", fontsize=8)
        right.set_title("learning rate by batch size and seed", fontsize=9)
