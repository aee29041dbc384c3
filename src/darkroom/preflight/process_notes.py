"""What a run does with `compute.processes`, and where that is more than the machine has."""

from __future__ import annotations

from darkroom.config.params import Params
from darkroom.core import platforms


def notes(settings: Params) -> list[str]:
    """Return a sentence about the stages that run in several processes, or nothing where there is one."""
    compute = settings.compute
    if compute.processes == 1:
        return []
    each = "a GPU each" if _has_gpu(settings) else f"{compute.threads} thread{'s' * (compute.threads != 1)} each"
    return [
        f"embed, transfer and finetune run in {compute.processes} processes with {each}, and baseline where no batch "
        "normalisation learns; the other stages run in one"
    ]


def warnings(settings: Params) -> list[str]:
    """Return a sentence where the processes need more cores than this process may use, or nothing."""
    compute = settings.compute
    needed, cores = compute.processes * compute.threads, platforms.usable_cores()
    if compute.processes == 1 or _has_gpu(settings) or needed <= cores:
        return []
    return [
        f"{compute.processes} processes of {compute.threads} threads need {needed} cores, and there are {cores}: they wait for "
        "each other; lower `compute.processes` or `compute.threads`"
    ]


def _has_gpu(settings: Params) -> bool:
    return settings.compute.accelerator != "cpu" and platforms.has_nvidia_device()
