"""The server of the page: who may ask, and that a decision is on the disk before it is answered."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from darkroom.core.errors import ParamsError, SourceError
from darkroom.data import label_fixes, sources
from darkroom.labelling import arrivals, decisions, inbox, server
from darkroom.labelling.meter import Meter
from darkroom.labelling.pictures import Pictures
from darkroom.labelling.queues import SOURCE
from darkroom.labelling.reordering import Reordering
from darkroom.labelling.session import Session
from tests.labelling import label_project
from tests.labelling.label_project import FIXES, LOG, item_of

PORT, TOKEN = 8123, "secret"
OWN = {"origin": f"http://127.0.0.1:{PORT}", "content-type": "application/json"}
NOTES = {"fixes": "f", "log": "l", "quarantined": {}, "inbox": "", "add": "", "table": ""}


@pytest.fixture
def session(tmp_path, monkeypatch):
    label_project.enter(tmp_path, monkeypatch)
    return label_project.session()


@pytest.fixture
def client(session):
    with TestClient(
        server.app(session, Pictures(Path("photos")), TOKEN, PORT, NOTES), base_url=f"http://127.0.0.1:{PORT}"
    ) as client:
        yield client


def body(session, path: str, label: str, queue: str = "doubtful") -> dict[str, str]:
    return {"queue": queue, "id": item_of(session, path), "label": label}


def test_no_other_page_labels_or_reads(client, session):
    """Requests for another host, from another origin, without an origin or the token, and forms are refused; nothing is written."""
    good = body(session, "cat/1.png", "dog")
    for path, headers, code in (
        (f"/{TOKEN}/decide", OWN | {"host": "evil.example:8123"}, 400),
        (f"/{TOKEN}/decide", OWN | {"host": "127.0.0.1:1"}, 400),
        (f"/{TOKEN}/decide", OWN | {"origin": "http://evil.example"}, 403),
        (f"/{TOKEN}/decide", OWN | {"origin": "http://127.0.0.1:9"}, 403),
        (f"/{TOKEN}/decide", OWN | {"origin": "null"}, 403),
        (f"/{TOKEN}/decide", {"content-type": "application/json"}, 403),
        (f"/{TOKEN}/decide", OWN | {"sec-fetch-site": "cross-site"}, 403),
        ("/other/decide", OWN, 403),
        ("/decide", OWN, 403),
        (f"/{TOKEN}/decide", OWN | {"content-type": "text/plain"}, 415),
    ):
        assert client.post(path, json=good, headers=headers).status_code == code, (path, headers)
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"sec-fetch-site": "same-site"}):
        for path in ("", "state", "queue/doubtful", f"image/{good['id']}"):
            assert client.get(f"/{TOKEN}/{path}", headers=headers).status_code in (400, 403)
    assert client.get("/").status_code == 403
    assert not LOG.exists()


def test_the_page_may_load_nothing_from_elsewhere(client):
    """Its policy names its own style and script by their hashes; no answer is stored, framed or told where one came from."""
    answer = client.get(f"/{TOKEN}/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall("'sha256-", policy)) == 2
    for path in ("state", "image/none", "queue/x"):
        headers = client.get(f"/{TOKEN}/{path}").headers
        assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_a_decision_is_written_before_it_is_answered(client, session):
    """It is in both files when the answer comes, skips and undo too; what is no decision is refused with a reason."""
    state = client.post(f"/{TOKEN}/decide", json=body(session, "cat/1.png", "dog"), headers=OWN).json()
    assert state["own"] == 1
    assert label_fixes.read(FIXES) == {"cat/1.png": "dog"}
    assert decisions.read(LOG)[0].label == "dog"
    assert client.post(f"/{TOKEN}/skip", json=body(session, "cat/3.png", ""), headers=OWN).status_code == 200
    undone = client.post(f"/{TOKEN}/undo", json={}, headers=OWN).json()
    assert (undone["undone"], undone["queue"]) == (item_of(session, "cat/3.png"), "doubtful")
    refused = client.post(f"/{TOKEN}/decide", json=body(session, "cat/1.png", "emu"), headers=OWN)
    assert (refused.status_code, "no class" in refused.json()["problem"]) == (409, True)
    for content in ({}, {"queue": 1}, body(session, "cat/1.png", "dog") | {"id": "gone"}):
        assert client.post(f"/{TOKEN}/decide", json=content, headers=OWN).status_code in (409, 422)
    assert client.post(f"/{TOKEN}/decide", content=b"x" * 70_000, headers=OWN).status_code == 413


def wait(client: TestClient) -> None:
    """Wait until nothing is being measured."""
    deadline = time.monotonic() + 30
    while client.get(f"/{TOKEN}/growth").json()["busy"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_tab_learns_of_another_order(tmp_path, monkeypatch):
    """After so many labels the answer to a decision says that there is one; all tabs get the same, with the next images as they
    were, and undo finds its image in it. What has been written is what it was."""
    label_project.enter(tmp_path, monkeypatch)
    incoming, head = label_project.seen_inbox(), label_project.Head()
    labelling = Session([arrivals.queue(incoming, {}, 8)], label_project.CLASSES, FIXES, LOG, "Ada")
    measuring = Meter(
        lambda check: (head, lambda: (["cat"], {Path("new") / path: label for path, label in inbox.read(Path("new")).items()})),
        every=2, reorder=Reordering(labelling, incoming).run,
    )  # fmt: skip
    served = server.app(labelling, Pictures(Path("photos")), TOKEN, PORT, NOTES, measuring)
    with TestClient(served, base_url=f"http://127.0.0.1:{PORT}") as client:
        before = client.get(f"/{TOKEN}/queue/inbox").json()
        wait(client)  # for the first figure
        responses = []
        for item in before[:2]:
            content = {"queue": "inbox", "id": item["id"], "label": "cat"}
            responses.append(client.post(f"/{TOKEN}/decide", json=content, headers=OWN).json())
        wait(client)
        undone = client.post(f"/{TOKEN}/undo", json={}, headers=OWN).json()
        after = client.get(f"/{TOKEN}/queue/inbox").json()
    measuring.close()
    assert (responses[0]["orders"], undone["orders"], undone["undone"]) == (0, 1, before[1]["id"])
    assert after[0] == before[0] | {"given": "cat"}
    assert after[1:5] == before[1:5]
    assert {item["suggested"] for item in after[5:]} == {"emu"} != {item["suggested"] for item in before[5:]}
    assert inbox.read(Path("new")) == {before[0]["path"]: "cat"}


def test_pictures_are_decoded_and_written_anew(client, session):
    """What the browser gets is a PNG or JPEG of the server's, whatever the file is; an unreadable one has a reason."""
    answer = client.get(f"/{TOKEN}/image/{item_of(session, 'cat/1.png')}")
    assert answer.headers["content-type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.array_equal(shown, np.asarray(Image.open("photos/cat/1.png")))
    Path("photos/cat/1.png").write_text("<svg onload=alert(1)>")
    assert client.get(f"/{TOKEN}/image/{item_of(session, 'cat/1.png')}").status_code == 404
    assert client.get(f"/{TOKEN}/image/{item_of(session, '0.png')}").status_code == 200


def test_a_large_picture_is_scaled_and_keeps_its_proportions(tmp_path, monkeypatch):
    """At most 1,024 pixels a side, without a border; small ones are as large as they are. Archives and arrays are read, too."""
    for name, size in (("wide.jpg", (300, 2000)), ("small.jpg", (90, 300))):
        label_project.write(tmp_path / "a" / "x" / name, 1, size)
        label_project.write(tmp_path / "a" / "y" / name, 2, size)
    monkeypatch.chdir(tmp_path)
    pictures = Pictures(tmp_path / "a")
    assert Image.open(io.BytesIO(pictures.encoded(SOURCE, "x/wide.jpg")[0])).size == (1024, 153)
    assert Image.open(io.BytesIO(pictures.encoded(SOURCE, "x/small.jpg")[0])).size == (300, 90)
    subprocess.run(["tar", "-cf", "b.tar", "-C", "a", "x", "y"], cwd=tmp_path, check=True)
    packed = Pictures(tmp_path / "b.tar")
    assert packed.encoded(SOURCE, "x/wide.jpg") == pictures.encoded(SOURCE, "x/wide.jpg")
    with pytest.raises(SourceError):
        packed.encoded(SOURCE, "x/none.jpg")
    packed.close()
    grey = np.random.default_rng(0).integers(0, 256, (4, 8, 8), np.uint8)
    np.savez(tmp_path / "c.npz", images=grey, labels=np.array([0, 1, 0, 1]))
    arrays = Pictures(tmp_path / "c.npz")
    with sources.open_source(tmp_path / "c.npz", tmp_path / "scratch") as source:
        for file, image in zip(source.files, grey, strict=True):
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(arrays.encoded(SOURCE, file.path)[0])))[..., 0], image)
    arrays.close()


def test_a_port_that_is_taken_is_named():
    """With the remedy."""
    with server.bind(0) as listener, pytest.raises(ParamsError, match="port"):
        server.bind(listener.getsockname()[1])


@pytest.mark.slow
def test_a_kill_loses_no_decision(session):
    """The command serves the page on loopback; what it answered is there after SIGKILL, and the next session goes on from it."""
    command = [sys.executable, "-m", "darkroom", "label", "--name", "Eve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        try:
            address = next(line.strip() for line in process.stdout if line.startswith("http://"))
            origin = address[: address.index("/", 7)]
            assert origin.startswith("http://127.0.0.1:")
            content = f'{{"queue": "doubtful", "id": "{item_of(session, "cat/1.png")}", "label": "dog"}}'.encode()
            request = urllib.request.Request(f"{address}decide", content, {"Origin": origin, "Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200
        finally:
            process.send_signal(signal.SIGKILL)
    assert label_fixes.read(FIXES) == {"cat/1.png": "dog"}
    assert [(item.image, item.name) for item in decisions.read(LOG)] == [("cat/1.png", "Eve")]
    assert "cat/1.png" not in [item.path for item in label_project.session().items.values()]
