"""Run a frozen network with the fastest engine available; the outputs are torch's in float32, within a
tolerance.

On a CPU that is ONNX Runtime. `compute.threads` threads compute a few images at a time, each on its own, so
that no layer waits for the other cores and the outputs do not depend on the number of threads. On a GPU it is
torch itself, with channels-last memory and the precision of `compute`. ONNX Runtime is compared with torch
before it is used.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from darkroom.core import machine_limits
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import onnxruntime

TOLERANCE = 1e-4  # largest difference from torch's float32, relative to the largest output
CHECKED_IMAGES = 4

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
        pending: deque[Future[Outputs]] = deque()  # the threads work ahead by two batches each
        with ThreadPoolExecutor(self.threads) as pool:
            for batch in inputs:
                pending.append(pool.submit(self.run, batch))
                if len(pending) > 2 * self.threads:
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


def export_onnx(network: nn.Module, example: np.ndarray, input_name: str = "inputs", output_names: Sequence[str] = ()) -> bytes:
    """Return the ONNX program of a network in evaluation mode, from `inputs` (B, …) to `output0` and so on, or to
    outputs of other names; B is free.

    The network is traced: torch's newer exporter gives the same program and takes ten times as long.
    """
    buffer = io.BytesIO()
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # an operator of torch's own, which ONNX does not have
    inputs = torch.from_numpy(example)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad(), _without_onnx():
            warnings.simplefilter("ignore")
            names = list(output_names) or [f"output{i}" for i in range(len(_as_list(network.cpu().eval()(inputs))))]
            torch.onnx.export(
                network.cpu().eval(), (inputs,), cast(Any, buffer), dynamo=False, input_names=[input_name], output_names=names,
                dynamic_axes={name: {0: "batch"} for name in (input_name, *names)},
            )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    return buffer.getvalue()


@contextmanager
def _without_onnx() -> Iterator[None]:
    """Keep torch's exporter from reading its program again with `onnx`, whose import takes half as long as the export.

    That would add functions of onnxscript, and there are none. Where torch no longer has this step, nothing changes.
    """
    step = "_add_onnxscript_fn"
    module = sys.modules.get(f"{torch.onnx.__name__}._internal.torchscript_exporter.onnx_proto_utils")  # imports it
    if not hasattr(module, step):
        yield
        return
    original = getattr(module, step)
    setattr(module, step, lambda program, _: program)
    try:
        yield
    finally:
        setattr(module, step, original)


def relative_difference(engine: Engine, network: nn.Module, inputs: np.ndarray) -> float:
    """Return the largest difference of an engine's outputs from torch's, relative to the largest output."""
    with torch.inference_mode():
        expected = [output.numpy() for output in _as_list(network.cpu().eval()(torch.from_numpy(inputs)))]
    outputs = next(iter(engine.stream([inputs])))
    return max(float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-30)) for a, b in zip(outputs, expected, strict=True))


def identity(device: torch.device, half: torch.dtype | None = None) -> str:
    """Return what decides the last digits of a frozen network's outputs: the engine's version, device and precision."""
    if device.type == "cpu":
        return f"onnxruntime {version('onnxruntime')}, torch {torch.__version__}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"torch {torch.__version__} on {name}, {half or torch.float32}"


def select_engine(network: nn.Module, inputs: Any, device: torch.device, threads: int, half: torch.dtype | None = None) -> Engine:
    """Return the fastest engine for a frozen network whose outputs for some of the `inputs` (N, …) agree with
    torch's.

    `half` is the precision on a GPU below float32, if any is allowed. Raises WorkspaceError (retry) where the machine lacks memory
    for the faster one: which engine runs is decided by the network alone.
    """
    if device.type != "cpu":
        return Eager(network, device, half)
    examples = np.ascontiguousarray(inputs[:CHECKED_IMAGES])
    if len(examples) == 1:  # a batch axis of one would be taken for a fixed size
        examples = np.concatenate([examples, examples])
    try:
        engine = Onnx(network, examples, threads)
        difference = relative_difference(engine, network, examples)
    except Exception as error:
        machine_limits.check(error)  # another engine would give other last digits under the same identity
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    else:
        if difference <= TOLERANCE:
            return engine
        reason = f"its outputs differ by {difference:.1e} of the largest"
    print(f"{Onnx.name} cannot be used for this network ({reason}): it runs in torch")
    return Eager(network, device)
