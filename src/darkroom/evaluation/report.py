"""`reports/report.html`: one self-contained page that says which model won, how sure that is, and where it fails."""

from __future__ import annotations

from typing import Any

from darkroom.evaluation import cost, curves
from darkroom.evaluation.metrics import REFERENCE


def page(
    figures: dict[str, dict[str, Any]],
    best: str,
    rows: list[dict[str, Any]],
    histories: dict[str, list[dict[str, str]]],
    classes: tuple[str, ...],
    data: dict[str, Any],
    params: dict[str, Any],
) -> str:
    """Return the page; `figures` are the models of metrics.json, `rows` those of the leaderboard."""
    from darkroom import pages

    chosen = figures[best]
    weakest = sorted(chosen["per_class"].items(), key=lambda item: (item[1]["f1"], item[0]))
    return pages.render(
        "evaluation",
        "report.html.j2",
        best=best,
        batch=cost.BATCH,
        chosen=chosen,
        reference=figures.get(REFERENCE),
        rows=rows,
        figures=figures,
        per_class=weakest,
        classes=classes,
        matrix=_shaded(chosen["confusion_matrix"]),
        curves=curves.picture(histories),
        data=data,
        params=params,
        source=params["ingest"]["source"],
    )


def _shaded(matrix: list[list[int]]) -> list[list[tuple[int, float]]]:
    """Return each count with its share of the row, which decides how dark the cell is."""
    return [[(count, count / max(sum(row), 1)) for count in row] for row in matrix]
