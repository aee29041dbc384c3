"""Run a frozen network with the fastest engine available; the outputs are torch's in float32, within a
tolerance.

On a CPU that is ONNX Runtime, or torch with Winograd's algorithm where wide 3 × 3 convolutions are most of
the work (VGG). `compute.threads` threads compute a few images at a time, each on its own, so that no layer
waits for the other cores and the outputs do not depend on the number of threads. On a GPU it is torch itself,
with channels-last memory and the precision of `compute`. An engine is compared with torch before it is used.
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

from darkroom.core.lazy import lazy_imports
from darkroom.models import winograd

with lazy_imports():
    import onnxruntime

TOLERANCE = 1e-4  # largest difference from torch's float32, relative to the largest output
CHECKED_IMAGES = 4
WINOGRAD_PIXELS = 2**17  # in a batch of Winograd's algorithm, so that the deepest maps make large matrix products
WINOGRAD_GAIN = 1.5  # estimated speed-up of torch's convolutions from which Winograd's algorithm is faster than ONNX Runtime

Outputs = Sequence[np.ndarray]


class Engine(Protocol):
    """A frozen network: (B, …) uint8 or float32 to one or more outputs (B, …) float32."""

    name: str
    batch: int  # the number of inputs at a time at which it is fastest

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[Outputs]:
        """Yield the outputs of batches of inputs, in their order, working ahead by a few batches."""
        ...


class Onnx:
    """ONNX Runtime on the CPU.

    Raises the errors of torch's exporter and ONNX Runtime for operators that they do not have.
    """

    name = "ONNX Runtime"
    batch = 4

    def __init__(self, network: nn.Module, example: np.ndarray, threads: int) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.threads = threads
        program = export_onnx(network, example)
        self.session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: np.ndarray) -> Outputs:
        return self.session.run(None, {"inputs": inputs})

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[Outputs]:
        return _stream(self.run, inputs, self.threads)


class Winograd:
    """torch on the CPU: wide 3 × 3 convolutions by Winograd's algorithm, batch normalisation folded."""

    name = "torch, Winograd"

    def __init__(self, network: nn.Module, example: np.ndarray, threads: int) -> None:
        self.network, self.threads = network.cpu().eval(), threads
        self.replacements = winograd.replacements(self.network, torch.from_numpy(example))
        self.batch = min(max(WINOGRAD_PIXELS // example[0, ..., 0].size, 4), 128)

    def run(self, inputs: np.ndarray) -> Outputs:
        with torch.inference_mode():
            return [output.numpy() for output in _as_list(self.network(torch.from_numpy(inputs)))]

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[Outputs]:
        threads = torch.get_num_threads()
        try:
            with self.replacements.applied():
                yield from _stream(self.run, inputs, self.threads, lambda: torch.set_num_threads(1))
        finally:
            torch.set_num_threads(threads)


def _stream(
    run: Callable[[np.ndarray], Outputs], inputs: Iterable[np.ndarray], threads: int, prepare: Callable[[], None] | None = None
) -> Iterator[Outputs]:
    """Yield the outputs of batches in their order; the threads work ahead by two batches each."""
    pending: deque[Future[Outputs]] = deque()
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        for batch in inputs:
            pending.append(pool.submit(run, batch))
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

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[Outputs]:
        pending: list[torch.Tensor] = []
        for batch in inputs:
            with torch.inference_mode(), torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
                outputs = [output.float() for output in _as_list(self.network(torch.from_numpy(batch).to(self.device)))]
            if pending:  # fetched one batch late, so that the device already has its next one
                yield [output.cpu().numpy() for output in pending]
            pending = outputs
        if pending:
            yield [output.cpu().numpy() for output in pending]


def _as_list(outputs: torch.Tensor | Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else outputs


def export_onnx(network: nn.Module, example: np.ndarray) -> bytes:
    """Return the ONNX program of a network in evaluation mode, from `inputs` (B, …) to `output0` and so on; B
    is free.

    The network is traced: torch's newer exporter gives the same program and takes ten times as long.
    """
    buffer = io.BytesIO()
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # an operator of torch's own, which ONNX does not have
    inputs = torch.from_numpy(example)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            names = [f"output{i}" for i in range(len(_as_list(network.cpu().eval()(inputs))))]
            torch.onnx.export(
                network, (inputs,), cast(Any, buffer), dynamo=False, input_names=["inputs"], output_names=names,
                dynamic_axes={name: {0: "batch"} for name in ("inputs", *names)},
            )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    return buffer.getvalue()


def relative_difference(engine: Engine, network: nn.Module, inputs: np.ndarray) -> float:
    """Return the largest difference of an engine's outputs from torch's, relative to the largest output."""
    with torch.inference_mode():
        expected = [output.numpy() for output in _as_list(network.cpu().eval()(torch.from_numpy(inputs)))]
    outputs = next(iter(engine.stream([inputs])))
    return max(float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-30)) for a, b in zip(outputs, expected, strict=True))


def select_engine(
    network: nn.Module,
    inputs: Any,
    device: torch.device,
    threads: int,
    half: torch.dtype | None = None,
    reference: nn.Module | None = None,
) -> Engine:
    """Return the fastest engine for a frozen network whose outputs for some of the `inputs` (N, …) agree with
    torch's.

    `half` is the precision on a GPU below float32, if any is allowed. Where the network is a part of another
    one, the `reference`, the engine is chosen for that one, so that both give the same bytes.
    """
    if device.type != "cpu":
        return Eager(network, device, half)
    examples = np.ascontiguousarray(inputs[:CHECKED_IMAGES])
    if len(examples) == 1:  # a batch axis of one would be taken for a fixed size
        examples = np.concatenate([examples, examples])
    reasons = []
    for kind in _candidates(network if reference is None else reference, examples):
        try:
            engine = kind(network, examples, threads)
            difference = relative_difference(engine, network, examples)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        else:
            if difference <= TOLERANCE:
                return engine
            reason = f"its outputs differ by {difference:.1e} of the largest"
        reasons.append(f"{kind.name} cannot be used for this network ({reason})")
    print("; ".join(reasons) + ": it runs in torch")
    return Eager(network, device)


def _candidates(network: nn.Module, examples: np.ndarray) -> list[type[Winograd | Onnx]]:
    """Return the engines to try.

    The choice is by shapes, not by the clock: another engine gives other last bits.
    """
    try:
        gain = winograd.estimate_gain(network.cpu(), torch.from_numpy(examples))
    except Exception:  # a network that does not run on these examples
        gain = 1.0
    return [Winograd, Onnx] if gain >= WINOGRAD_GAIN else [Onnx]
