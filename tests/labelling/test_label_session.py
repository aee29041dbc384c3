"""Decisions about labels: where they go, that none is lost, and what takes them back."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.core.errors import SourceError
from darkroom.data import label_fixes
from darkroom.labelling import decisions, inbox
from darkroom.labelling.decisions import Decision
from tests.labelling import label_project
from tests.labelling.label_project import FIXES, LOG, item_of


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    label_project.enter(tmp_path, monkeypatch)


def test_the_queues_are_what_is_worth_a_look():
    """Doubtful labels of images that are as they were, conflicts once a picture; of a test image no suggestion is shown."""
    shown = {queue.name: {item.path: item for item in queue.items} for queue in label_project.session().queues}
    assert list(shown["doubtful"]) == ["cat/1.png", "cat/3.png"]
    assert shown["doubtful"]["cat/1.png"].suggested == "dog"
    assert shown["doubtful"]["cat/3.png"].suggested == ""
    assert list(shown["conflicts"]) == ["cat/both.png"]
    assert "cat and dog" in shown["conflicts"]["cat/both.png"].why
    assert shown["mistakes"] == {}


def test_a_decision_is_a_line_that_ingest_reads():
    """A label of the source goes to data/label_fixes.csv, of a conflict for all copies; one of the inbox to its labels.csv."""
    session = label_project.session()
    session.decide("doubtful", item_of(session, "cat/1.png"), "dog")
    session.decide("conflicts", item_of(session, "cat/both.png"), "dog")
    session.decide("inbox", item_of(session, "0.png"), "emu")
    assert label_fixes.read(FIXES) == {"cat/1.png": "dog", "px both": "dog"}
    assert inbox.read(Path("new")) == {"0.png": "emu"}
    assert [(item.image, item.label, item.name) for item in decisions.read(LOG)] == [
        ("cat/1.png", "dog", "Ada"), ("cat/both.png", "dog", "Ada"), ("0.png", "emu", "Ada"),
    ]  # fmt: skip
    assert session.classes == ["cat", "dog", "emu"]


def test_a_label_that_is_right_is_a_decision_without_a_line():
    """Who says that a doubtful label is right leaves the file as it is, and the image does not come again."""
    session = label_project.session()
    session.decide("doubtful", item_of(session, "cat/1.png"), "cat")
    assert FIXES.read_text() == "image,label\n"
    assert "cat/1.png" not in [item.path for item in label_project.session("Bob").items.values()]


def test_undo_brings_back_what_was_there():
    """Each undo takes back the last decision of the session in all files, also one over an earlier label; skips are none."""
    FIXES.write_text("image,label\ncat/1.png,cat\ndog/1.png,cat\n")
    before = FIXES.read_text()
    session = label_project.session()
    first = item_of(session, "cat/1.png")
    session.decide("doubtful", first, "dog")
    session.decide("doubtful", first, "cat")
    session.skip("doubtful", first)
    session.decide("inbox", item_of(session, "1.png"), "cat")
    session.decide("inbox", item_of(session, "1.png"), "dog")
    assert session.undo().image == "1.png"
    assert inbox.read(Path("new")) == {"1.png": "cat"}
    assert [session.undo().label for _ in range(2)] == ["cat", ""]
    assert session.undo().label == "cat"
    assert session.label_of() == {first: "dog"}
    session.undo()
    assert (FIXES.read_text(), inbox.read(Path("new")), session.label_of()) == (before, {}, {})
    assert session.undo() is None


def test_what_cannot_be_a_label_is_refused_with_a_remedy():
    """An image of the source has a class of the source; a new class of the inbox has a name that a folder can have."""
    session = label_project.session()
    with pytest.raises(SourceError, match="no class"):
        session.decide("doubtful", item_of(session, "cat/1.png"), "emu")
    for name in ("", "../x", "a/b", ".hidden", "a\u202eb", "nan"):
        with pytest.raises(SourceError) as caught:
            session.decide("inbox", item_of(session, "0.png"), name)
        assert caught.value.remedy
    assert decisions.read(LOG) == []


def test_several_people_label_side_by_side():
    """Each decision has its name; sessions see each other's labels, and an undo takes back the own ones alone."""
    ada, bob = label_project.session("Ada"), label_project.session("Bob")
    ada.decide("inbox", item_of(ada, "0.png"), "cat")
    bob.decide("inbox", item_of(bob, "1.png"), "dog")
    assert ada.state()["labelled"] == bob.state()["labelled"] == 2
    assert bob.undo().image == "1.png"
    assert bob.undo() is None
    assert inbox.read(Path("new")) == {"0.png": "cat"}


def test_a_line_that_was_cut_off_costs_no_other(tmp_path):
    """After a kill in the middle of a line the others are read, and the next one begins on a line of its own."""
    log = tmp_path / "log.jsonl"
    decisions.append(log, Decision("a", "", "q", "cat", "Ada"))
    log.write_bytes(log.read_bytes() + b'{"image": "b", "fol')
    decisions.append(log, Decision("ü\udcff", "", "q", "dog", "Ada"))
    assert [item.image for item in decisions.read(log)] == ["a", "ü\udcff"]


def test_the_state_counts_what_was_given():
    """By queue, by class, and how often the suggestion was the answer."""
    session = label_project.session()
    session.decide("inbox", item_of(session, "0.png"), "dog")
    session.decide("doubtful", item_of(session, "cat/1.png"), "cat")
    state = session.state()
    assert state["by_class"] == {"dog": 1, "cat": 1}
    assert (state["agreed"], state["suggested"], state["labelled"], state["left"]) == (1, 2, 2, 4)
    assert [(item["name"], item["left"]) for item in state["queues"]] == [
        ("doubtful", 1), ("mistakes", 0), ("conflicts", 1), ("inbox", 2),
    ]  # fmt: skip
