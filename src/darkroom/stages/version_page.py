"""The description of a registered version, which MLflow shows on its page as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darkroom.evaluation.gate import GateResult
from darkroom.evaluation.leaderboard import HEADER, Row

LONGEST = 4900  # characters; MLflow keeps 5,000
SHOWN_CLASSES = 20


@dataclass(frozen=True)
class Data:
    """The images that a version was trained, chosen and tested on; `digest` is the md5 of the manifest, as in dvc.lock."""

    source: str
    digest: str
    counts: Mapping[str, int]  # images by split
    classes: Sequence[str]
    image_size: int

    def as_tags(self) -> dict[str, str]:
        """Return the tags of the version that the registry's table can show."""
        return {
            "data_digest": self.digest,
            "data_images": ", ".join(f"{count:,} {split}" for split, count in self.counts.items()),
            "data_classes": str(len(self.classes)),
            "image_size": str(self.image_size),
        }


def describe(summary: str, verdict: GateResult, row: Row, data: Data) -> str:
    """Return the page: what was chosen and why, every check, the row of the leaderboard, the data, inputs and outputs."""
    classes = ", ".join(data.classes[:SHOWN_CLASSES]) + (", …" if len(data.classes) > SHOWN_CLASSES else "")
    cells = (
        row.model, f"{row.accuracy:.4f}", f"{row.macro_f1:.4f}", f"{row.parameters:,}", f"{row.ms_per_image:.2f}",
        f"{row.train_seconds:.1f} s",
    )  # fmt: skip
    marks = ["passed" if check.passed else "**veto**" if check.is_veto else "**no**" for check in verdict.checks]
    checks = [(mark, check.name, check.message) for mark, check in zip(marks, verdict.checks, strict=True)]
    size, count = data.image_size, len(data.classes)
    parts = [
        f"{summary}.",
        "### Data",
        f"{', '.join(f'{images:,} {split}' for split, images in data.counts.items())} images of {data.source}, "
        f"manifest `{data.digest}`. {count} classes: {classes}.",
        "### Leaderboard",
        _table(HEADER, [cells]),
        "### Takes and gives",
        "The version takes a table with the column `image`, bytes of an image file in base64, and gives `label`, `confidence`, "
        "`probabilities` and `error`: `serving_input_example.json` among its files is a request. "
        f"`exported/model.onnx` takes `images`, uint8 ({size} × {size} RGB, any number of images: N, {size}, {size}, 3), and gives "
        f"`logits`, divided by the temperature, and `probabilities`, float32 (N, {count}). Its metadata have the classes in their "
        "order, the preprocessing and the temperature; `exported/README.md` has code that runs it.",
        f"### Checks: {verdict.message.partition(':')[0]}",
        _table(("", "check", "result"), checks),
    ]
    text = "\n\n".join(parts)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '¦') for cell in line)} |" for line in lines)
