"""Before a run: what several processes do, and where they are more than the machine has cores."""

from __future__ import annotations

import pytest

from darkroom.config import params
from darkroom.config.params import Params
from darkroom.core import platforms
from darkroom.preflight import process_notes


@pytest.fixture
def settings(values, monkeypatch):
    """Return a function that returns params with so many processes and threads, on two cores without a GPU."""
    monkeypatch.setattr(platforms, "usable_cores", lambda: 2)
    monkeypatch.setattr(platforms, "has_nvidia_device", lambda: False)

    def parse(processes: int, threads: int) -> Params:
        return params.parse(values | {"compute": values["compute"] | {"processes": processes, "threads": threads}})

    return parse


def test_more_processes_than_cores_are_warned_of(settings):
    """Processes times threads above the cores are a warning with its remedy; up to the cores, or one process, there is none."""
    assert process_notes.warnings(settings(2, 1)) == process_notes.warnings(settings(1, 4)) == []
    (text,) = process_notes.warnings(settings(2, 2))
    assert "need 4 cores, and there are 2" in text
    assert "lower `compute.processes`" in text


def test_a_gpu_each_wants_no_core_each(settings, monkeypatch):
    """With GPUs the number of cores is no limit."""
    monkeypatch.setattr(platforms, "has_nvidia_device", lambda: True)
    assert process_notes.warnings(settings(2, 2)) == []
    assert "a GPU each" in process_notes.notes(settings(2, 2))[0]


def test_the_stages_that_several_processes_do_are_named(settings):
    """One process says nothing; of several, the stages are named."""
    assert process_notes.notes(settings(1, 1)) == []
    assert "embed, transfer and finetune run in 2 processes with 1 thread each" in process_notes.notes(settings(2, 1))[0]
