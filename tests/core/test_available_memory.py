"""What is asked of the operating system, under any of its names."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.core import platforms


@pytest.mark.parametrize(("limit", "free"), [(str(3 * 2**30), 2 * 2**30), ("max", None), (str(2**60), None), ("4096", 0)])
def test_a_container_has_less_memory_than_its_machine(limit, free, tmp_path, monkeypatch):
    """What is available is what the container's limit leaves, cached files not counted; without a limit the machine's memory."""
    files = {"memory.max": limit, "memory.current": str(2 * 2**30), "memory.stat": f"anon 5\ninactive_file {2**30}\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(platforms, "CONTAINER", tmp_path)
    monkeypatch.setattr(platforms.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**40}))
    assert platforms.available_memory() == (2**40 if free is None else free)


def test_a_machine_without_containers_has_its_own_memory(tmp_path, monkeypatch):
    """Where Linux shows no limit, as on macOS, the machine's available memory counts."""
    monkeypatch.setattr(platforms, "CONTAINER", Path(tmp_path / "none"))
    assert platforms.available_memory() > 0
