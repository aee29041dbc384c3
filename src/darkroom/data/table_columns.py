"""What the columns of a table mean: the path of an image, its label, its split and its group."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from darkroom.core.errors import SourceError, printable
from darkroom.data import split_names, table_splits
from darkroom.data.class_names import label_of, normalise
from darkroom.data.table_paths import FileIndex, Matches
from darkroom.data.tables import Table
from darkroom.data.tables import key as _key

PATHS = (
    "path filepath filepaths file files filename filenames fname imagepath imgpath imagefile imagefilename imgfile imgname "
    "imagename image images img imageid imgid id uuid photo photoid picture pictureid pic relpath relativepath location "
    "uri url src key name index datei dateiname bild fichier archivo imagen"
).split()
LABELS = (
    "label labels class classes classname classnames classlabel labelname category categories categoryname breed species target "
    "targets y tag diagnosis dx classid classindex classnumber labelid labelindex categoryid categorylabel variety cultivar genus "
    "klasse kategorie etikett classe clase etiqueta"
).split()
GROUPS = (
    "group groups groupid patient patientid subject subjectid person personid individual individualid animal animalid plant "
    "plantid case caseid slide slideid video videoid sequence sequenceid seqid session sessionid lesion lesionid fold folds "
    "kfold cvfold"
).split()
UNDERSTOOD = (
    "understood are a column for the image (path, file_name, image, id, …), one for its label (label, class, category, breed, "
    "species, target, …) or one column of 0 and 1 for each class, and perhaps split and group"
)


@dataclass(frozen=True, slots=True)
class Line:
    """The entries of a table for one image; `file` is the file that `path` means, empty where there is none."""

    path: str
    label: str
    split: str
    group: str
    file: str


@dataclass(frozen=True)
class Reading:
    """A table that is understood: its lines, one for each image, and what its columns were taken for."""

    table: str
    lines: list[Line]
    label_column: str
    has_splits: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unclear:
    """A table that is not understood: why, and whether a column of it names files of the source."""

    table: str
    problem: str
    names_files: bool


def understand(table: Table, index: FileIndex, guess_label: bool = True) -> Reading | Unclear:
    """Return what a table says of the files. Raises SourceError where two lines contradict each other.

    With `guess_label` the only other column of a table is the label, whatever its name.
    """
    if table.embeds_images:
        return Unclear(
            table.name, "holds the images themselves, beside files of images; move it into a folder of its own, or away", False
        )
    if table.rows and _is_headless(table, index):
        table, guess_label = _with_split(table.headless()), True
    path, matches = _path_column(table, index)
    if not matches.total:
        names_both = any(_key(name) in LABELS for name in table.columns) and any(_key(name) in PATHS for name in table.columns)
        if names_both and path and table.columns[path]:
            count, first = len(table.columns[path]), table.columns[path][0]
            files = "1 file" if count == 1 else f"{count} files"
            return Unclear(table.name, f"names {files}, and none of them exists; the first is {first!r}", True)
        return Unclear(table.name, f"has the columns {_shown(table.columns)}, and none names an image", False)
    others = [name for name in table.columns if name != path and not _is_index(name, table.columns[name])]
    labels, label_column, problem = _labels(table, others, guess_label)
    if not label_column:
        return Unclear(table.name, f"has the columns {_shown(table.columns)}: {problem}", True)
    if matches.ambiguous:
        text, meant = next(iter(matches.ambiguous.items()))
        raise SourceError(
            f"the table {table.name} says {text!r}, and there are {len(meant)} such files: {', '.join(meant[:3])}",
            "write the path from the table's folder",
        )
    others = [name for name in others if f"the column {name}" != label_column]
    if label_column not in {f"the column {name}" for name in table.columns}:  # one-hot: `train` may be a class
        others = [name for name in others if _key(name) in (*table_splits.NAMES, *table_splits.FLAGS, *GROUPS)]
    splits, split_column, notes = table_splits.read(table, others)
    group_column = next((name for key in GROUPS for name in others if _key(name) == key and name != split_column), "")
    groups = table.columns[group_column] if group_column else [""] * len(labels)
    if group_column and "fold" in _key(group_column):
        groups = [f"fold {group}" if group else "" for group in groups]
        notes.append(f"the column {group_column} of {table.name} is taken as a group: a fold stays together")
    if "none" in {label.lower() for label in labels}:
        notes.append(f'"None" is a class of {table.name}; leave the cell empty where an image has no label')
    if table.guessed and (foreign := next((label for label in labels if not label.isascii()), "")):
        notes.append(
            f"warning: {table.name} is not in UTF-8, and is read as {table.guessed}, for example {foreign!r}; where that is wrong, "
            "save it as UTF-8"
        )
    lines = _lines(table.name, table.columns[path], labels, splits, groups, matches)
    return Reading(table.name, lines, label_column, bool(split_column), tuple(notes))


def _shown(names: object) -> str:
    titles = [printable(str(name)) or '""' for name in names]  # type: ignore[attr-defined]
    return ", ".join(titles[:12]) + (", …" if len(titles) > 12 else "")


def _is_index(name: str, values: list[str]) -> bool:
    """Tell whether a column only counts the rows, as pandas writes it."""
    return (not name or _key(name).startswith("unnamed")) and all(
        v == str(i) for i, v in enumerate(values, int(values[0] == "1") if values else 0)
    )


def _is_headless(table: Table, index: FileIndex) -> bool:
    """Tell whether the first line names a file as the lines below do."""
    titles = [title for title in table.columns if _key(title) not in PATHS]
    return any(
        index.match([title], numbers=False).total and index.match(table.columns[title], numbers=False).total for title in titles
    )


def _with_split(table: Table) -> Table:
    """Return a table without a header in which the column that has the words train, val and test is called split."""
    split_columns = {name for name, values in table.columns.items() if len(set(values)) > 1 and split_names.read_values(values)}
    columns = {
        "split" if len(split_columns) == 1 and name in split_columns else name: values for name, values in table.columns.items()
    }
    return Table(table.name, columns, table.rows)


def _path_column(table: Table, index: FileIndex) -> tuple[str, Matches]:
    """Return the column that names most files: one with a usual name, else one of which nine in ten lines do."""
    path_columns = sorted((name for name in table.columns if _key(name) in PATHS), key=lambda name: PATHS.index(_key(name)))
    best, matches = path_columns[0] if path_columns else "", Matches({}, {})
    for name in path_columns:
        candidate = index.match(table.columns[name], numbers=not table.name.endswith(".json"))
        if len(candidate.files) > len(matches.files) or candidate.total > matches.total:
            best, matches = name, candidate
    if matches.total:
        return best, matches
    for name, values in table.columns.items():
        distinct = set(values) - {""}
        candidate = index.match(values, numbers=False)
        if name not in path_columns and distinct and candidate.total >= 0.9 * len(distinct):
            return name, candidate
    return best, matches


def _labels(table: Table, others: list[str], guess_label: bool) -> tuple[list[str], str, str]:
    """Return the label of each line and the column's name, or why there is none."""
    columns = {name: [label_of(value) for value in table.columns[name]] for name in others}
    label_columns = sorted((name for name in others if _key(name) in LABELS), key=lambda name: LABELS.index(_key(name)))
    label_columns = [name for name in label_columns if any(columns[name])]
    if label_columns:
        return _known_label(columns, label_columns)
    hot = [name for name in others if _key(name) not in GROUPS and not table_splits.is_named(name)]
    hot = [name for name in hot if not table_splits.is_worded(table, name)]
    hot = [] if all(split_names.read_name(name) for name in hot) else hot  # columns train and test alone are no classes
    one_hot = _one_hot(table.name, {name: table.columns[name] for name in hot})
    if one_hot:
        return one_hot, f"{len(hot)} columns with 0 and 1", ""
    rest = [name for name in hot if len(set(columns[name])) > 1]
    if not rest:
        rest = [name for name in others if _key(name) in GROUPS and len(set(columns[name])) > 1]
    if guess_label and len(rest) == 1 and 2 * len(set(columns[rest[0]])) <= len(columns[rest[0]]):
        return columns[rest[0]], f"the column {rest[0]}", ""
    return [], "", "no column is known as the label"


def _known_label(columns: dict[str, list[str]], candidates: list[str]) -> tuple[list[str], str, str]:
    """Return the label column: of several that part the images alike the one with words; `label` goes before others."""
    first = columns[candidates[0]]
    alike = [
        name for name in candidates
        if len(set(zip(first, columns[name], strict=True))) == len(set(columns[name])) == len(set(first))
    ]  # fmt: skip
    different = [name for name in candidates if name not in alike and len(set(columns[name])) > 1]
    if different and _key(candidates[0]) not in ("label", "labels", "class"):
        return [], "", f"{' and '.join(candidates)} may each be the label, so name one of them label"
    chosen = next((name for name in alike if not all(value.lstrip("-").isdecimal() for value in columns[name] if value)), alike[0])
    if _too_many(columns[chosen]):
        return [], "", f"{chosen} has {len(set(columns[chosen])):,} different values in {len(columns[chosen]):,} lines"
    return columns[chosen], f"the column {chosen}", ""


def _too_many(labels: list[str]) -> bool:
    labelled = [label for label in labels if label]
    return len(set(labelled)) > max(20, len(labelled) // 2)


def _one_hot(table: str, columns: dict[str, list[str]]) -> list[str]:
    """Return the label of each line where every column has 0 or 1; empty where the columns are others."""
    lowered = {name: [value.lower() for value in values] for name, values in columns.items()}
    if len(columns) < 2 or any(value not in ("0", "1", "true", "false", "") for values in lowered.values() for value in values):
        return []
    labels = []
    for i in range(len(next(iter(lowered.values())))):
        chosen = [name for name, values in lowered.items() if values[i] in ("1", "true")]
        if len(chosen) > 1:
            raise SourceError(
                f"line {i + 1} of the table {table} has several classes ({', '.join(chosen[:4])}), and an image has one",
                "leave one 1 in each line, or leave the lines with several out",
            )
        labels.append(normalise(chosen[0]) if chosen else "")
    return labels if len(set(labels) - {""}) > 1 else []


def _lines(table: str, paths: list[str], labels: list[str], splits: list[str], groups: list[str], matches: Matches) -> list[Line]:
    """Return one line for each image. Raises SourceError where two contradict each other."""
    lines: dict[str, Line] = {}
    for text, label, split, group in zip(paths, labels, splits, groups, strict=True):
        if not text.strip():
            continue
        file = matches.files.get(text, "")
        line = Line(text, label, split, group, file)
        before = lines.setdefault(file or text, line)
        if (before.label, before.split, before.group) != (label, split, group):
            differ = ((before.label, label), (before.split, split), (before.group, group))
            one, other = next(pair for pair in differ if pair[0] != pair[1])
            raise SourceError(
                f"the table {table} contradicts itself about {text}: {one!r} and {other!r}", "leave one line for each file"
            )
    return list(lines.values())


def commonest(labels: list[str]) -> str:
    """Return the first labels by number, for a message."""
    counts = Counter(label for label in labels if label)
    return ", ".join(printable(label) for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:4])
