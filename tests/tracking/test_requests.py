"""Questions to the delivering process: answered once, and never waited for in vain."""

from __future__ import annotations

import threading
import time

import pytest

from darkroom.core import locks
from darkroom.tracking import records, requests


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "start_delivery", lambda: None)
    monkeypatch.setattr(requests, "PATIENCE", 1.0)


def asked(work, uri="here", times=200):
    """Ask while another thread serves."""

    def serve():
        for _ in range(times):
            if requests.serve(work, uri):
                return
            time.sleep(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    answer = requests.ask({"number": 20}, "here")
    thread.join()
    return answer


def test_a_question_is_answered_and_forgotten():
    """The answer is that of the work, and no file of question or answer is left."""
    assert asked(lambda question: {"half": question["number"] / 2}) == {"half": 10}
    assert not list(requests.ASKED.iterdir())


def test_work_that_fails_is_no_answer(capsys):
    """Where the work fails there is no answer, so that the stage does it itself and shows the error."""
    assert asked(lambda question: {"inverse": 1 / 0}) is None
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_another_mlflow_is_not_asked():
    """A delivering process that works for another tracking server does not do the work."""
    done = []
    assert asked(done.append, uri="elsewhere") is None
    assert not done


def test_without_a_delivering_process_nobody_waits_for_ever():
    """Where no process takes the lock the question is withdrawn."""
    assert requests.ask({}, "here") is None
    assert not list(requests.ASKED.iterdir())


def test_a_delivering_process_that_is_slow_is_waited_for():
    """As long as a process delivers, the answer may take longer than one would wait for a process to start."""

    def deliver():
        with locks.hold(records.JOURNAL / "deliver.lock"):
            time.sleep(4)
            requests.serve(lambda question: {"late": True}, "here")

    thread = threading.Thread(target=deliver)
    thread.start()
    time.sleep(0.1)
    requests.PATIENCE = 2.5
    assert requests.ask({}, "here") == {"late": True}
    thread.join()


def test_a_delivering_process_that_cannot_work_says_so():
    """A question is refused at once where the tracking server cannot be used."""

    def refuse():
        while not list(requests.ASKED.glob("*.question")):
            time.sleep(0.01)
        requests.refuse()

    thread = threading.Thread(target=refuse)
    thread.start()
    started = time.monotonic()
    assert requests.ask({}, "here") is None
    assert time.monotonic() - started < requests.PATIENCE
    thread.join()
