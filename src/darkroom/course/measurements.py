"""Which number of a student's own run answers a question, as a comment in the page names it.

- `<!-- summary: STUDY | COMPARISON | LABEL | FIELD -->`: of a row or a figure in studies/results/STUDY/summary.json, or of the
  tables beside it: the mean learning rate of results.csv, the milliseconds of cost.csv;
- `<!-- lab: NAME | ROW | FIELD -->`: of a row of the table reports/lab/NAME.csv, which its first cells name;
- `<!-- leaderboard: RECIPE | MODEL | FIELD -->`: of a row of reports/leaderboard.csv, after a run with the recipe.

FIELD may be `FIELD - LABEL` or `FIELD / LABEL`: the difference from another row of the comparison, or the ratio to it. The
LABEL `highest` or `lowest` is the one with that number. A question may have several comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from darkroom.course.quantities import Unit

FIELDS = {
    # of rows of a study
    "accuracy": Unit.SHARE, "train_accuracy": Unit.SHARE, "difference": Unit.POINTS, "multiply_adds": Unit.COUNT,
    "parameters": Unit.COUNT, "lr": Unit.NUMBER, "ms_per_image": Unit.NUMBER,
    # of a study's own figures
    "gradient_ratio": Unit.TIMES, "importance": Unit.PERCENT, "pruned": Unit.PERCENT, "pareto_front": Unit.TEXT,
    # of tables of the lab
    "distinct": Unit.COUNT, "receptive field": Unit.COUNT, "effective": Unit.NUMBER, "held_ratio": Unit.TIMES,
    "correlation": Unit.NUMBER, "changed": Unit.COUNT, "features": Unit.SHARE, "pixels": Unit.SHARE,
}  # fmt: skip
WORDS = {
    "train_accuracy": "training accuracy", "multiply_adds": "multiply-adds", "lr": "learning rate", "ms_per_image": "milliseconds",
    "gradient_ratio": "gradient of the first layer as a multiple of the smallest one", "pruned": "share of pruned trials",
    "pareto_front": "Pareto front", "distinct": "different units", "effective": "effective field", "changed": "changed predictions",
    "held_ratio": "error as a multiple of PCA's", "features": "accuracy on features", "pixels": "accuracy on pixels",
}  # fmt: skip
HIGHEST, LOWEST = "highest", "lowest"
SUMMARY, LAB, LEADERBOARD = "summary", "lab", "leaderboard"
FORMS = {
    SUMMARY: "summary: STUDY | COMPARISON | LABEL | FIELD",
    LAB: "lab: NAME | ROW | FIELD",
    LEADERBOARD: "leaderboard: RECIPE | MODEL | FIELD",
}
_COMMENT = re.compile(r"\s*<!--(.*?)-->", re.DOTALL)


@dataclass(frozen=True)
class Measurement:
    """A number of the student's own run: a field of a row, less or divided by (`operation`) that of the row `other`."""

    source: str
    name: str  # of the study, the table or the recipe
    comparison: str
    label: str
    field: str
    operation: str = ""
    other: str = ""

    @property
    def is_extreme(self) -> bool:
        """Whether it asks which label has the highest or lowest number."""
        return self.label in (HIGHEST, LOWEST)

    @property
    def unit(self) -> Unit:
        """What the number is."""
        own = FIELDS[self.field]
        if self.operation == "/":
            return Unit.TIMES
        return Unit.POINTS if self.operation and own in (Unit.SHARE, Unit.PERCENT) else own

    def __str__(self) -> str:
        """Return the number in words: `accuracy of 20 layers, residual`."""
        field = WORDS.get(self.field, self.field)
        if self.is_extreme:
            return " of ".join(filter(None, (f"{self.label} {field}", self.comparison)))
        words = {"": "", "-": f", less that of {self.other}", "/": f", divided by that of {self.other}"}[self.operation]
        row = ", ".join(filter(None, (self.comparison, self.label)))
        return f"{field}, row {row}{words}" if self.source == LAB else f"{field} of {row}{words}"


def without_comments(text: str) -> str:
    """Return the text of a page without its comments."""
    return _COMMENT.sub("", text)


def read_all(text: str) -> Iterator[Measurement]:
    """Yield the measurements that the comments in a question name. Raises ValueError with the comment and its form."""
    for comment in _COMMENT.findall(text):
        source, _, values = " ".join(comment.split()).partition(": ")
        if source in FORMS:
            yield _read(comment, source, [value.strip() for value in values.split("|")])


def _read(comment: str, source: str, values: list[str]) -> Measurement:
    names, last = values[:-1], values[-1]
    match = re.fullmatch(r"(.+?)(?: ([-/]) (.+))?", last)
    field, operation, other = match.groups(default="") if match else (last, "", "")
    if len(values) != FORMS[source].count("|") + 1 or field not in FIELDS:
        raise ValueError(comment, FORMS[source])
    name, *comparison, label = names
    return Measurement(source, name, "".join(comparison), label, field, operation, other)
