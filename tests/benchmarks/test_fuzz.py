"""What `benchmarks/fuzz.py` counts: a small run of it, and its limits of time and memory."""

from __future__ import annotations

import importlib
import json
import resource
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def fuzz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the benchmark, which writes to a folder of the test."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("fuzz")
    monkeypatch.setattr(module, "OUT", tmp_path / "fuzz")
    return module


def used_memory() -> int:
    """Return the bytes of this process that RLIMIT_DATA counts."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited on Linux alone")
def test_three_kinds_of_damaged_files_are_accepted_or_refused(fuzz, monkeypatch, capsys):
    """20 damaged inputs each of a class list, metrics and frozen splits are accepted, or refused with a remedy, in 2.5 GB."""
    memory = []  # this process goes on without a limit
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: memory.append((which, limits[0] - used_memory())))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "classes", "metrics", "splits", "--inputs", "20"])
    assert fuzz.main() == 0, capsys.readouterr().err
    results = json.loads((fuzz.OUT / "results.json").read_text())
    assert [result["target"] for result in results] == ["classes", "metrics", "splits"]
    assert all(result["inputs"] == 20 == result["accepted"] + result["refused"] for result in results)
    assert all(result["refused"] > 5 for result in results), "the inputs are not damaged"
    [(which, spare)] = memory
    assert which == resource.RLIMIT_DATA
    assert spare == pytest.approx(2.5 * 2**30, rel=0.01)


def test_an_input_is_limited_by_the_time_of_the_processor(fuzz):
    """What waits for a busy machine is not slow, what computes for long is, and what waits for ever hangs; each by its own name."""

    def read(content: bytes) -> None:
        if content == b"waits":
            time.sleep(0.1)
        elif content == b"hangs":
            time.sleep(30)
        else:
            while True:
                pass

    handlers = [signal.getsignal(number) for number in (signal.SIGPROF, signal.SIGALRM)]
    reading = fuzz.Reading("time", fuzz.Target([b""], read), fuzz.Limits(0.05, 30))
    reading.read(b"waits")
    reading.read(b"computes")
    reading.limits = fuzz.Limits(10, 0.05)
    reading.read(b"hangs")
    assert reading.result.accepted == 1
    assert reading.result.kinds == {"TooSlowError in the target": 1, "HangsError in the target": 1}
    assert [signal.getsignal(number) for number in (signal.SIGPROF, signal.SIGALRM)] == handlers


def test_an_exception_without_a_remedy_is_a_failure(fuzz):
    """A reader that ends with anything but a sentence and its remedy fails, and the shortest such input is kept."""

    def read(content: bytes) -> None:
        raise KeyError(len(content))

    reading = fuzz.Reading("broken", fuzz.Target([b""], read), fuzz.Limits(10, 30))
    for content in (b"12345", b"12", b"123"):
        reading.read(content)
    assert reading.result.kinds == {"KeyError in the target": 3}
    [kept] = reading.folder.glob("*.bin")
    assert kept.read_bytes() == b"12"
