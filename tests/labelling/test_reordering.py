"""New images ordered again while people label: what the page holds stays, what follows is by a head of all labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.labelling import arrivals, queues, reordering
from darkroom.labelling.arrivals import Arrivals
from darkroom.labelling.reordering import Reordering
from darkroom.labelling.session import AHEAD, Session
from tests.labelling import label_project
from tests.labelling.label_project import FIXES, LOG, Head, item_of

INBOX = Path("new")
SHOWN = 12


@pytest.fixture
def incoming() -> Arrivals:
    return label_project.seen_inbox()


@pytest.fixture
def session(tmp_path, monkeypatch, incoming) -> Session:
    label_project.enter(tmp_path, monkeypatch)
    return Session([arrivals.queue(incoming, {}, SHOWN)], ["cat", "dog"], FIXES, LOG, "Ada")


def shown(session: Session) -> list[queues.Item]:
    return list(session.queues[0].items)


def label(session: Session, place: int, name: str = "cat") -> None:
    session.decide("inbox", shown(session)[place].id, name)


def test_what_the_page_holds_stays(session, incoming):
    """Images to which people have come, skipped ones too, and the next ones keep place and suggestion; all others are those of the
    inbox that the head is least certain of, as many as before, with its suggestions and reasons."""
    before = shown(session)
    for place in range(3):
        label(session, place)
    session.skip("inbox", before[3].id)
    head = Head()
    Reordering(session, incoming).run(head, ["cat"], {INBOX / before[i].path: "cat" for i in range(3)})
    after = shown(session)
    assert after[: 4 + AHEAD] == before[: 4 + AHEAD]
    rest = after[4 + AHEAD :]
    assert len(after) == len({item.id for item in after}) == SHOWN
    assert {item.suggested for item in rest} == {"emu"}
    assert min(int(item.path[:2]) for item in rest) > 15
    assert all("probability 0." in item.why for item in rest)
    assert [entry["id"] for entry in session.entries("inbox")] == [item.id for item in after]
    assert session.state()["orders"] == 1
    assert session.state()["left"] == SHOWN - 3


def test_the_order_follows_from_the_labels_whoever_gave_them(session, incoming):
    """Another session of the same labels has the same order, which leaves out what a third person has labelled meanwhile; an image
    that has left the queue can be labelled by who still sees it."""
    twin = Session([arrivals.queue(incoming, {}, SHOWN)], ["cat", "dog"], FIXES, LOG, "Bob")
    gone = shown(session)[-1]
    for who in (session, twin):
        Reordering(who, incoming).run(Head(), ["cat"], {})
    assert shown(session) == shown(twin)
    new = shown(session)[-1]
    twin.decide("inbox", new.id, "dog")
    Reordering(session, incoming).run(Head(), ["cat"], {INBOX / new.path: "dog"})
    assert new not in shown(session)
    assert gone not in shown(session)
    assert len(shown(session)) == SHOWN
    session.decide("inbox", gone.id, "dog")
    assert session.undo().image == gone.path
    assert session.label_of()[new.id] == "dog"


def test_an_image_whose_label_was_taken_back_stays_where_it_was(session, incoming):
    """Undo after an order, and an order after undo, both find it at its place."""
    before = shown(session)
    for place in range(6):
        label(session, place)
    Reordering(session, incoming).run(Head(), ["cat"], {})
    assert session.id_of(session.undo()) == before[5].id
    assert shown(session)[:6] == before[:6]
    for _ in range(5):
        session.undo()
    Reordering(session, incoming).run(Head(), ["cat"], {})
    assert shown(session)[: 6 + AHEAD] == before[: 6 + AHEAD]


def test_labels_that_come_while_a_head_is_trained_count(session, incoming):
    """What people have come to by then is held, too, and what another person labels is left out."""
    before = shown(session)
    twin = Session([arrivals.queue(incoming, {}, len(incoming.paths))], ["cat", "dog"], FIXES, LOG, "Bob")

    class Slow(Head):
        def predict(self, files, labels, new):
            for place in range(4):
                label(session, place)
            twin.decide("inbox", item_of(twin, "39.png"), "dog")
            return super().predict(files, labels, new)

    Reordering(session, incoming).run(Slow(), ["cat"], {})
    assert shown(session)[: 4 + AHEAD] == before[: 4 + AHEAD]
    assert "39.png" not in [item.path for item in shown(session)]
    assert len({item.id for item in shown(session)}) == SHOWN


def test_without_a_head_the_order_stays(session, incoming):
    """With too few labels, and where nothing is left to order, for which nothing is computed."""
    before = shown(session)
    Reordering(session, incoming).run(Head(is_taught=False), ["cat"], {})
    assert (shown(session), session.state()["orders"]) == (before, 0)
    label(session, SHOWN - AHEAD)
    head = Head()
    Reordering(session, incoming).run(head, ["cat"], {})
    assert head.calls == []
    assert shown(session) == before


def test_of_a_large_inbox_the_uncertain_images_are_looked_at_again(session, incoming, monkeypatch):
    """And those of the queue and those with labels; a table may have labels of files elsewhere."""
    monkeypatch.setattr(reordering, "MOST", 20)
    label(session, 0)
    head = Head()
    elsewhere = Path("/other/39.png")
    Reordering(session, incoming).run(head, ["cat"], {INBOX / shown(session)[0].path: "cat", elsewhere: "dog"})
    assert set(head.calls[0][0]) == {INBOX / path for path in incoming.paths[:20]} | {
        INBOX / item.path for item in shown(session)
    } | {elsewhere}
    assert all(item.folder == str(INBOX) for item in shown(session))
    assert "39.png" not in [item.path for item in shown(session)]
