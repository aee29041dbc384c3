"""The table that a run ends with."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

COLUMNS = ("model", "kind", "accuracy", "macro_f1", "parameters", "ms_per_image", "train_seconds")


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the leaderboard, best test accuracy first."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(ranked(rows))


def ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (-float(row["accuracy"]), -float(row["macro_f1"]), row["model"]))


def read(path: Path) -> list[dict[str, Any]]:
    """Read a leaderboard as it was written."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows: list[dict[str, Any]], best: str) -> str:
    """Return the leaderboard for a terminal; the model that validation chose is marked."""
    head = ("model", "test accuracy", "macro F1", "parameters", "ms/image", "training")
    lines = [head]
    for row in rows:
        lines.append((
            ("→ " if row["model"] == best else "  ") + row["model"],
            f"{float(row['accuracy']):.4f}",
            f"{float(row['macro_f1']):.4f}",
            f"{int(row['parameters']):,}",
            f"{float(row['ms_per_image']):.2f}",
            f"{float(row['train_seconds']):.1f} s",
        ))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = []
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "─" * max(len(line) for line in text))
    return "\n".join(text)
