"""Tasks of Label Studio as JSON: images of the queues for it, and the classes that people chose there.

The format is that of its documents, "Label Studio JSON format of annotated tasks": a list of tasks with `data.image` and
`annotations[].result[].value.choices`; JSON-MIN, `image` and `choice`, is read, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from darkroom.core import strict_json, user_paths
from darkroom.core.errors import SourceError
from darkroom.data import class_names
from darkroom.labelling.queues import Item

LOCAL_FILES = "/data/local-files/?d="
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # before the name of a file that was uploaded to Label Studio


@dataclass(frozen=True)
class Annotation:
    """A task that was read: the path or address of its image, and the class, or the problem that it has."""

    image: str
    label: str = ""
    problem: str = ""


def config(classes: Sequence[str]) -> str:
    """Return the labelling interface for a project of Label Studio."""
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classes)
    return f'<View><Image name="image" value="$image"/><Choices name="choice" toName="image">{choices}</Choices></View>'


def tasks(items: Iterable[Item], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a task for each image: the label that a person gave it, by `labels`, as an annotation, a suggestion as a prediction.

    `data.image` is an address of Label Studio's local files, by the path in the source or inbox; `data.path` is that path.
    """
    all_tasks = []
    for item in items:
        task: dict[str, Any] = {"data": {"image": LOCAL_FILES + quote(item.path), "path": item.path, "folder": item.folder}}
        if item.suggested:
            task["predictions"] = [{"model_version": "darkroom", "result": [_choice(item.suggested)]}]
        if item.id in labels:
            task["annotations"] = [{"result": [_choice(labels[item.id])]}]
        all_tasks.append(task)
    return all_tasks


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": [label]}}


def read(path: Path) -> list[Annotation]:
    """Return the tasks of an export that have an annotation.

    A task whose annotations name several classes has a problem instead of a label. Raises SourceError where the file is none.
    """
    remedy = "export the project of Label Studio as JSON or JSON-MIN"
    user_paths.check_file(path)
    try:
        content = strict_json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} cannot be read: {error}", remedy) from error
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise SourceError(f"{path} is no list of tasks", remedy)
    with_labels = []
    for number, task in enumerate(content, start=1):
        image = _image(task)
        if not image:
            raise SourceError(f"task {number} of {path} has no data.image", remedy)
        labels = _labels(task)
        if len(labels) == 1:
            with_labels.append(Annotation(image, class_names.normalise(labels[0])))
        elif labels:
            with_labels.append(Annotation(image, problem=f"its annotations say {', '.join(labels)}"))
    return with_labels


def _image(task: Mapping[str, Any]) -> str:
    data = task.get("data")
    values = data if isinstance(data, dict) else task
    return next((value for key in ("path", "image") if isinstance(value := values.get(key), str) and value), "")


def _labels(task: Mapping[str, Any]) -> list[str]:
    """Return the distinct classes that the annotations of a task choose, cancelled ones left out."""
    names: list[Any] = []
    annotations = task.get("annotations", task.get("completions"))
    for annotation in annotations if isinstance(annotations, list) else []:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result") or []:
            value = result.get("value") if isinstance(result, dict) else None
            choices = value.get("choices") if isinstance(value, dict) else None
            names += choices if isinstance(choices, list) else []
    chosen = task.get("choice")
    if annotations is None and chosen is not None:
        names += chosen["choices"] if isinstance(chosen, dict) and isinstance(chosen.get("choices"), list) else [chosen]
    return sorted({item for item in names if isinstance(item, str) and item.strip()})


def match(image: str, paths: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """Return the path that an image of a task means, or an empty one and why there is none.

    `paths` are those that exist by file name, see `by_name`. An address is that of a local file, of an uploaded one, whose name
    has eight digits before it, or one whose end is a path.
    """
    try:
        parts = urlsplit(image)
    except ValueError:  # an address that is none
        return "", "there is no such image"
    local = parse_qs(parts.query).get("d", [""])[0]
    for name in map(class_names.normalise, (image, local, unquote(parts.path))):
        file = PurePosixPath(name).name
        ending = [path for path in paths.get(file, ()) if f"/{name}".endswith(f"/{class_names.normalise(path)}")]
        if ending:
            return max(ending, key=len), ""
        if "/" not in name or "/upload/" in name:  # the folder is not told
            same = paths.get(file) or paths.get(_UPLOADED.sub("", file), ())
            if len(same) == 1:
                return same[0], ""
            if same:
                return "", f"{len(same)} images have this name"
    return "", "there is no such image"


def by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return paths by the name of their file."""
    by_file_name: dict[str, list[str]] = {}
    for path in paths:
        by_file_name.setdefault(PurePosixPath(class_names.normalise(path)).name, []).append(path)
    return by_file_name
