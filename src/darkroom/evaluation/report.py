"""`reports/report.html`: one self-contained page that says which model won, how sure that is, and where it fails."""

from __future__ import annotations

import io
from typing import Any

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
        chosen=chosen,
        reference=figures.get(REFERENCE),
        rows=rows,
        figures=figures,
        per_class=weakest,
        classes=classes,
        matrix=_shaded(chosen["confusion_matrix"]),
        curves=curves(histories),
        data=data,
        params=params,
        source=params["ingest"]["source"],
    )


def _shaded(matrix: list[list[int]]) -> list[list[tuple[int, float]]]:
    """Return each count with its share of the row, which decides how dark the cell is."""
    return [[(count, count / max(sum(row), 1)) for count in row] for row in matrix]


def curves(histories: dict[str, list[dict[str, str]]]) -> str:
    """Return the learning curves of all models as an SVG picture that takes its text colour from the page."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "darkroom", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        loss, accuracy = figure.subplots(1, 2)
        for name, history in histories.items():
            epochs = [int(row["epoch"]) for row in history]
            loss.plot(epochs, [float(row["val_loss"]) for row in history], label=name, marker="." if len(epochs) < 3 else None)
            accuracy.plot(
                epochs,
                [float(row["val_accuracy"]) for row in history],
                label=name,
                marker="." if len(epochs) < 3 else None,
            )
        loss.set(xlabel="epoch", title="validation loss", yscale="log")
        accuracy.set(xlabel="epoch", title="validation accuracy")
        accuracy.legend(fontsize=8, framealpha=0)
        for axes in (loss, accuracy):
            axes.grid(alpha=0.25)
            axes.patch.set_alpha(0)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        figure.patch.set_alpha(0)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    text = stream.getvalue()
    return text[text.index("<svg") :].replace("#000000", "currentColor")
