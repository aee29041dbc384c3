"""The page of a study: a single file with its finding, its charts and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from darkroom.core import charts, pages
from darkroom.core.charts import Chart
from darkroom.studies.base import Study
from darkroom.studies.chart_data import ComparisonCharts
from darkroom.studies.summary import HEADINGS, SummaryRow


def render(
    study: Study,
    finding: str,
    rows: Sequence[SummaryRow],
    compared: Sequence[ComparisonCharts],
    further: Sequence[Chart],
    files: Sequence[str],
    lesson: str | None,
    images: bytes,
    gallery: bytes | None,
    facts: Mapping[str, Any],
) -> str:
    """Return the page. `files` lie beside it, `lesson` is the address of the study's lesson; both only have links.

    `images` is a PNG of training images, `gallery` one of predictions; the page holds both.
    """
    sections = [
        {
            "name": comparison.name, "means": charts.dots(comparison.means, f"{comparison.name}: accuracy"),
            "colours": comparison.train_loss.colours,
            "curves": [charts.draw(chart) for chart in (comparison.train_loss, comparison.val_accuracy)],
        }
        for comparison in compared
    ]  # fmt: skip
    return pages.render(
        "studies", "study.html.j2", source=study.title, study=study, finding=finding, sections=sections,
        further=[(charts.draw(chart), chart.colours) for chart in further if chart.colours],
        headings=HEADINGS, rows=[row.cells() for row in rows], files=files, lesson=lesson,
        images=pages.data_uri("image/png", images), gallery=gallery and pages.data_uri("image/png", gallery), **facts,
    )  # fmt: skip
