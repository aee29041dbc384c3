"""A network that is not being trained, run by the fastest engine at hand, with the answers that torch gives in float32.

On a CPU that is ONNX Runtime, or torch with Winograd's algorithm where wide 3 × 3 convolutions are most of the work (VGG).
As many threads as `compute.threads` says take a few images at a time, each on its own, so that no layer waits for the other
cores and an answer does not depend on the number of threads. On a GPU it is torch itself, with channels-last memory and the
precision of `compute`. An engine is compared with torch before it is used.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from darkroom.models import winograd

TOLERANCE = 1e-4  # largest difference from torch's float32, as a share of the largest number in the answer
CHECKED = 4  # images on which an engine is compared with torch
PIXELS = 2**17  # at a time in Winograd's algorithm: for the tiles of the deepest maps to make large matrix products
GAIN = 1.5  # estimated, in torch's convolutions, from which Winograd's algorithm in torch is faster than ONNX Runtime


Answers = Sequence[np.ndarray]


class Engine(Protocol):
    """A frozen network, (B, …) uint8 or float32 to one or more answers (B, …) float32."""

    name: str
    batch: int  # the number of inputs at a time at which it is fastest

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[Answers]:
        """Yield the answers to batches of inputs, in their order, working ahead by a few batches."""
        ...


class Onnx:
    """ONNX Runtime on the CPU. Raises what torch's exporter or ONNX Runtime raise where they do not know an operator."""

    name = "ONNX Runtime"
    batch = 4

    def __init__(self, network: nn.Module, example: np.ndarray, threads: int) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.threads = threads
        self.session = onnxruntime.InferenceSession(export(network, example), options, providers=["CPUExecutionProvider"])

    def answer(self, inputs: np.ndarray) -> Answers:
        return self.session.run(None, {"inputs": inputs})

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[Answers]:
        return _by_threads(self.answer, inputs, self.threads)


class Winograd:
    """torch on the CPU, wide 3 × 3 convolutions by Winograd's algorithm and batch normalisation folded into convolutions."""

    name = "torch, Winograd"

    def __init__(self, network: nn.Module, example: np.ndarray, threads: int) -> None:
        self.network, self.threads = network.cpu().eval(), threads
        self.faster = winograd.faster(self.network, torch.from_numpy(example))
        self.batch = min(max(PIXELS // example[0, ..., 0].size, 4), 128)

    def answer(self, inputs: np.ndarray) -> Answers:
        with torch.inference_mode():
            return [answer.numpy() for answer in _several(self.network(torch.from_numpy(inputs)))]

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[Answers]:
        threads = torch.get_num_threads()
        try:
            with self.faster.applied():
                yield from _by_threads(self.answer, inputs, self.threads, lambda: torch.set_num_threads(1))
        finally:
            torch.set_num_threads(threads)


def _by_threads(
    answer: Callable[[np.ndarray], Answers], inputs: Iterable[np.ndarray], threads: int, prepare: Callable[[], None] | None = None
) -> Iterator[Answers]:
    """Yield the answers to batches in their order; the threads work ahead by two batches each."""
    pending: deque[Future[Answers]] = deque()
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        for batch in inputs:
            pending.append(pool.submit(answer, batch))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class Eager:
    """torch itself, with channels-last memory."""

    name = "torch"

    def __init__(self, network: nn.Module, device: torch.device, half: torch.dtype | None = None) -> None:
        self.network, self.device, self.half = network.to(device).eval(), device, half
        self.batch = 32 if device.type == "cpu" else 256

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[Answers]:
        waiting: list[torch.Tensor] = []
        for batch in inputs:
            with torch.inference_mode(), torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
                made = [answer.float() for answer in _several(self.network(torch.from_numpy(batch).to(self.device)))]
            if waiting:  # fetched only now, so that the device has its next batch already
                yield [answer.cpu().numpy() for answer in waiting]
            waiting = made
        if waiting:
            yield [answer.cpu().numpy() for answer in waiting]


def _several(answers: torch.Tensor | Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    return [answers] if isinstance(answers, torch.Tensor) else answers


def export(network: nn.Module, example: np.ndarray) -> bytes:
    """Return the ONNX program of a network in evaluation mode, from `inputs` (B, …) to `output0` and so on; B is free.

    By tracing: torch's newer exporter gives the same program and takes ten times as long.
    """
    buffer = io.BytesIO()
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # an operator of torch's own, which ONNX does not have
    given = torch.from_numpy(example)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            names = [f"output{i}" for i in range(len(_several(network.cpu().eval()(given))))]
            torch.onnx.export(
                network, (given,), cast(Any, buffer), dynamo=False, input_names=["inputs"], output_names=names,
                dynamic_axes={name: {0: "batch"} for name in ("inputs", *names)},
            )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    return buffer.getvalue()


def difference(engine: Engine, network: nn.Module, inputs: np.ndarray) -> float:
    """Return the largest difference of an engine's answers from torch's in float32, as a share of the largest number in these."""
    with torch.inference_mode():
        expected = [answer.numpy() for answer in _several(network.cpu().eval()(torch.from_numpy(inputs)))]
    got = next(iter(engine.stream([inputs])))
    return max(float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-30)) for a, b in zip(got, expected, strict=True))


def fastest(
    network: nn.Module,
    inputs: Any,
    device: torch.device,
    threads: int,
    half: torch.dtype | None = None,
    whole: nn.Module | None = None,
) -> Engine:
    """Return the fastest engine for a frozen network whose answers to some of the `inputs` (N, …) are those of torch.

    `half` is the precision on a GPU below float32, if any is allowed. Where the network is a part of another, `whole`, the
    engine is chosen for that one, so that both give the same bytes.
    """
    if device.type != "cpu":
        return Eager(network, device, half)
    some = np.ascontiguousarray(inputs[:CHECKED])
    if len(some) == 1:  # a batch axis of one would be taken for a fixed size
        some = np.concatenate([some, some])
    reasons = []
    for kind in _candidates(network if whole is None else whole, some):
        try:
            engine = kind(network, some, threads)
            apart = difference(engine, network, some)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        else:
            if apart <= TOLERANCE:
                return engine
            reason = f"its answers differ by {apart:.1e} of the largest"
        reasons.append(f"{kind.name} cannot be used for this network ({reason})")
    print("; ".join(reasons) + ": it runs in torch")
    return Eager(network, device)


def _candidates(network: nn.Module, some: np.ndarray) -> list[type[Winograd | Onnx]]:
    """Return the engines to try. The choice is by shapes, not by the clock: another engine gives other last bits."""
    try:
        gain = winograd.gain(network.cpu(), torch.from_numpy(some))
    except Exception:  # a network that cannot be looked at in this way
        gain = 1.0
    return [Winograd, Onnx] if gain >= GAIN else [Onnx]
