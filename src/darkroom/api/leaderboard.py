"""The last evaluation as an object that a notebook shows."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from darkroom.core.lazy import lazy_imports
from darkroom.evaluation import leaderboard
from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.metrics_io import Metrics

with lazy_imports():
    import pandas as pd

    from darkroom.api import html


class Leaderboard:
    """The models of an evaluation, best test accuracy first; `best` is the one that validation selected."""

    def __init__(self, rows: list[Row], metrics: Metrics) -> None:
        self.rows, self.metrics = rows, metrics

    @property
    def best(self) -> str:
        """The name of the selected model. Test figures do not choose it."""
        return self.metrics.best

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, model: str) -> Row:
        """Return the row of a model. Raises KeyError if it was not evaluated."""
        return {row.model: row for row in self.rows}[model]

    def to_frame(self) -> pd.DataFrame:
        """Return the columns of reports/leaderboard.csv, a row per model."""
        return pd.DataFrame(
            [row.model_dump(include=set(leaderboard.COLUMNS)) for row in self.rows], columns=list(leaderboard.COLUMNS)
        )

    def __repr__(self) -> str:
        return repr(self.to_frame())

    def _repr_html_(self) -> str:
        rows = [
            (
                f"<b>{escape(row.model)}</b>" if row.model == self.best else escape(row.model), f"{row.accuracy:.4f}",
                f"{row.macro_f1:.4f}", f"{row.parameters:,}", f"{row.ms_per_image:.2f}", f"{row.train_seconds:.1f} s",
            )
            for row in self.rows
        ]  # fmt: skip
        return f"{html.table(leaderboard.HEADER, rows)}<p>{escape(leaderboard.describe_selection(self.metrics) or '')}</p>"
