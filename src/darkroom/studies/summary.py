"""What a study came to in numbers: means with intervals, differences from the reference, costs; tables and JSON of them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from darkroom.evaluation.seed_comparison import Estimate, against, holm, mean
from darkroom.studies.run_config import Outcome, Row, labels, panels

CURVE = ("step", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
LAYER = ("step", "layer", "std", "gradient", "dead", "saturated")
FIGURES = (
    "panel", "label", "seed", "accuracy", "val_loss", "train_accuracy", "train_loss", "steps", "parameters", "multiply_adds", "lr",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A label of a panel over its seeds; the first one of a panel is what the others are compared with.

    `difference` and the corrected `p` are None for the first; where the seeds say nothing of the spread, p is NaN.
    Costs are means too: a search may find something else with each seed.
    """

    panel: str
    label: str
    accuracy: Estimate
    train_accuracy: float
    parameters: int
    multiply_adds: int
    steps: int
    seeds: int
    difference: Estimate | None = None
    p: float | None = None


def lines(outcomes: Sequence[Outcome]) -> list[Line]:
    """Return a line per panel and label. p-values are corrected for all comparisons of the study (Holm 1979)."""
    made: list[Line] = []
    ps: dict[int, float] = {}
    for panel in panels(outcomes):
        first: dict[int, float] = {}
        for label, group in labels(outcomes, panel).items():
            values = {outcome.member.seed: outcome.accuracy for outcome in group}
            seen = [float(outcome.curve[-1]["train_accuracy"]) for outcome in group]
            costs = ((o.parameters, o.multiply_adds, o.member.steps) for o in group)
            parameters, multiply_adds, steps = (round(fmean(each)) for each in zip(*costs, strict=True))
            line = Line(
                panel, label, mean(list(values.values())), sum(seen) / len(seen), parameters, multiply_adds, steps, len(values)
            )
            if first:
                difference, ps[len(made)], _ = against(first, values)
                line = replace(line, difference=difference)
            else:
                first = values
            made.append(line)
    for place, p in zip(ps, holm(list(ps.values())), strict=True):
        made[place] = replace(made[place], p=p)
    return made


def as_rows(found: Sequence[Line]) -> list[Row]:
    """Return the lines as plain values; what is not a number is None."""
    rows = []
    for line in found:
        apart = line.difference or Estimate(math.nan)
        numbers = {
            "accuracy": line.accuracy.value, "low": line.accuracy.low, "high": line.accuracy.high, "difference": apart.value,
            "difference_low": apart.low, "difference_high": apart.high, "p_holm": math.nan if line.p is None else line.p,
            "train_accuracy": line.train_accuracy,
        }  # fmt: skip
        rows.append({
            "panel": line.panel, "label": line.label, "seeds": line.seeds, "steps": line.steps, "parameters": line.parameters,
            "multiply_adds": line.multiply_adds, **{key: None if math.isnan(value) else value for key, value in numbers.items()},
        })  # fmt: skip
    return rows


def said(found: Estimate, sign: str = "") -> str:
    """Return an estimate as it is printed: `0.9712 (0.9689 … 0.9735)`, in percentage points where it is a difference."""
    if sign:
        value, *edges = (f"{100 * number:{sign}.1f}".replace("-", "−") for number in (found.value, found.low, found.high))
        return f"{value} points" + ("" if math.isnan(found.low) else f" ({edges[0]} … {edges[1]})")
    return f"{found.value:.4f}" + ("" if math.isnan(found.low) else f" ({found.low:.4f} … {found.high:.4f})".replace("-", "−"))


def chance(p: float | None) -> str:
    """Return a corrected p-value as it is printed."""
    return "" if p is None or math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def sure(p: float | None) -> str:
    """Say whether a difference is more than chance."""
    if p is None or math.isnan(p):
        return "the same for every seed"
    return f"{'significant' if p < 0.05 else 'not significant'} after Holm's correction"


def differs(line: Line) -> str:
    """Say by how much a line differs from the first of its panel, and whether that is more than chance."""
    return f"{said(line.difference or Estimate(math.nan), '+')} at {line.panel}, {sure(line.p)}"


def apart(found: Sequence[Line]) -> str:
    """Say which lines of a panel differ from its first by more than chance, and by how much."""
    far = [
        f"{line.label} {said(line.difference, '+')}" for line in found if line.difference and line.p is not None and line.p < 0.05
    ]
    first = found[0].label
    return f"from {first} differ {', '.join(far)}" if far else f"no difference from {first} is significant"


def cells(found: Sequence[Line]) -> list[list[str]]:
    """Return the lines as texts, under `HEADINGS`."""
    return [
        [line.panel, line.label, said(line.accuracy), said(line.difference, "+") if line.difference else "", chance(line.p),
         f"{line.train_accuracy:.4f}", f"{line.parameters:,}", f"{line.multiply_adds:,}", f"{line.steps:,}"]
        for line in found
    ]  # fmt: skip


HEADINGS = [
    "", "", "accuracy (95%)", "from the first (95%)", "p (Holm)", "in training", "parameters", "multiply-adds", "steps",
]  # fmt: skip


def text(found: Sequence[Line]) -> str:
    """Return the lines for a terminal."""
    table = [HEADINGS, *cells(found)]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEADINGS))]
    made = ["  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))) for r in table]
    return "\n".join([made[0].rstrip(), "─" * max(map(len, made)), *(line.rstrip() for line in made[1:])])


def results(outcomes: Sequence[Outcome]) -> str:
    """Return results.csv: a row for each member, as it was after its last step."""
    rows: list[list[Any]] = []
    for o in outcomes:
        last = o.curve[-1]
        rows.append([
            o.member.panel, o.member.label, o.member.seed, last["val_accuracy"], last["val_loss"], last["train_accuracy"],
            last["train_loss"], o.member.steps, o.parameters, o.multiply_adds, o.lr,
        ])  # fmt: skip
    return table(FIGURES, rows)


def flat(outcomes: Sequence[Outcome], kind: str) -> str:
    """Return curves.csv or layers.csv (`kind`: curve, layers): a row for each look of each member, and each layer of it."""
    columns = CURVE if kind == "curve" else LAYER
    rows: list[list[Any]] = []
    for o in outcomes:
        own = [o.member.panel, o.member.label, o.member.seed]
        rows += [[*own, *(row[column] for column in columns)] for row in (o.curve if kind == "curve" else o.layers)]
    return table(("panel", "label", "seed", *columns), rows)


def costs(outcomes: Sequence[Outcome]) -> str:
    """Return cost.csv: what differs from run to run, seconds of training and milliseconds of an answer for one image."""
    rows = [[o.member.panel, o.member.label, o.member.seed, o.seconds, o.latency] for o in outcomes]
    return table(("panel", "label", "seed", "seconds", "ms_per_image"), rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return CSV; None is an empty field."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows])
    return made.getvalue()
