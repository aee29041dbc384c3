"""The files of a study: tables, JSON, pictures and a page. Only those of `write_costs` differ from run to run."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from darkroom.config.study_params import Setting
from darkroom.core import atomic, pages
from darkroom.studies import plots, summary
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunResult
from darkroom.studies.samples import Sample
from darkroom.studies.summary import SummaryRow


@dataclass(frozen=True)
class DataFacts:
    """The images of a study, as summary.json has them."""

    name: str
    images: int
    held_out: int
    classes: int
    image_size: int
    channels: int
    sha256: str

    @classmethod
    def of(cls, settings: Setting, sample: Sample) -> DataFacts:
        counts = len(sample.train_labels), len(sample.val_labels), sample.classes
        return cls(settings.data, *counts, settings.image_size, settings.channels, sample.digest)


def write_results(
    folder: Path, name: str, study: Study, size: str, data: DataFacts, results: Sequence[RunResult]
) -> tuple[str, list[SummaryRow]]:
    """Write results.csv, curves.csv, layers.csv, summary.json, `name`.png and index.html; return the finding and the rows.

    The folder appears whole or not at all.
    """
    rows = summary.summarize(results)
    finding = study.finding(rows, results)
    picture = plots.draw_study(study, results, rows)
    encoded = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    facts: dict[str, Any] = {"size": size, "data": asdict(data), "settings": study.settings.model_dump()}
    tables = {
        "results.csv": summary.results_csv(results), "curves.csv": summary.curves_csv(results),
        "layers.csv": summary.layers_csv(results), **study.tables(),
    }  # fmt: skip
    page = pages.render(
        "studies", "study.html.j2", source=study.title, study=study, finding=finding, picture=encoded,
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
