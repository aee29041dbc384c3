"""Names of classes: text as people write it, in Unicode's form NFC, that can be told apart when it is shown."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

from darkroom.core.errors import SourceError, printable
from darkroom.data import file_names
from darkroom.data.quarantine_reasons import IGNORE_REASONS
from darkroom.data.source_file import SourceFile

# what orders or hides text instead of being text: bidi embeddings, overrides and isolates, byte order marks, annotations
_COMMANDS = frozenset(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f\ufeff\ufff9\ufffa\ufffb"
)
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u061c\u180e\u200b\u200e\u200f\u2060"))
EMPTY = frozenset(("", "nan", "-nan", "null", "<na>", "#n/a", "n/a", "nat"))  # no label, as tables and programs write it


def normalise(text: str) -> str:
    """Return a name in NFC, without white space around it."""
    return unicodedata.normalize("NFC", text).strip()


def label_of(text: str) -> str:
    """Return the label that a table or an array says; empty where it says that there is none."""
    name = normalise(text)
    return "" if name.lower() in EMPTY else name


def is_showable(name: str) -> bool:
    """Tell whether a name has no control characters and none that change the order of other text."""
    return not any(c in _COMMANDS or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or ord(c) & 0xFFFE == 0xFFFE for c in name)


def check(source: Path, files: list[SourceFile]) -> None:
    """Raise SourceError unless there are two or more classes whose names can be told apart."""
    usable = [file for file in files if not file.ignored and file.refused != "linked_folder"]
    labels = sorted({file.label for file in usable if file.label})
    for label in labels:
        if not is_showable(label):
            raise SourceError(
                f"the class {label!a} of {source} has a name with control characters, which cannot be shown",
                "rename the folder, or the class where the labels are",
            )
    if not labels:
        remedy = "give it one subfolder per class, named as the class, or a table with the columns path and label"
        packed = sorted(file.path for file in files if file.ignored == "no_image" and file_names.is_archive(file.path))
        if any("-ubyte" in file.path for file in files):
            remedy = "set `fetch.source` to it, `fetch.datasets` to [mnist] and `ingest.source` to data/raw/mnist"
        elif packed and (len(packed) > 1 or not source.is_dir()):
            remedy = "unpack each archive into a folder of its own name, and set `ingest.source` to the folder around them"
        elif packed:
            remedy = f"set `ingest.source` to {printable(str(source / packed[0]))}, which is read in place if it is a tar or a zip"
        elif any(file_names.suffix(file.path) == "npy" for file in files):
            remedy = "save the arrays together, np.savez(file, images=…, labels=…, class_names=…), and name that file"
        elif any(file_names.is_image(file.path) and file.ignored == "outside_classes" for file in files):
            remedy += f"; or, if its images are one class, set `ingest.source` to the folder above, {source.absolute().parent}"
        raise SourceError(f"{source} has no image in a class folder; {_describe(files)}", remedy)
    if len(labels) == 1:
        inside = {file.path.split("/")[1] for file in usable if file.label and file.path.count("/") > 1}
        below = f" or, if {', '.join(sorted(inside)[:3])} are classes, to {source / labels[0]}" if len(inside) > 1 else ""
        raise SourceError(
            f'found 1 class in {source}, "{labels[0]}"; at least 2 are needed',
            f"add a subfolder for each further class, or set `ingest.source` to the folder above{below}",
        )
    folded: dict[str, str] = {}
    for label in labels:
        key = label.casefold().translate(_UNSEEN)
        if folded.setdefault(key, label) != label:
            only = "by case" if label.casefold() == folded[key].casefold() else "by characters that are not seen"
            raise SourceError(
                f'{source} has the classes "{folded[key]}" and "{label}", which differ only {only}',
                "rename or merge one of the two",
            )


def _describe(files: list[SourceFile]) -> str:
    if not files:
        return "it is empty"
    kinds = Counter(IGNORE_REASONS.get(file.ignored, "") or file.refused or "in a class folder" for file in files)
    parts = ", ".join(f"{count} ({kind})" for kind, count in kinds.items())
    return f"looked for <class>/<image> and <split>/<class>/<image>, found {parts}; the first is {files[0].path!r}"
