"""The results of a study in numbers and sentences: means, differences from the reference, costs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from statistics import fmean
from typing import Any

from darkroom.core import csv_cells
from darkroom.evaluation.seed_comparison import Estimate, against, mean
from darkroom.evaluation.significance import holm
from darkroom.studies.run_config import CurvePoint, LayerStats, RunResult, by_label, comparisons

ALPHA = 0.05
RUN = ("comparison", "label", "seed")
COLUMNS = {  # of each table, after those of the run
    "results.csv": ("accuracy", "val_loss", "train_accuracy", "train_loss", "steps", "parameters", "multiply_adds", "lr"),
    "curves.csv": tuple(field.name for field in fields(CurvePoint)),
    "layers.csv": tuple(field.name for field in fields(LayerStats)),
    "cost.csv": ("seconds", "ms_per_image"),
}
HEADINGS = ["", "", "accuracy (95%)", "difference (95%)", "p (Holm)", "in training", "parameters", "multiply-adds", "steps"]


@dataclass(frozen=True)
class SummaryRow:
    """A label of a comparison over its seeds. The first label of a comparison is the reference of the others.

    `difference` and the corrected `p` are None for the reference; p is NaN where the difference is the same
    for every seed. Costs are means too: a search may find other settings with each seed.
    """

    comparison: str
    label: str
    accuracy: Estimate
    train_accuracy: float
    parameters: int
    multiply_adds: int
    steps: int
    seeds: int
    difference: Estimate | None = None
    p: float | None = None

    @property
    def is_significant(self) -> bool:
        return self.p is not None and self.p < ALPHA

    @property
    def is_worse(self) -> bool:
        return self.is_significant and self.difference is not None and self.difference.value < 0

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values; a number that is NaN is None."""
        difference = self.difference or Estimate(math.nan)
        numbers = {
            "accuracy": self.accuracy.value, "low": self.accuracy.low, "high": self.accuracy.high,
            "difference": difference.value, "difference_low": difference.low, "difference_high": difference.high,
            "p_holm": math.nan if self.p is None else self.p, "train_accuracy": self.train_accuracy,
        }  # fmt: skip
        return {
            "comparison": self.comparison, "label": self.label, "seeds": self.seeds, "steps": self.steps,
            "parameters": self.parameters, "multiply_adds": self.multiply_adds,
            **{key: None if math.isnan(value) else value for key, value in numbers.items()},
        }  # fmt: skip

    def cells(self) -> list[str]:
        """Return the row as text, under `HEADINGS`."""
        return [
            self.comparison, self.label, format_estimate(self.accuracy), format_difference(self.difference), format_p(self.p),
            f"{self.train_accuracy:.4f}", f"{self.parameters:,}", f"{self.multiply_adds:,}", f"{self.steps:,}",
        ]  # fmt: skip


def summarize(results: Sequence[RunResult]) -> list[SummaryRow]:
    """Return a row per comparison and label, with p-values corrected over the study (Holm 1979)."""
    rows: list[SummaryRow] = []
    ps: dict[int, float] = {}
    for comparison in comparisons(results):
        reference: dict[int, float] = {}
        for label, group in by_label(results, comparison).items():
            values = {result.config.seed: result.accuracy for result in group}
            train_accuracy = sum(result.curve[-1].train_accuracy for result in group) / len(group)
            costs = ((result.parameters, result.multiply_adds, result.config.steps) for result in group)
            parameters, multiply_adds, steps = (round(fmean(cost)) for cost in zip(*costs, strict=True))
            accuracy = mean(list(values.values()), is_share=True)
            row = SummaryRow(comparison, label, accuracy, train_accuracy, parameters, multiply_adds, steps, len(values))
            if reference:
                difference, ps[len(rows)], _ = against(reference, values)
                row = replace(row, difference=difference)
            else:
                reference = values
            rows.append(row)
    for index, p in zip(ps, holm(list(ps.values())), strict=True):
        rows[index] = replace(rows[index], p=p)
    return rows


def best(rows: Sequence[SummaryRow]) -> SummaryRow:
    """Return the row with the highest mean accuracy; of equals the first."""
    return max(rows, key=lambda row: row.accuracy.value)


def of_comparison(rows: Sequence[SummaryRow], comparison: str) -> list[SummaryRow]:
    """Return the rows of a comparison."""
    return [row for row in rows if row.comparison == comparison]


def by_name(rows: Sequence[SummaryRow]) -> dict[tuple[str, str], SummaryRow]:
    """Return the rows by comparison and label."""
    return {(row.comparison, row.label): row for row in rows}


def format_estimate(estimate: Estimate) -> str:
    """Return an estimate as text: `0.9712 (0.9689 … 0.9735)`."""
    interval = "" if math.isnan(estimate.low) else f" ({estimate.low:.4f} … {estimate.high:.4f})"
    return f"{estimate.value:.4f}{interval}".replace("-", "−")


def format_difference(difference: Estimate | None) -> str:
    """Return a difference in percentage points: `+1.2 points (+0.4 … +2.0)`; an empty text for none."""
    if difference is None:
        return ""
    value, low, high = (f"{100 * number:+.1f}" for number in (difference.value, difference.low, difference.high))
    return f"{value} points{'' if math.isnan(difference.low) else f' ({low} … {high})'}".replace("-", "−")


def format_p(p: float | None) -> str:
    """Return a corrected p-value as text."""
    return "" if p is None or math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def significance(p: float | None) -> str:
    """Return whether a difference is significant, in words."""
    if p is None or math.isnan(p):
        return "the same for every seed"
    return f"{'significant' if p < ALPHA else 'not significant'} after Holm's correction"


def describe_difference(row: SummaryRow, comparison: str | None = None) -> str:
    """Return the difference of a row from its reference, and whether it is significant."""
    place = row.comparison if comparison is None else comparison
    return f"{format_difference(row.difference)}{place and f' at {place}'}, {significance(row.p)}"


def list_significant(rows: Sequence[SummaryRow]) -> str:
    """Return which rows of a comparison differ significantly from the reference, and by how much."""
    different = [f"{row.label} {format_difference(row.difference)}" for row in rows if row.is_significant]
    if not different:
        return f"no difference from {rows[0].label} is significant"
    return f"significantly different from {rows[0].label}: {', '.join(different)}"


def tables(results: Sequence[RunResult]) -> dict[str, str]:
    """Return the text of the tables by file name.

    results.csv has a row for each run, after its last step; curves.csv one for each evaluation of each run;
    layers.csv one for each layer at each evaluation. The rows of cost.csv, seconds of training and
    milliseconds of a prediction, differ from run to run.
    """
    rows: dict[str, list[list[Any]]] = {name: [] for name in COLUMNS}
    for result in results:
        run, last = [result.config.comparison, result.config.label, result.config.seed], result.curve[-1]
        rows["results.csv"].append([
            *run, last.val_accuracy, last.val_loss, last.train_accuracy, last.train_loss, result.config.steps,
            result.parameters, result.multiply_adds, result.lr,
        ])  # fmt: skip
        rows["curves.csv"] += [[*run, *astuple(point)] for point in result.curve]
        rows["layers.csv"] += [[*run, *astuple(layer)] for layer in result.layers]
        rows["cost.csv"].append([*run, result.seconds, result.latency])
    return {name: to_csv((*RUN, *COLUMNS[name]), rows[name]) for name in COLUMNS}


def to_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return CSV; None is an empty field. A label that a spreadsheet would run as a formula is escaped."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    cells = [[f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows]
    writer.writerows(map(csv_cells.escaped, (columns, *cells)))
    return text.getvalue()
