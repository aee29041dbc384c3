"""The split of each line of a table: a column of words, or columns of yes and no."""

from __future__ import annotations

from darkroom.config.params import SPLITS
from darkroom.core.errors import SourceError
from darkroom.data import split_names
from darkroom.data.class_names import label_of
from darkroom.data.tables import Table, key

NAMES = "split splits set subset partition phase usage dataset datasplit fold".split()
FLAGS = {
    "istrain": ("train", "test"), "istraining": ("train", "test"), "istrainingimage": ("train", "test"),
    "isvalid": ("val", "train"), "isval": ("val", "train"), "isvalidation": ("val", "train"),
    "istest": ("test", "train"), "istesting": ("test", "train"),
}  # fmt: skip
_OTHER = {"train": "test", "val": "train", "test": "train"}
_SPLITS_ALONE = ("split", "splits", "partition")  # columns that can be nothing else
_YES, _NO = ("1", "true", "yes", "t", "y"), ("0", "false", "no", "f", "n", "")


def read(table: Table, columns: list[str]) -> tuple[list[str], str, list[str]]:
    """Return the split of each line (perhaps empty), the column that has it, and notes.

    A column of which all values are splits has them whatever its name. Raises SourceError where a column named
    for splits has other values, and where columns differ.
    """
    flags = {name: meaning for name in columns if (meaning := _flag(name, table.columns[name]))}
    if flags:
        return _flagged(table, flags)
    worded = {name: splits for name in columns if (splits := _worded(table, name))}
    named = [name for word in NAMES for name in columns if key(name) == word]
    for name in named:
        odd = [value for value in map(label_of, table.columns[name]) if value and split_names.read_values([value]) is None]
        if odd and key(name) in _SPLITS_ALONE:
            raise SourceError(
                f"the column {name} of the table {table.name} has the split {odd[0]!r}",
                "write train, val and test; or name the column of folds or other sets `group`",
            )
    chosen = next((name for name in named if name in worded), "")
    several = [name for name in worded if is_worded(table, name)]
    if not chosen and len(several) > 1:
        raise SourceError(f"{' and '.join(several)} of the table {table.name} may each be the split", "name one of them split")
    chosen = chosen or next(iter(several), "")
    if not chosen:
        unused = [f"the column {name} of {table.name} has no words for splits, and is not used" for name in named]
        return [""] * len(next(iter(table.columns.values()))), "", unused
    renamed = {v: s for v, s in zip(map(label_of, table.columns[chosen]), worded[chosen], strict=True) if v != s}
    listing = ", ".join(f"{value} is {split}" for value, split in sorted(renamed.items()))
    return worded[chosen], chosen, [f"the column {chosen} of {table.name} has the splits{': ' * bool(listing)}{listing}"]


def is_named(title: str) -> bool:
    """Tell whether a column's title is that of splits."""
    return key(title) in NAMES or key(title) in FLAGS


def is_worded(table: Table, name: str) -> bool:
    """Tell whether all values of a column are splits, and of several kinds."""
    return len(set(_worded(table, name)) - {""}) > 1


def _worded(table: Table, name: str) -> list[str]:
    """Return the split of each line by a column of words; empty for a column of other values."""
    values = [label_of(value) for value in table.columns[name]]
    splits = split_names.read_values(values)
    return [splits.get(value, "") for value in values] if splits else []


def _flag(name: str, values: list[str]) -> tuple[str, str] | None:
    """Return the splits that yes and no mean in a column such as `is_valid`, or `test`; None for other columns."""
    reading = split_names.read_name(name)
    meaning = FLAGS.get(key(name))
    if meaning is None and reading is not None and not reading.rest and reading.kind in _OTHER:
        meaning = reading.kind, _OTHER[reading.kind]
    return meaning if meaning and all(value.lower() in (*_YES, *_NO) for value in values) else None


def _flagged(table: Table, flags: dict[str, tuple[str, str]]) -> tuple[list[str], str, list[str]]:
    """Return the splits that one column of yes and no says, or several together."""
    (first, (yes, no)), *more = flags.items()
    if not more:
        splits = [yes if value.lower() in _YES else no for value in table.columns[first]]
        return splits, first, [f"{first} of {table.name} is {yes} or else {no}"]
    rest = set(SPLITS) - {split for split, _ in flags.values()}
    splits = []
    for i in range(len(table.columns[first])):
        named = {split for name, (split, _) in flags.items() if table.columns[name][i].lower() in _YES} or rest
        if len(named) != 1:
            raise SourceError(
                f"line {i + 1} of the table {table.name} has no split, or several, in {', '.join(flags)}",
                "write one column split with train, val and test",
            )
        splits.append(min(named))
    return splits, first, [f"the columns {', '.join(flags)} of {table.name} are the splits"]
