"""Label Studio's JSON: what is written it reads, and what it writes is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from darkroom.core.errors import SourceError
from darkroom.labelling import label_studio
from darkroom.labelling.label_studio import Annotation
from darkroom.labelling.queues import Item

# a task as its documents have it, with what a classifier does not read
EXPORTED = {
    "id": 1, "created_at": "2026-03-09T22:16:08.746926Z", "updated_at": "2026-03-09T22:16:08.746926Z", "project": 83,
    "data": {"image": "/data/upload/83/8f4b2a10-1.png"}, "meta": {},
    "annotations": [{
        "id": "1001", "was_cancelled": False, "ground_truth": False, "lead_time": 4.3, "completed_by": 1,
        "result": [{"id": "yrSY-dipPI", "from_name": "choice", "to_name": "image", "type": "choices", "origin": "manual",
                    "value": {"choices": ["dog"]}}],
    }],
    "drafts": [], "predictions": [],
}  # fmt: skip


def read(tmp_path: Path, *tasks: object) -> list[Annotation]:
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    return label_studio.read(tmp_path / "export.json")


def task(*annotations: list[str], cancelled: bool = False) -> dict:
    """Return a task whose annotations choose these classes."""
    result = [[{"type": "choices", "value": {"choices": choices}}] for choices in annotations]
    return {"data": {"image": "cat/1.png"}, "annotations": [{"result": item, "was_cancelled": cancelled} for item in result]}


def test_the_documented_format_is_read(tmp_path):
    """`annotations[].result[].value.choices` is the class, `data.image` the image; JSON-MIN is read, too."""
    assert read(tmp_path, EXPORTED) == [Annotation("/data/upload/83/8f4b2a10-1.png", "dog")]
    assert read(tmp_path, {"image": "cat/1.png", "choice": "dog", "id": 1, "annotator": 1}) == [Annotation("cat/1.png", "dog")]


def test_annotators_who_agree_are_one_and_others_a_problem(tmp_path):
    """Two that say the same give a label, two that do not give none; cancelled and missing annotations are no answer."""
    assert read(tmp_path, task(["dog"], ["dog"])) == [Annotation("cat/1.png", "dog")]
    (entry,) = read(tmp_path, task(["dog"], ["cat"]))
    assert (entry.label, entry.problem) == ("", "its annotations say cat, dog")
    assert read(tmp_path, task(["dog"], cancelled=True), task(), task([])) == []


def test_what_is_written_comes_back(tmp_path):
    """Tasks have the label of a person as an annotation, a suggestion as a prediction, and the path by which they are found."""
    items = [Item("cat/ü 1.png", "", "cat", "train", "dog", ""), Item("dog/2.png", "", "dog", "train", "", "")]
    tasks = label_studio.tasks(items, {items[1].id: "cat"})
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=cat/%C3%BC%201.png"
    assert tasks[0]["predictions"][0]["result"][0]["value"] == {"choices": ["dog"]}
    assert "annotations" not in tasks[0]
    assert read(tmp_path, *tasks) == [Annotation("dog/2.png", "cat")]
    assert '<Choice value="a&amp;b"/>' in label_studio.config(["a&b"])


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("cat/1.png", "cat/1.png"), ("/data/local-files/?d=photos/dog/1.png", "dog/1.png"), ("s3://bucket/dog/1.png", "dog/1.png"),
        ("https://example.org/photos/cat/1.png?v=2", "cat/1.png"), ("/data/upload/83/8f4b2a10-x%20y.png", "x y.png"),
        ("x y.png", "x y.png"), ("/data/local-files/?d=e%CC%81.png", "é.png"),
        ("/data/upload/83/8f4b2a10-1.png", ""), ("1.png", ""), ("emu/1.png", ""), ("none.png", ""), ("http://[", ""),
    ],
)  # fmt: skip
def test_an_image_is_found_by_its_address(image, path):
    """By the path, the end of an address or a name that only one image has; never by a guess."""
    names = label_studio.by_name(["cat/1.png", "dog/1.png", "x y.png", "é.png"])
    matched, problem = label_studio.match(image, names)
    assert matched == path
    assert bool(problem) != bool(path)


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '[{"data": {}}]', '[{"data": {"image": 3}}]', "[" * 100_000])
def test_a_file_that_is_no_export_is_refused(tmp_path, content):
    """With the remedy, and no traceback."""
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(SourceError) as caught:
        label_studio.read(tmp_path / "export.json")
    assert "JSON" in caught.value.remedy
