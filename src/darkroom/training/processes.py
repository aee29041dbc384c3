"""What the processes of one training tell each other: gradients, sums and decisions, by torch.distributed.

gloo connects processes on CPUs, NCCL those on CUDA devices. Without `join` there is one process, and nothing here does anything.
`core.ranks` starts and ends the processes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import numpy as np
import torch
from torch import distributed, nn

from darkroom.config.params import Compute
from darkroom.core import ranks
from darkroom.core.errors import ParamsError
from darkroom.core.ranks import Finished, PeerLostError
from darkroom.training.devices import available_device

TIMEOUT = timedelta(minutes=30)  # that one process waits for another's tensors, where the other neither answers nor ends
ALONE = timedelta(days=7)  # that rank 0 may work alone while the others wait
STORE = "store"  # the file in which the processes of one machine find each other


class _Group:
    """The processes of this training, and where their tensors are."""

    rank = 0
    size = 1
    device = torch.device("cpu")


_group = _Group()


def rank() -> int:
    """Return the number of this process among those that work together now; 0 writes and records."""
    return _group.rank


def size() -> int:
    """Return how many processes work together now."""
    return _group.size


def join(compute: Compute) -> None:
    """Connect this process with the others of its stage.

    Raises ParamsError where their number is not that of the params, or where the devices do not suffice.
    """
    count, local = ranks.size(), int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size()))
    if count != compute.processes:
        raise ParamsError(
            f"torchrun has started {count} processes, and `compute.processes` is {compute.processes}",
            f"set it to {count}, or start as many as it says: nodes times processes of a node",
        )
    device = available_device(compute.accelerator)
    if device.type == "mps":
        raise ParamsError(
            "several processes cannot share the GPU of a Mac", "set `compute.processes` to 1, or `compute.accelerator` to cpu"
        )
    if device.type == "cuda":
        if local > torch.cuda.device_count():
            raise ParamsError(
                f"{local} processes need a CUDA device each, and this machine has {torch.cuda.device_count()}",
                f"set `compute.processes` to {torch.cuda.device_count()}",
            )
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        device = torch.device("cuda", torch.cuda.current_device())
    shared = ranks.folder()
    with _peer_errors():
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", rank=ranks.rank(), world_size=count, timeout=TIMEOUT,
            init_method=f"file://{(shared / STORE).absolute()}" if shared else "env://",
        )  # fmt: skip
    _group.rank, _group.size, _group.device = ranks.rank(), count, device


def go_on_alone(reason: str = "") -> None:
    """End this process as `Finished` unless it is rank 0, which goes on alone."""
    if size() == 1:
        return
    store = distributed.distributed_c10d._get_default_store()
    if rank():
        with suppress(RuntimeError):  # until rank 0 has received everything
            store.wait(["alone"], ALONE)
        raise Finished
    with _peer_errors():
        store.set("alone", "yes")
    if reason:
        print(reason)
    distributed.destroy_process_group()
    _group.size = 1


def check_one_machine(reason: str) -> None:
    """Go on alone, which prints the reason, where the processes are on several machines."""
    if size() > 1 and int(os.environ.get("LOCAL_WORLD_SIZE", size())) < size():
        go_on_alone(reason)


@contextmanager
def first_alone(name: str) -> Iterator[bool]:
    """Yield whether this process is rank 0; the others wait at the end of the block until rank 0 is there."""
    yield rank() == 0
    if size() > 1:
        store = distributed.distributed_c10d._get_default_store()
        with _peer_errors():
            store.set(name, "done") if rank() == 0 else store.wait([name], ALONE)


def share(rows: np.ndarray) -> np.ndarray:
    """Return this process's part of rows; all parts are as long as each other, but for one row. It may be empty."""
    return rows if size() == 1 else np.array_split(rows, size())[rank()]


def sum_(tensor: torch.Tensor) -> torch.Tensor:
    """Replace a tensor by the sum of those of all processes, and return it; every process gets the same bytes."""
    if size() > 1:
        with _peer_errors():
            on_device = tensor.to(_group.device)
            distributed.all_reduce(on_device)
            if on_device is not tensor:
                tensor.copy_(on_device)
    return tensor


def sum_numbers(*numbers: float) -> list[float]:
    """Return the sums of numbers over all processes."""
    return sum_(torch.tensor(numbers, dtype=torch.float64)).tolist()


def assemble(part: torch.Tensor, rows: np.ndarray, count: int) -> torch.Tensor:
    """Return a tensor (count, …) of which each process has computed its `rows`."""
    if size() == 1:
        return part
    assembled = torch.zeros(count, *part.shape[1:], dtype=part.dtype)
    assembled[torch.from_numpy(rows)] = part
    return sum_(assembled)


def begin_alike(model: nn.Module, seed: int) -> None:
    """Give all processes the weights of rank 0, and each random numbers of its own, as for dropout."""
    if size() > 1:
        for tensor in model.state_dict().values():
            from_first(tensor)
        if rank():
            torch.manual_seed(seed + (rank() << 32))


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of parameters by their sums over all processes, in one message.

    A parameter that has no gradient in any process stays without one: an optimizer leaves it alone.
    """
    has = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
    flat = sum_(torch.cat([*parts, has]))
    counts = flat[-len(has) :].tolist()
    for parameter, part, count in zip(parameters, flat.split([len(part) for part in parts] + [len(has)]), counts, strict=False):
        if count:
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)  # in the parameter's order in memory, as optimizers need it
            parameter.grad.copy_(part.view(parameter.shape))


def from_first(tensor: torch.Tensor) -> torch.Tensor:
    """Replace a tensor by that of rank 0, and return it."""
    if size() > 1:
        with _peer_errors(), torch.no_grad():
            on_device = tensor.detach().to(_group.device).contiguous()
            distributed.broadcast(on_device, 0)
            tensor.copy_(on_device)
    return tensor


def decided_by_first(decision: bool) -> bool:
    """Return the decision of rank 0, where it may differ: by the time, or the free disk."""
    return decision if size() == 1 else bool(from_first(torch.tensor(float(decision))))


def all_of(condition: bool) -> bool:
    """Tell whether a condition holds in all processes."""
    return sum_numbers(float(not condition)) == [0.0]


def check_same(values: Sequence[float], problem: str, remedy: str) -> None:
    """Raise ParamsError in every process where their values differ."""
    if size() > 1:
        mine = torch.tensor(values, dtype=torch.float64)
        difference = (from_first(mine.clone()) - mine).abs().max()
        if float(sum_(difference)):
            raise ParamsError(problem, remedy)


def gather(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors of all processes, of the same shape, by rank."""
    if size() == 1:
        return [tensor]
    with _peer_errors():
        parts = [torch.empty_like(tensor, device=_group.device) for _ in range(size())]
        distributed.all_gather(parts, tensor.to(_group.device))
    return [part.to(tensor.device) for part in parts]


@contextmanager
def _peer_errors() -> Iterator[None]:
    """Turn what torch raises where another process has ended, or cannot be reached, into one sentence."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = re.sub(r"^\[[^]]*\]:?\s*", "", reason).split(". ")[0]  # without the place in the code of gloo
        raise PeerLostError(
            f"another process of this stage does not answer: {reason}",
            "its own message says why it ended; run the stage again in all processes, training goes on from the last epoch",
            retryable=True,
        ) from error
