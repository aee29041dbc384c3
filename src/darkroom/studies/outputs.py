"""The files of a study: tables, JSON, pictures and a page.

Only those of `write_costs` differ from run to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from darkroom.core import atomic, pages
from darkroom.studies import plots, summary
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunResult
from darkroom.studies.samples import Sample
from darkroom.studies.summary import SummaryRow


def write_results(
    folder: Path, name: str, study: Study, size: str, sample: Sample, results: Sequence[RunResult]
) -> tuple[str, list[SummaryRow]]:
    """Write the tables, summary.json, a picture and a page; return the finding and the rows.

    The folder appears whole or not at all.
    """
    rows = summary.summarize(results)
    finding = study.finding(rows, results)
    picture = plots.draw_study(study, results, rows)
    settings = study.settings
    data = {
        "name": settings.data, "images": len(sample.train_labels), "held_out": len(sample.val_labels),
        "classes": sample.classes, "image_size": settings.image_size, "channels": settings.channels, "sha256": sample.digest,
    }  # fmt: skip
    facts: dict[str, Any] = {"size": size, "data": data, "settings": settings.model_dump()}
    tables = {
        "results.csv": summary.results_csv(results), "curves.csv": summary.curves_csv(results),
        "layers.csv": summary.layers_csv(results), **study.tables(),
    }  # fmt: skip
    page = pages.render(
        "studies", "study.html.j2", source=study.title, study=study, finding=finding,
        picture=pages.data_uri("image/png", picture),
        headings=summary.HEADINGS, rows=[row.cells() for row in rows], **facts,
    )  # fmt: skip
    with atomic.new_folder(folder) as working:
        for file, text in {**tables, "index.html": page}.items():
            (working / file).write_text(text, encoding="utf-8")
        (working / f"{name}.png").write_bytes(picture)
        atomic.write_json(working / "summary.json", {
            "study": name, "question": study.question, "held_constant": study.held_constant, "finding": finding, **facts,
            "rows": [row.as_dict() for row in rows],
        })  # fmt: skip
    return finding, rows


def write_costs(folder: Path, results: Sequence[RunResult]) -> None:
    """Write cost.csv, and latency.png: accuracy against milliseconds."""
    with atomic.new_folder(folder) as working:
        (working / "cost.csv").write_text(summary.costs_csv(results), encoding="utf-8")
        (working / "latency.png").write_bytes(plots.draw_latency(results))
