"""The study of scaling: a network made dearer by depth, by width, by resolution, or by a little of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from darkroom.config.study_settings import Scaling
from darkroom.core.charts import Chart
from darkroom.core.errors import ParamsError
from darkroom.models.architectures import registry
from darkroom.models.architectures.efficientnet import ALPHA, BETA, GAMMA
from darkroom.studies import chart_data
from darkroom.studies.base import Study, count_multiply_adds
from darkroom.studies.run_config import RunConfig, RunResult, comparisons
from darkroom.studies.summary import SummaryRow, best, describe_difference, format_difference, of_comparison

BASE, COMPOUND = "base", "compound"
AGAINST = f", against {COMPOUND}"  # ends the name of a comparison at equal cost
DEPTH_OPTIONS = {"blocks", "depth"}  # of an architecture: the blocks of a stage, or a factor of them
SIDE_MARGIN = 3  # pixels by which the resolution of compound scaling may differ from the formula
MAX_RATIO = 1.5  # of the multiply-adds reached to those requested
HALVINGS = 8  # of the interval in which a scale of the requested cost is searched


class Scale(NamedTuple):
    """Factors of the base network's layers, channels and pixels a side."""

    depth: float
    width: float
    resolution: float


UNSCALED = Scale(1.0, 1.0, 1.0)
METHODS: dict[str, Callable[[float], Scale]] = {
    "depth": lambda s: Scale(s, 1, 1),
    "width": lambda s: Scale(1, s, 1),
    "resolution": lambda s: Scale(1, 1, s),
    COMPOUND: lambda s: Scale(ALPHA ** (s - 1), BETA ** (s - 1), GAMMA ** (s - 1)),  # φ = s - 1
}


class ScalingStudy(Study):
    title = "Scaling a network up"
    question = "How should a network become larger: by depth, by width, by image size, or by a little of each?"
    paper = "Tan and Le 2019"
    held_constant = "the images, their order and the number of steps; within a comparison the multiply-adds, as nearly as possible"
    varies = ("options", "image_size")
    settings: Scaling

    def __init__(self, settings: Scaling) -> None:
        """Raises ParamsError if the architecture's layers or channels cannot be scaled, or if it does not take the options."""
        super().__init__(settings)
        defaults = registry.entry(settings.architecture).options
        depths = defaults.keys() & DEPTH_OPTIONS
        if "width" not in defaults or not depths:
            scalable = [
                name for name in registry.names()
                if "width" in (options := registry.entry(name).options) and options.keys() & DEPTH_OPTIONS
            ]  # fmt: skip
            reason = f"{settings.architecture} has no options for its number of layers and of channels"
            raise ParamsError(reason, f"set architecture to {' or '.join(scalable)}")
        self.options = {**defaults, **settings.options}
        self.scaled = {depths.pop(): "depth", "width": "width"}  # a field of Scale by option
        self.is_count = {option: isinstance(defaults[option], int) for option in self.scaled}
        self.costs: dict[str, int] = {}
        count_multiply_adds(settings.architecture, settings.base_size, settings.channels, self.options)  # refuses wrong values

    def runs(self, images: int) -> list[RunConfig]:
        """Return the base and a run per factor, seed and method; and the latter again, compared with compound scaling.

        Raises ParamsError if no network has the requested cost.
        """
        settings, steps = self.settings, self.steps(images)
        compared: dict[str, dict[str, Scale]] = {}
        for factor in sorted(settings.factors):
            single = {method: self.find_scale(method, factor) for method in METHODS}
            compound = {COMPOUND: single.pop(COMPOUND)}
            compared[f"×{factor:g}"] = {BASE: UNSCALED} | single | compound
            compared[f"×{factor:g}{AGAINST}"] = compound | single
        runs = []
        for comparison, scales in compared.items():
            networks = {label: self.network(scale) for label, scale in scales.items()}
            for seed in settings.run_seeds:
                for label, (options, side) in networks.items():
                    runs.append(self.run_config(comparison, label, seed, settings.architecture, steps, options, image_size=side))
        return runs

    def find_scale(self, method: str, factor: float) -> Scale:
        """Return the scale whose multiply-adds are nearest to `factor` times the base's."""
        settings, make = self.settings, METHODS[method]
        target = factor * self.cost(UNSCALED)
        low, high = 1.0, 1.0 + 2 * factor
        while make(high).resolution * settings.base_size > settings.image_size + 0.5:
            high -= 0.05  # no image is larger than image_size: above 64 pixels networks are cheaper again
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.cost(make(middle)) < target else (low, middle)
        candidates = [make(low), make(high)]
        if method == COMPOUND:  # depth and width grow in steps, for which the resolution makes up
            base = settings.base_size
            candidates = [
                scale._replace(resolution=max(round(base * scale.resolution) + margin, base) / base)
                for scale in candidates for margin in range(-SIDE_MARGIN, SIDE_MARGIN + 1)
            ]  # fmt: skip
        nearest = min(candidates, key=lambda scale: abs(math.log(self.cost(scale) / target)))
        reached = self.cost(nearest) / self.cost(UNSCALED)
        if abs(math.log(reached / factor)) > math.log(MAX_RATIO):
            reason = f"scaling by {method} reaches {reached:.2g} times the multiply-adds of the base, not {factor:g} times"
            raise ParamsError(reason, "raise image_size, or change base_size, options or factors")
        return nearest

    def network(self, scale: Scale) -> tuple[dict[str, Any], int]:
        """Return the options of a network, and the pixels a side of its images."""
        options = dict(self.options)
        for option, field in self.scaled.items():
            value = options[option] * getattr(scale, field)
            options[option] = max(1, round(value)) if self.is_count[option] else round(value, 4)
        return options, round(self.settings.base_size * scale.resolution)

    def cost(self, scale: Scale) -> int:
        """Return the multiply-adds of an image."""
        options, side = self.network(scale)
        key = f"{side} {options}"
        if key not in self.costs:
            self.costs[key] = count_multiply_adds(self.settings.architecture, side, self.settings.channels, options)
        return self.costs[key]

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        sentences = []
        for factor in (name for name in comparisons(results) if not name.endswith(AGAINST)):
            base, *others = of_comparison(rows, factor)
            differences = "; ".join(
                f"{row.label} (×{row.multiply_adds / base.multiply_adds:.1f}) {format_difference(row.difference)}"
                f"{'' if row.is_significant else ', not significant'}"
                for row in others
            )
            single = best(of_comparison(rows, factor + AGAINST)[1:])
            sentences.append(
                f"At {factor} of the multiply-adds, {best(others).label} is best: {differences}; "
                f"{single.label}, the best single factor, against {COMPOUND}: {describe_difference(single, '')}"
            )
        return ". ".join(sentences) + "."

    def charts(self, results: Sequence[RunResult]) -> list[Chart]:
        return [chart_data.costs(results, comparisons(results)[-2], key) for key in ("multiply_adds", "parameters")]
