"""What of this machine and installation a run depends on, each finding with its remedy: `darkroom doctor`. Nothing is changed."""

from __future__ import annotations

import base64
import http
import http.client
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
from packaging.requirements import InvalidRequirement, Requirement

import darkroom
from darkroom.config import params, stage_code
from darkroom.core import deadline, platforms, strict_json
from darkroom.core.errors import DarkroomError, masked, without_login
from darkroom.preflight import project

OK, NOTE, FAULT = "ok", "note", "fault"
DISTRIBUTION = "darkroom"
GIB = 2**30
LITTLE_MEMORY, LITTLE_DISK = 2 * GIB, 5 * GIB  # below which runs of photographs are likely to fail
TIMEOUT = 5.0  # seconds that a server has to respond
IMPORT_LIMIT = 120.0  # seconds for importing torch and torchvision
SETTINGS = (  # of other programs, which change what a run does
    "CUDA_VISIBLE_DEVICES", "DARKROOM_HOME", "DARKROOM_TRACKING", "GOMP_SPINCOUNT", "HF_HUB_OFFLINE", "MKL_NUM_THREADS",
    "MLFLOW_TRACKING_URI", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PREFECT_API_URL", "PYTHONPATH", "TMPDIR", "TORCH_HOME",
)  # fmt: skip
REINSTALL = "in Darkroom's own repository `make install`, else install the wheel again"
PROBE = """
import json, torch
found = {"torch": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}
found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
found["mps"] = torch.backends.mps.is_available()
import torchvision
torchvision.ops.nms
found["torchvision"] = torchvision.__version__
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Finding:
    """What was looked at, its state (ok, note or fault), what was found, and for a note or a fault what helps."""

    subject: str
    state: str
    text: str
    remedy: str = ""


def examine(tracking_uri: str, advance: Callable[[str], object] = lambda _: None) -> Iterator[Finding]:
    """Yield all findings; `advance` is called with what is looked at next."""
    checks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("machine", _machine),
        ("packages", _packages),
        ("torch", _torch),
        ("programs", _programs),
        ("project", _project),
        ("servers", lambda: _servers(tracking_uri)),
        ("remote", _remote),
        ("environment", _environment),
    )
    for name, check in checks:
        advance(name)
        yield from check()


def _machine() -> Iterator[Finding]:
    yield Finding("Darkroom", OK, f"{darkroom.__version__}, Python {sys.version.split()[0]}")
    cores, load = platforms.usable_cores(), platforms.load_average()
    busy = load > 0.75 * cores
    yield Finding(
        "cores", NOTE if busy else OK, f"{cores} of {os.cpu_count()} ({platforms.processor()}), load {load:.1f}",
        "other programs use them, and times that are measured now are too long" if busy else "",
    )  # fmt: skip
    free, total = platforms.available_memory(), psutil.virtual_memory().total
    yield _room("memory", free, total, LITTLE_MEMORY, "end other programs, or set a smaller `ingest.image_size`")
    folders = {"disk": Path(), "disk of temporary files": Path(tempfile.gettempdir())}
    for name, folder in folders.items():
        if folder.is_dir():
            usage = shutil.disk_usage(folder)
            yield _room(name, usage.free, usage.total, LITTLE_DISK, "`darkroom flow tidy`, or another disk")


def _room(subject: str, free: int, total: int, least: int, remedy: str) -> Finding:
    text = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    return Finding(subject, NOTE if free < least else OK, text, remedy if free < least else "")


def _packages() -> Iterator[Finding]:
    """Compare what is installed with what the installed Darkroom asks for."""
    wrong, count = [], 0
    for text in importlib.metadata.requires(DISTRIBUTION) or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, needed is {requirement.specifier}")
    if wrong:
        yield Finding("packages", FAULT, "; ".join(wrong), REINSTALL)
    else:
        yield Finding("packages", OK, f"all {count} fit")


def _torch() -> Iterator[Finding]:
    """Import torch and torchvision in a process of its own: a pair that does not match fails only there."""
    try:
        result = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=IMPORT_LIMIT, check=False
        )  # fmt: skip
        versions = strict_json.loads(result.stdout.splitlines()[-1]) if result.returncode == 0 else {}
    except (subprocess.TimeoutExpired, OSError, ValueError, IndexError) as error:
        yield Finding("torch", FAULT, f"cannot be imported: {error}", REINSTALL)
        return
    if not versions:
        last = (result.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        yield Finding("torch", FAULT, f"torch and torchvision cannot be imported: {last}", f"their builds must match: {REINSTALL}")
        return
    yield Finding("torch", OK, f"{versions['torch']}, torchvision {versions['torchvision']}, {versions['threads']} threads")
    if versions["gpus"]:
        yield Finding("GPU", OK, ", ".join(versions["gpus"]))
    elif versions["mps"]:
        yield Finding("GPU", OK, "Apple's, as `mps`")
    elif platforms.has_nvidia_device():
        yield Finding(
            "GPU", FAULT, "the machine has one of NVIDIA's, and torch cannot use it",
            "a newer driver, or a build of torch for the one that is there: `make install TORCH=cu130`, for example",
        )  # fmt: skip
    else:
        yield Finding("GPU", OK, "none; stages run on the processor")


def _programs() -> Iterator[Finding]:
    for name, use in (("git", "commits in reports, and revisions"), ("dvc", "every run")):
        if path := shutil.which(name):
            yield Finding(name, OK, path)
        elif path := shutil.which(name, path=str(Path(sys.executable).parent)):
            yield Finding(name, NOTE, f"{path}, not on the PATH", "`darkroom repro` finds it; else activate the environment")
        else:
            yield Finding(name, FAULT, f"is not on the PATH; it is needed for {use}", f"install {name}")


def _project() -> Iterator[Finding]:
    """Look at the project in this folder, as `darkroom check` does before a run, but not at its images."""
    if not Path("params.yaml").exists():
        yield Finding("project", NOTE, "this folder is none", "`darkroom new DIR`, or change into one")
        return
    try:
        for path in (Path("params.yaml"), *project.TRACKED):
            project.check_merged(path)
        settings = params.read()
        stage_code.check()
        project.check_place(settings)
        project.check(settings)
    except DarkroomError as error:
        yield Finding("project", FAULT, error.problem, error.remedy)
    else:
        yield Finding("project", OK, "params.yaml, the graph, and the rights to write")


def _servers(tracking_uri: str) -> Iterator[Finding]:
    shown = masked(tracking_uri)
    try:
        project.check_mlflow(tracking_uri)
    except DarkroomError as error:
        yield Finding("MLflow", FAULT, error.problem, error.remedy)
    else:
        if tracking_uri.startswith(("http://", "https://")):
            login = _login(tracking_uri, _pair("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), "MLFLOW_TRACKING_TOKEN")
            yield _response(
                "MLflow", tracking_uri, "/api/2.0/mlflow/experiments/search?max_results=1", login,
                "start it, or unset MLFLOW_TRACKING_URI: mlflow.db is used then",
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )  # fmt: skip
        else:
            yield Finding("MLflow", OK, shown)
    if address := os.environ.get("PREFECT_API_URL"):
        login = _login(address, os.environ.get("PREFECT_API_AUTH_STRING", ""), "PREFECT_API_KEY")
        yield _response(
            "Prefect", address, "/admin/version", login, "start it, or unset PREFECT_API_URL: a flow then needs no server",
            "set PREFECT_API_AUTH_STRING to the server's user:password, or PREFECT_API_KEY",
        )  # fmt: skip


def _pair(user: str, password: str) -> str:
    return f"{os.environ[user]}:{os.environ[password]}" if user in os.environ and password in os.environ else ""


def _login(address: str, pair: str, token: str) -> dict[str, str]:
    """Return the header of a request with the `user:password` of the environment or of the address, or else with a token."""
    parts = urlsplit(address)
    if pair := pair or (f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {"Authorization": f"Bearer {os.environ[token]}"} if os.environ.get(token) else {}


def _response(subject: str, address: str, call: str, login: dict[str, str], remedy: str, login_remedy: str) -> Finding:
    """Ask whether a server is there, and by a call of its API whether it takes the login."""
    shown, place = masked(address), without_login(address).rstrip("/")
    try:
        deadline.fetch(f"{place}/health", TIMEOUT)
        deadline.fetch(urllib.request.Request(f"{place}{call}", headers=login), TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.UNAUTHORIZED and login:
            return Finding(subject, FAULT, f"{shown} refuses this user or password", login_remedy)
        if error.code == http.HTTPStatus.UNAUTHORIZED:
            return Finding(subject, NOTE, f"{shown} responds, and asks for a login; none is in the environment", login_remedy)
        return Finding(subject, FAULT, f"{shown} responds with {error.code}", remedy)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Finding(subject, FAULT, f"{shown} does not respond: {getattr(error, 'reason', error)}", remedy)
    return Finding(subject, OK, f"{shown} responds{', and takes the login' if login else ''}")


def _remote() -> Iterator[Finding]:
    """Look whether DVC has a remote by default, and where it is a folder, whether that is there."""
    if not Path(".dvc").is_dir():
        return
    names = _dvc_config("core.remote")
    if not names:
        yield Finding("DVC remote", NOTE, "none: results are on this disk alone", "`dvc remote add --default NAME ADDRESS`")
        return
    url = _dvc_config(f"remote.{names}.url")
    shown = masked(url or "without an address")
    if url and "://" not in url and not Path(url).is_dir():
        yield Finding("DVC remote", FAULT, f"{names} is {shown}, and there is no such folder", "mount or make it, or name another")
    else:
        yield Finding("DVC remote", OK, f"{names}: {shown}")


def _dvc_config(key: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "config", key], capture_output=True, text=True, check=False, timeout=IMPORT_LIMIT
    )  # fmt: skip
    return result.stdout.strip() if result.returncode == 0 else ""


def _environment() -> Iterator[Finding]:
    settings = [f"{name}={masked(os.environ[name])}" for name in SETTINGS if name in os.environ]
    yield Finding("environment", OK, ", ".join(settings) or "nothing that changes a run")
