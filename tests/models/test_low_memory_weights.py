"""Too little memory for weights or an engine is a shortage: neither damage, nor another engine under the same identity."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.core.errors import DarkroomError
from darkroom.models import engine, weight_files, weights

LACKS = [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to …")]


def failing(error: Exception):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("error", LACKS)
@pytest.mark.parametrize("step", ["reading", "checking"])
def test_too_little_memory_is_no_damage_of_weights(tmp_path, monkeypatch, error, step):
    """A `.pth` for which there is too little memory ends with 75, and nobody is told to fetch it again."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    if step == "reading":
        monkeypatch.setattr(torch, "load", failing(error))
    else:
        monkeypatch.setattr(zipfile.ZipFile, "testzip", failing(error))
    with pytest.raises(DarkroomError) as caught:
        (weights.read if step == "reading" else weight_files.checked_sha256)(tmp_path / "a.pth")
    assert caught.value.code == 75
    assert "fetch" not in caught.value.remedy


def test_too_little_memory_chooses_no_engine(monkeypatch):
    """Which engine runs is decided by the network: too little memory ends with 75; an operator that it lacks is no shortage."""
    network, images = nn.Flatten(), np.zeros((4, 3, 8, 8), np.float32)
    for error in LACKS:
        monkeypatch.setattr(engine, "export_onnx", failing(error))
        with pytest.raises(DarkroomError) as caught:
            engine.select_engine(network, images, torch.device("cpu"), 1)
        assert caught.value.code == 75
    monkeypatch.setattr(engine, "export_onnx", failing(RuntimeError("operator aten::x is not supported")))
    assert engine.select_engine(network, images, torch.device("cpu"), 1).name == engine.Eager.name
