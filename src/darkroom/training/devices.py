"""The device, threads and precision of computations, and their determinism."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

import torch

from darkroom.config.params import Compute
from darkroom.core.errors import ParamsError
from darkroom.models import give_way

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def device_of(accelerator: str) -> torch.device:
    """Return the device of `compute.accelerator`; `auto` is CUDA, MPS or CPU, the first available."""
    if accelerator != "auto":
        return torch.device(accelerator)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def available_device(accelerator: str) -> torch.device:
    """Return the same; raises ParamsError where torch does not find it."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(accelerator, True):
        raise ParamsError(f"torch finds no {accelerator} device", "set `compute.accelerator` to auto or cpu")
    return device_of(accelerator)


def prepare(compute: Compute) -> torch.device:
    """Set the number of threads, which give way to other programs, the seed and deterministic algorithms, and return the device.

    Raises ParamsError where the device, or the precision on it, is not available.
    """
    device = available_device(compute.accelerator)
    if compute.precision == "16-mixed" and device.type != "cuda":
        raise ParamsError(
            f"`compute.precision` 16-mixed is for CUDA devices, not for {device.type}", "set it to 32-true or bf16-mixed"
        )
    torch.set_num_threads(compute.threads)
    give_way.start()
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms imports the compiler
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False  # a debugging aid that costs a tenth of the time
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # 32-true means 32 bits
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic; read at its first use
    torch.manual_seed(compute.seed)
    return device


def autocast(compute: Compute, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which a forward pass has the precision of `compute`."""
    return torch.autocast(device.type, dtype=AUTOCAST.get(compute.precision), enabled=compute.precision in AUTOCAST)
