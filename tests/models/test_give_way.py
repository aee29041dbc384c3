"""Threads that give way to other programs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darkroom.models import give_way

LOOK = 500_000_000  # nanoseconds between two looks
FREE, BUSY = (0.99, 0.0), (0.5, 0.4)  # shares of them on a core, and waiting for one


@pytest.fixture
def watched(monkeypatch):
    """Return what is done in looks at these shares, one after another: when a team of idle threads begins and ends."""

    def watch(shares):
        done, passed = [], [(0, 0)]
        for ran, waited in shares:
            passed.append((passed[-1][0] + int(ran * LOOK), passed[-1][1] + int(waited * LOOK)))
        readings = iter([*passed, None])
        count = iter(range(-1, len(passed) + 1))

        def times():
            next(count)
            return next(readings)

        class Team:
            def __init__(self, library):
                done.append("begins")

            def end(self):
                done.append("ends")

        monkeypatch.setattr(give_way, "INTERVAL", 0.5)
        monkeypatch.setattr(give_way.time, "sleep", lambda seconds: None)
        monkeypatch.setattr(give_way, "_times", times)
        monkeypatch.setattr(give_way, "_IdleTeam", Team)
        give_way._watch(None)
        return done

    return watch


@pytest.mark.parametrize(
    ("shares", "done"),
    [
        ([FREE] * 9, []),
        ([FREE, BUSY, BUSY, BUSY], ["begins"]),
        ([BUSY, FREE, FREE, FREE], ["begins"]),  # free for too short a time
        ([BUSY, FREE, BUSY, *[FREE] * 3], ["begins"]),
        ([BUSY, *[FREE] * 4, FREE, BUSY], ["begins", "ends", "begins"]),
        ([(0.01, 0.01)] * 9, []),  # it hardly wants to run
        ([BUSY, *[(0.0, 0.0)] * 9], ["begins"]),
    ],
)
def test_threads_give_way_while_the_main_thread_waits_for_a_core(watched, shares, done):
    """A team of idle threads begins at the first look at a busy machine, and ends after several at a free one."""
    assert watched(shares) == done


def test_an_idle_team_changes_no_result():
    """With and without one, and after it, a computation on several threads has the same bytes."""
    library = give_way._gnu_openmp()
    if library is None:
        pytest.skip("torch does not use GNU OpenMP here")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 8, 64, 64)).astype(np.float32))
        weights = torch.from_numpy(np.random.default_rng(1).normal(size=(8, 8, 3, 3)).astype(np.float32))

        def compute():
            return torch.nn.functional.conv2d(inputs, weights).numpy().tobytes()

        before, team = compute(), give_way._IdleTeam(library)
        during = compute()
        team.end()
        assert before == during == compute()
        assert torch.get_num_threads() == 2
        assert not team.thread.is_alive()
    finally:
        torch.set_num_threads(threads)


def test_a_persons_own_setting_decides(monkeypatch):
    """Where an environment variable of OpenMP says how threads wait, nothing watches."""
    started = []
    monkeypatch.setattr(give_way.threading.Thread, "start", lambda thread: started.append(thread.name))
    monkeypatch.setattr(give_way, "_started", give_way.threading.Lock())
    monkeypatch.setattr(give_way, "_gnu_openmp", lambda: object())
    monkeypatch.setattr(give_way.torch, "get_num_threads", lambda: 2)
    for name in give_way.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name in give_way.SETTINGS:
        with monkeypatch.context() as context:
            context.setenv(name, "PASSIVE")
            give_way.start()
            assert started == []
    give_way.start()
    give_way.start()
    assert started == ["give way"], "once a process"
