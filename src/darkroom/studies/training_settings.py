"""The studies of a training's settings: initial weights, optimizers with their schedules, augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from darkroom.config.study_settings import Augmentation, Initialization, Optimizer
from darkroom.core.axes import Axis
from darkroom.core.charts import Chart, Series
from darkroom.models.init import scheme
from darkroom.studies import chart_data
from darkroom.studies.base import Study
from darkroom.studies.learning_rate import schedule
from darkroom.studies.run_config import RunConfig, RunResult, by_label, comparisons, count_steps
from darkroom.studies.summary import (
    SummaryRow,
    best,
    describe_difference,
    format_difference,
    format_estimate,
    list_significant,
    of_comparison,
)  # fmt: skip

REFERENCE_SCHEME = "kaiming"
NETWORKS = {"mlp": "mlp", "cnn": "lenet5"}
OPTIMIZERS, SCHEDULES, BATCHES = "optimizer", "schedule", "batch size"
POLICIES, VIEWS, NEW = "policy", "views of an image", "new each epoch"


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
        names = sorted(settings.schemes, key=lambda name: name != REFERENCE_SCHEME)
        options: dict[str, dict[str, Any]] = {"mlp": {"hidden": list(settings.hidden)}, "cnn": {"activation": "relu"}}
        return [
            self.run_config(network, name, seed, NETWORKS[network], steps, options[network], scheme=name)
            for network in settings.networks for seed in settings.run_seeds for name in names
        ]  # fmt: skip

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
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

    def charts(self, results: Sequence[RunResult]) -> list[Chart]:
        network = comparisons(results)[0]
        return [
            chart_data.layers(results, network, key, f"{network}: {text}, step 0")
            for key, text in (("std", "deviation of outputs"), ("gradient", "gradient"))
        ]  # fmt: skip


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
        for seed in settings.run_seeds:
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

    def charts(self, results: Sequence[RunResult]) -> list[Chart]:
        colours = chart_data.label_colours(results)
        tests = []
        for label, (first, *_) in by_label(results, OPTIMIZERS).items():
            used = [point for point in first.lr_test if float(f"{point[0]:.3g}") == first.lr]
            tests += [Series(label, first.lr_test, colours[label]), Series(label, used, colours[label], "dots")]
        sizes = by_label(results, BATCHES)
        ticks = {float(size): size for size in sizes}
        rates = [
            Series(size, [(float(size), result.lr) for result in group], colours[size], "dots") for size, group in sizes.items()
        ]  # fmt: skip
        return [
            Chart("range test of seed 0: loss", Axis("learning rate; dot: the one used", log=True), Axis(), tests),
            Chart("learning rate by batch size and seed", Axis("batch size", log=True, ticks=ticks), Axis(log=True), rates),
        ]


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
        for seed in settings.run_seeds:
            base = self.run_config(POLICIES, "", seed, settings.architecture, steps, settings.options)
            runs += [replace(base, label=name, policy="" if name == "none" else name) for name in settings.policies]
            base = replace(base, comparison=VIEWS, policy=settings.policy)
            runs += [replace(base, label=str(count) if count else NEW, views=count) for count in settings.views]
        return runs

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        policies, views = of_comparison(rows, POLICIES), of_comparison(rows, VIEWS)
        top = best(policies)
        return (
            f"The policy with the highest mean is {top.label}, {format_estimate(top.accuracy)}; {list_significant(policies)}. "
            f"Views: {views[-1].label} instead of {views[0].label}: {describe_difference(views[-1])}."
        )

    def charts(self, results: Sequence[RunResult]) -> list[Chart]:
        return [chart_data.curves(results, name, "val_loss", f"{name}: held-out loss") for name in (POLICIES, VIEWS)]
