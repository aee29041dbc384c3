"""Feed damaged files to everything that reads one: python benchmarks/fuzz.py TARGET… [--inputs N] [--start I] [--seed S] [--guided]

A reader accepts an input or refuses it by a DarkroomError with a remedy. Any other exception is a failure, and so is an input
that takes more than --seconds of processor time, --wall-seconds of the clock or --gigabytes. Failures of one kind have the
exception's type and the innermost line of Darkroom in common; the shortest input of each kind is kept in reports/fuzz/TARGET/.
Input I of a target is decided by the seed and I, so that a run can be continued by --start. `current` in that folder is the
input that was read when the process crashed.

--guided lets atheris (`pip install atheris`, not a dependency) choose: inputs that reach code of Darkroom which none has
reached are changed further, half of the changes being libFuzzer's and half those of this file. Each target has a process
of its own, and an input is no longer decided by the seed alone.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import torch
from fuzz_targets import TARGETS, Target

from darkroom.core import tables
from darkroom.core.errors import DarkroomError

OUT = Path("reports/fuzz").absolute()  # the working directory changes
DEEP = 5_000  # levels of nested lists
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 10**400, 0.5, -1e308, 1e-320, float("nan"), float("inf"), "", "x", "\0", "ü",
    "\ud800", "x" * 5_000, "../../x", "/", "1e3", "NaN", [], [[]], {}, {"": None}, [0] * 300, {"family": "compact"},
)  # fmt: skip
CHUNKS = (
    b"",
    b"\0",
    b"\0" * 64,
    b"\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b'"',
    b",",
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"9" * 5_000,
)


@dataclass
class Result:
    """Counts of inputs, and the shortest input of each kind of failure."""

    target: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    shortest: dict[str, bytes] = field(default_factory=dict, repr=False)


class TooSlowError(BaseException):
    """A reader took too much processor time, whatever else the machine does; no `except Exception` catches it."""


class HangsError(BaseException):
    """A reader waited too long, which costs no processor time; no `except Exception` catches it."""


class Limits(NamedTuple):
    """Seconds for an input: of the processor, and of the clock, which passes for other programs, too."""

    processor: float
    wall: float


def mutate_bytes(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Return bytes with one to four changes."""
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        size = len(damaged)
        # headers and ends decide more than what is between
        at = draw.choice((draw.randrange(size + 1), min(size, draw.randrange(64)), max(0, size - draw.randrange(1, 64))))
        length = draw.choice((1, 2, 8, 64, draw.randrange(1, size + 2)))
        kind = draw.randrange(8)
        if kind == 0 and size:
            for _ in range(draw.randrange(1, 9)):
                damaged[draw.randrange(size)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del damaged[at:]
        elif kind == 2:
            del damaged[at : at + length]
        elif kind == 3:
            damaged[at:at] = damaged[at : at + length]
        elif kind == 4:
            damaged[at : at + length] = bytes(draw.getrandbits(8) for _ in range(min(length, 64)))
        elif kind == 5:
            damaged[at:at] = draw.choice(CHUNKS)
        elif kind == 6:
            other = draw.choice(others)
            start = draw.randrange(len(other) + 1)
            damaged[at : at + length] = other[start : start + length]
        else:
            with contextlib.suppress(UnicodeError):
                damaged[:] = damaged.decode().encode(draw.choice(("utf-16", "utf-16-be", "latin-1", "utf-8-sig", "utf-32")))
    return bytes(damaged)


def mutate_json(content: Any, draw: random.Random) -> Any:
    """Return JSON values of which one to three were replaced, removed, renamed, repeated or swapped."""
    root = [content]
    for _ in range(draw.choice((1, 1, 2, 3))):
        nodes: list[tuple[Any, Any]] = []
        todo: list[Any] = [root]
        while todo:
            parent = todo.pop()
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            nodes += [(parent, key) for key in keys]
            todo += [parent[key] for key in keys if isinstance(parent[key], (dict, list))]
        parent, key = draw.choice(nodes)
        kind = draw.randrange(7)
        if kind <= 2:
            parent[key] = json.loads(json.dumps(draw.choice(VALUES)))
        elif kind == 3 and parent is not root:
            del parent[key]
        elif kind == 4 and isinstance(parent, dict):
            parent[draw.choice(("", "x", "\0", str(key)[:-1], str(key) * 2))] = parent.pop(key)
        elif kind == 5:
            other, place = draw.choice(nodes)
            with contextlib.suppress(KeyError, IndexError):
                parent[key] = json.loads(json.dumps(other[place]))
        elif isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
            with contextlib.suppress(OverflowError):
                parent[key] = draw.choice((-parent[key], parent[key] * 1000, parent[key] + 0.5, str(parent[key]), [parent[key]]))
        else:
            parent[key] = [parent[key]]
    return root[0]


def mutate(target: Target, draw: random.Random) -> bytes:
    """Return a damaged content of a target."""
    content = draw.choice(target.seeds)
    if target.dump and draw.random() < 0.6:
        if draw.random() < 0.02:
            return b"[" * DEEP + b"]" * DEEP
        with contextlib.suppress(ValueError, RecursionError, TypeError, IndexError):  # what is guided begins with damaged ones
            content = target.dump(mutate_json(json.loads(content), draw))
        if draw.random() < 0.8:
            return content
    return mutate_bytes(content, target.seeds, draw)


class Reading:
    """A target that reads inputs, and what became of them."""

    def __init__(self, name: str, target: Target, limits: Limits) -> None:
        self.target, self.limits, self.result, self.folder = target, limits, Result(name), OUT / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.current = self.folder / "current"

    def read(self, content: bytes) -> None:
        """Read an input, and count it as accepted, refused or a failure."""
        result, kind = self.result, ""
        self.current.write_bytes(content)
        try:
            with _limited(self.limits), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                self.target.read(content)
            result.accepted += 1
        except DarkroomError as error:
            if error.problem and error.remedy:
                result.refused += 1
            else:
                kind = f"no remedy: {type(error).__name__}"
        except (Exception, TooSlowError, HangsError) as error:
            kind = f"{type(error).__name__} in {_innermost(error)}"
        result.inputs += 1
        if kind:
            result.kinds[kind] = result.kinds.get(kind, 0) + 1
            if len(content) < len(result.shortest.get(kind, content + b" ")):
                result.shortest[kind] = content
                (self.folder / f"{kind.replace('/', '_').replace(' ', '_')[:150]}.bin").write_bytes(content)
        self.current.unlink()


def fuzz(reading: Reading, inputs: Iterable[int], seed: int) -> None:
    """Read inputs that the seed and their numbers decide."""
    for number in inputs:
        reading.read(mutate(reading.target, random.Random(f"{seed} {reading.result.target} {number}")))


def fuzz_guided(reading: Reading, count: int, seed: int) -> None:
    """Read inputs that atheris chooses by the code that they reach, in a process of their own, which libFuzzer ends."""
    file = Path("result.json").absolute()
    child = os.fork()
    if not child:
        try:
            _guided(reading, count, seed, file)
        finally:
            os._exit(1)  # it writes the result and exits before
    _, status = os.waitpid(child, 0)
    if status:
        reading.result.kinds[f"the process ended with status {status}; see {reading.current}"] = 1
    else:
        reading.result = Result(**json.loads(file.read_text()))


def _guided(reading: Reading, count: int, seed: int, file: Path) -> None:
    import atheris

    os.dup2(os.open("libfuzzer.log", os.O_CREAT | os.O_WRONLY), 2)
    for function in gc.get_objects():
        if type(function) is FunctionType and str(function.__module__).startswith(("darkroom.", "pipelines.")):
            atheris.instrument_func(function)
    draw, corpus = random.Random(seed), Path("corpus")
    corpus.mkdir()
    for number, content in enumerate(reading.target.seeds):
        (corpus / str(number)).write_bytes(content)

    def change(content: bytes, size: int, number: int) -> bytes:
        if draw.random() < 0.5:
            return bytes(atheris.Mutate(content, size))
        return mutate(Target([content or b"\0"], reading.target.read, reading.target.dump), draw)[:size]

    def read(content: bytes) -> None:
        reading.read(content)
        if reading.result.inputs >= count:
            file.write_text(json.dumps({k: v for k, v in asdict(reading.result).items() if k != "shortest"}))
            os._exit(0)

    options = ("-timeout=0", "-rss_limit_mb=0", "-malloc_limit_mb=0", "-max_len=200000", "-print_final_stats=0", "-verbosity=0")
    atheris.Setup([sys.argv[0], f"-seed={seed + 1}", *options, str(corpus)], read, custom_mutator=change)
    atheris.Fuzz()


def _innermost(error: BaseException) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/darkroom/" in frame.filename or "/pipelines/" in frame.filename
    ]
    return (
        f"{Path(frames[-1].filename).parent.name}/{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the target"
    )


@contextlib.contextmanager
def _limited(limits: Limits) -> Iterator[None]:
    """Raise TooSlowError or HangsError in what takes longer."""
    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, limits.processor, TooSlowError),
        (signal.ITIMER_REAL, signal.SIGALRM, limits.wall, HangsError),
    )

    def end(number: int, _: object) -> None:
        raise next(error for _, signum, _, error in timers if signum == number)

    handlers = [signal.signal(signum, end) for _, signum, _, _ in timers]
    try:
        for timer, _, seconds, _ in timers:
            signal.setitimer(timer, seconds)
        yield
    finally:
        for timer, _, _, _ in timers:
            signal.setitimer(timer, 0)
        for (_, signum, _, _), handler in zip(timers, handlers, strict=True):
            signal.signal(signum, handler)


def run(name: str, inputs: range, seed: int, limits: Limits, is_guided: bool) -> Result:
    """Fuzz a target in an empty folder."""
    back = Path.cwd()
    place = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    os.chdir(place)
    try:
        target = TARGETS[name]()
        target.read(target.seeds[0])  # what is not damaged is accepted
        reading = Reading(name, target, limits)
        fuzz_guided(reading, len(inputs), seed) if is_guided else fuzz(reading, inputs, seed)
        return reading.result
    finally:
        os.chdir(back)
        shutil.rmtree(place, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or some of {', '.join(TARGETS)}")
    parser.add_argument("--inputs", type=int, default=2_000)
    parser.add_argument("--start", type=int, default=0, help="the number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0, help="of processor time, the limit of an input")
    parser.add_argument("--wall-seconds", type=float, default=300.0, help="of the clock, the limit of an input that waits")
    parser.add_argument("--gigabytes", type=float, default=2.5, help="of memory beside what is used at the start")
    parser.add_argument("--guided", action="store_true", help="by atheris, which must be installed")
    options = parser.parse_args()
    if options.guided and importlib.util.find_spec("atheris") is None:
        parser.error("--guided needs atheris: `pip install atheris`")
    unknown = set(options.targets) - set(TARGETS) - {"all"}
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    names = list(TARGETS) if options.targets in ([], ["all"]) else options.targets
    limits = Limits(options.seconds, options.wall_seconds)
    torch.set_num_threads(1)
    used = next(
        int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")
    )
    resource.setrlimit(resource.RLIMIT_DATA, (used + int(options.gigabytes * 2**30),) * 2)
    results = []
    for name in names:
        started = time.perf_counter()
        result = run(name, range(options.start, options.start + options.inputs), options.seed, limits, options.guided)
        results.append(result)
        rate = result.inputs / (time.perf_counter() - started)
        print(f"{name}: {result.inputs:,} inputs, {rate:,.0f} a second", file=sys.stderr, flush=True)
        for kind, count in sorted(result.kinds.items(), key=lambda item: -item[1]):
            print(f"  {count:6,} × {kind}: {result.shortest.get(kind, b'')[:80]!r}", file=sys.stderr, flush=True)
    cells = [
        (r.target, f"{r.inputs:,}", f"{r.accepted:,}", f"{r.refused:,}", f"{sum(r.kinds.values()):,}", len(r.kinds))
        for r in results
    ]
    tables.show(
        ("target", "inputs", "accepted", "refused", "failures", "kinds"),
        cells,
        right=("inputs", "accepted", "refused", "failures", "kinds"),
    )
    OUT.mkdir(parents=True, exist_ok=True)
    written = [{key: value for key, value in asdict(result).items() if key != "shortest"} for result in results]
    (OUT / "results.json").write_text(json.dumps(written, indent=2) + "\n")
    return int(any(result.kinds for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
