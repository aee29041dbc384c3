"""The studies of architectures: families, depth, bottlenecks, Inception modules, separable convolutions, inverted residuals."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from darkroom.config.study_settings import Architecture, Bottleneck, Depth, Inception, Inverted, Separable, Setting
from darkroom.core.charts import Chart
from darkroom.studies import chart_data
from darkroom.studies.base import Study, count_multiply_adds
from darkroom.studies.run_config import RunConfig, RunResult, by_label, comparisons, layer_means
from darkroom.studies.summary import (
    SummaryRow,
    best,
    by_name,
    describe_difference,
    format_estimate,
    list_significant,
    of_comparison,
)  # fmt: skip

EQUAL_COST, NO_MORE_COST = "equal multiply-adds", "no more multiply-adds"
PLAIN, RESIDUAL = "plain", "residual"
WITH, WITHOUT, STACK, DEEP_STACK, MODULES = "Inception modules", "naive modules", "3×3 stack", "1×1 and 3×3 stack", "modules"
STANDARD, SEPARABLE, KERNELS = "standard", "separable", "kernels of each channel"
FIRST, SECOND, PARTS = "v1: separable", "v2: inverted residual", "parts of v2"
NO_SKIPS, NOT_LINEAR = "without skips", "ReLU after the bottleneck"
RESIDUAL_NETWORK = "residual"
DEPTH_NETWORKS = {PLAIN: "plain", RESIDUAL: "resnet"}  # followed by the number of layers
INCEPTION_NETWORKS = {
    WITH: "inception_small", WITHOUT: "inception_small_naive", STACK: "inception_small_stack",
    DEEP_STACK: "inception_small_reduced_stack",
}  # fmt: skip
FORWARD_PASSES = 3  # a training step costs three: the gradients of weights and of inputs take as many products each
DEPTH_MULTIPLIERS = (1, 2, 4)  # kernels of each channel
WIDTH_STEP = 0.005  # of the search for a width of equal cost


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
            self.run_config(EQUAL_COST, name, seed, name, steps[name], options)
            for seed in settings.run_seeds for name, options in settings.architectures.items()
        ]  # fmt: skip

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        top = best(rows)
        return (
            f"At equal multiply-adds {top.label} has the highest accuracy, {format_estimate(top.accuracy)}; "
            f"{list_significant(rows)}. Pareto front of accuracy and multiply-adds of an image: {', '.join(pareto_front(rows))}."
        )

    def figures(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> list[dict[str, Any]]:
        return [{"comparison": EQUAL_COST, "label": "", "pareto_front": ", ".join(pareto_front(rows))}]

    def charts(self, results: Sequence[RunResult]) -> list[Chart]:
        return [chart_data.costs(results, EQUAL_COST, key) for key in ("multiply_adds", "parameters")]


def pareto_front(rows: Sequence[SummaryRow]) -> list[str]:
    """Return the labels that no other dominates in accuracy and multiply-adds of an image, cheapest first."""
    front: list[str] = []
    highest = -1.0
    for row in sorted(rows, key=lambda row: (row.multiply_adds, -row.accuracy.value)):
        if row.accuracy.value > highest:
            front.append(row.label)
            highest = row.accuracy.value
    return front


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
            for depth in sorted(settings.depths) for seed in settings.run_seeds for label, name in DEPTH_NETWORKS.items()
        ]  # fmt: skip

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        names = by_name(rows)
        shallow, *_, deep = comparisons(results)
        changes = []
        for label in DEPTH_NETWORKS:
            first, last = names[shallow, label], names[deep, label]
            changes.append(
                f"{label} networks go from {first.accuracy.value:.4f} at {shallow} to {last.accuracy.value:.4f} at {deep} "
                f"(on training images {first.train_accuracy:.4f} to {last.train_accuracy:.4f})"
            )
        return f"With depth, {', '.join(changes)}. Skip connections: {describe_difference(names[deep, RESIDUAL])}."

    def figures(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> list[dict[str, Any]]:
        """Return the gradient of the first layer before training, as a multiple of the smallest one of a layer."""
        figures = []
        for comparison in comparisons(results):
            for label, group in by_label(results, comparison).items():
                means = list(layer_means(group, "gradient").values())
                finite = [mean for mean in means if mean]
                ratio = means[0] / min(finite) if finite and means[0] is not None else None
                figures.append({"comparison": comparison, "label": label, "gradient_ratio": ratio})
        return figures

    def charts(self, results: Sequence[RunResult]) -> list[Chart]:
        deepest = comparisons(results)[-1]
        cost = chart_data.COSTS["multiply_adds"]
        by_cost = chart_data.accuracies(results, [*DEPTH_NETWORKS], lambda result: result.multiply_adds, "accuracy by depth", cost)
        gradients = [
            chart_data.layers(results, deepest, "gradient", f"{deepest}: gradient, {text}", last)
            for text, last in (("step 0", False), ("last step", True))
        ]  # fmt: skip
        return [by_cost, *gradients]


class BottleneckStudy(Study):
    title = "1×1 convolutions as bottlenecks"
    question = "How many channels can a 1×1 convolution leave before a wider one, and is a narrower network as good?"
    paper = "Szegedy et al. 2015, Lin et al. 2014"
    held_constant = "the images, their order, the number of steps, and all of the network but its wide convolutions"
    varies = ("options",)
    settings: Bottleneck

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per seed and reduction, and one of a network without any that costs no more than with the middle one."""
        settings, steps = self.settings, self.steps(images)
        own: dict[str, Any] = {"width": settings.width, "kernel": settings.kernel}
        reductions = sorted(settings.reductions)
        wide = f"{settings.kernel}×{settings.kernel}"
        networks = {f"{wide} alone": own} | {reduced_to(n): own | {"block": "reduced", "reduction": n} for n in reductions}
        middle = reductions[len(reductions) // 2]
        ceiling = cost_of(settings, RESIDUAL_NETWORK, **networks[reduced_to(middle)])
        narrow = own | {"width": widest_residual(settings, own, ceiling)}
        compared = {
            f"before {wide}": networks,
            NO_MORE_COST: {reduced_to(middle): networks[reduced_to(middle)], f"{wide} alone, narrower": narrow},
        }
        return runs_of(self, compared, steps)

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        whole, *others = of_comparison(rows, comparisons(results)[0])
        costs = "; ".join(
            f"{row.label}, {row.multiply_adds / whole.multiply_adds:.0%} of the multiply-adds: {describe_difference(row, '')}"
            for row in others
        )
        return f"{comparisons(results)[0].capitalize()}, {costs}. A narrower network without them: {describe_difference(rows[-1])}."


class InceptionStudy(Study):
    title = "Inception modules"
    question = "Are kernels of several sizes side by side better than 3×3 convolutions of the same cost?"
    paper = "Szegedy et al. 2015"
    held_constant = "the images, their order and the number of steps; the multiply-adds of an image, or the number of maps"
    varies = ("architecture", "options")
    settings: Inception

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per seed and network: with the modules, with 3×3 convolutions in their place, and with naive modules.

        A stack of 3×3 convolutions, and one that also has a 1×1 before each, so that it is as deep as the modules, are as wide
        as they can be where an image costs no more than with the modules.
        """
        settings, steps = self.settings, self.steps(images)
        own = {"width": settings.width}
        ceiling = cost_of(settings, INCEPTION_NETWORKS[WITH], **own)
        limit = settings.width
        stacks = {label: {"width": widest(settings, INCEPTION_NETWORKS[label], ceiling, limit)} for label in (STACK, DEEP_STACK)}
        return [
            self.run_config(comparison, label, seed, INCEPTION_NETWORKS[label], steps, options)
            for comparison, networks in {NO_MORE_COST: {WITH: own, **stacks}, MODULES: {WITH: own, WITHOUT: own}}.items()
            for seed in settings.run_seeds for label, options in networks.items()
        ]  # fmt: skip

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        names = by_name(rows)
        small, large = names[MODULES, WITH], names[MODULES, WITHOUT]
        return (
            f"3×3 convolutions in place of the modules: {describe_difference(names[NO_MORE_COST, STACK])}. With a 1×1 before each: "
            f"{describe_difference(names[NO_MORE_COST, DEEP_STACK])}. Naive modules take "
            f"{large.multiply_adds / small.multiply_adds:.1f} times the multiply-adds: {describe_difference(large, '')}."
        )


class SeparableStudy(Study):
    title = "Depthwise-separable convolutions"
    question = "Is a convolution per channel followed by a 1×1 convolution as good as a standard one, at its lower cost?"
    paper = "Howard et al. 2017"
    held_constant = "the images, their order, the number of steps, and all of the network but its 3×3 convolutions"
    varies = ("options",)
    settings: Separable

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per width, seed and kind, one of standard convolutions at the cost of separable ones, and separable ones of
        the smallest width with more kernels.
        """
        settings, steps = self.settings, self.steps(images)
        compared: dict[str, dict[str, dict[str, Any]]] = {}
        for width in sorted(settings.widths):
            own = {"width": width, "blocks": settings.blocks}
            compared[f"{width} channels"] = {STANDARD: own, SEPARABLE: own | {"block": "separable"}}
        separable = own | {"block": "separable"}
        narrow = own | {"width": widest_residual(settings, own, cost_of(settings, RESIDUAL_NETWORK, **separable))}
        smallest = {"width": min(settings.widths), "blocks": settings.blocks, "block": "separable"}
        kernels = {f"{n} kernel{'s' * (n > 1)}": smallest | ({"depth_multiplier": n} if n > 1 else {}) for n in DEPTH_MULTIPLIERS}
        return runs_of(self, compared | {NO_MORE_COST: {SEPARABLE: separable, STANDARD: narrow}, KERNELS: kernels}, steps)

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        *widths, last, kernels = comparisons(results)
        sentences = []
        for comparison in widths:
            dear, cheap = of_comparison(rows, comparison)
            sentences.append(
                f"With {comparison} separable convolutions take {cheap.multiply_adds / dear.multiply_adds:.0%} of multiply-adds "
                f"and {cheap.parameters / dear.parameters:.0%} of parameters: {describe_difference(cheap, '')}"
            )
        narrow = of_comparison(rows, last)[1]
        more = "; ".join(f"{row.label}: {describe_difference(row, '')}" for row in of_comparison(rows, kernels)[1:])
        return (
            f"{'. '.join(sentences)}. Standard convolutions in a narrower network: {describe_difference(narrow)}. "
            f"Several kernels for each of the {min(self.settings.widths)} channels, {more}."
        )


class InvertedStudy(Study):
    title = "Inverted residuals and linear bottlenecks"
    question = "What do skips around bottlenecks, and bottlenecks without a ReLU, add to depthwise-separable convolutions?"
    paper = "Sandler et al. 2018, Howard et al. 2017"
    held_constant = "the images, their order and the number of steps; the multiply-adds of an image, or all but one part of a block"
    varies = ("options",)
    settings: Inverted

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per seed and network. Version 2 is as wide as it can be where an image costs no more than with version 1."""
        settings, steps = self.settings, self.steps(images)
        first = {"width": settings.width, "blocks": settings.blocks, "block": "separable", "skips": False}
        ceiling = cost_of(settings, RESIDUAL_NETWORK, **first)
        second = {"blocks": settings.blocks, "block": "inverted"}
        second["width"] = widest_residual(settings, second | {"width": settings.width}, ceiling)
        compared = {
            NO_MORE_COST: {FIRST: first, SECOND: second},
            PARTS: {SECOND: second, NO_SKIPS: second | {"skips": False}, NOT_LINEAR: second | {"block": "inverted_relu"}},
        }
        return runs_of(self, compared, steps)

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        names = by_name(rows)
        parts = "; ".join(f"{row.label}: {describe_difference(row, '')}" for row in of_comparison(rows, PARTS)[1:])
        return f"{SECOND} against {FIRST}: {describe_difference(names[NO_MORE_COST, SECOND])}. Of its parts, {parts}."


def runs_of(study: Study, compared: Mapping[str, Mapping[str, Mapping[str, Any]]], steps: int) -> list[RunConfig]:
    """Return a run of the residual network per comparison, seed and label, from the options of each label."""
    return [
        study.run_config(comparison, label, seed, RESIDUAL_NETWORK, steps, options)
        for comparison, networks in compared.items() for seed in study.settings.run_seeds
        for label, options in networks.items()
    ]  # fmt: skip


def reduced_to(reduction: int) -> str:
    """Return the label of a bottleneck that leaves a share of the channels."""
    return f"1×1 to 1/{reduction} of the channels"


def widest_residual(settings: Setting, options: Mapping[str, Any], ceiling: int) -> int:
    """Return the largest width, up to that of `options`, at which an image costs no more than `ceiling`."""
    widths = range(1, options["width"] + 1)
    index = bisect_right(widths, ceiling, key=lambda width: cost_of(settings, RESIDUAL_NETWORK, **{**options, "width": width}))
    return widths[max(0, index - 1)]


def cost_of(settings: Setting, name: str, **options: Any) -> int:
    """Return the multiply-adds of an architecture for one image of a study."""
    return count_multiply_adds(name, settings.image_size, settings.channels, options)


def widest(settings: Setting, name: str, ceiling: int, limit: float) -> float:
    """Return the largest width, up to `limit`, at which an image costs no more multiply-adds than `ceiling`."""
    widths = [round(WIDTH_STEP * i, 6) for i in range(1, max(2, round(limit / WIDTH_STEP) + 1))]
    index = bisect_right(widths, ceiling, key=lambda width: cost_of(settings, name, width=width))
    return widths[max(0, index - 1)]
