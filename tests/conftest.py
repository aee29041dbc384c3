"""Small images, small folders, and the real data beside the project where it is there."""

from __future__ import annotations

import gc
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# one worker a core: more threads than one only wait for each other, and should not do so in a loop
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ONE_THREAD = threadpool_limits(1)  # a plugin of pytest's has imported NumPy, which read the variables then
# remedies name `dvc` where it is found, as in an environment that is activated
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
# no DVC that a test runs starts a process that reports to its makers
os.environ["DVC_NO_ANALYTICS"] = "1"
# else every worker and every process that a test starts would compile all modules again
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job
    signal.signal(signal.SIGINT, signal.default_int_handler)
# what is imported stays: to look through a million objects of torch, MLflow and Prefect for garbage took a third of the collection
gc.disable()
ROOT = Path(__file__).parents[1]
LONG = ROOT / "tests" / "pipelines"
# what a copy of the sources leaves out; compiled modules are copied, since compiling them again takes seconds of each project
NOT_SOURCES = ("*.egg-info", "*.pyc.*")  # the latter are being written
SHARED = Path(os.environ.get("DARKROOM_TEST_DATA", ROOT.parent / "shared" / "data"))


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def screenshot(page: Path, dark: bool = False) -> tuple[Image.Image, str]:
    """Return what Chromium shows of a page, and what it writes; skip where Chromium is not installed."""
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    picture = page.with_suffix(".png")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={page.parent / 'profile'}", "--window-size=900,900",
        *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
        "--enable-logging=stderr", f"--screenshot={picture}", f"file://{page}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert picture.exists(), done.stderr[-2000:]
    return Image.open(picture), done.stderr


@pytest.fixture
def shared() -> Path:
    """Return the folder of real images, or skip."""
    if not SHARED.is_dir():
        pytest.skip(f"no real images at {SHARED}; DARKROOM_TEST_DATA names another folder")
    return SHARED


@cache
def random_images() -> list[bytes]:
    """Return 60 random images as PNG, which take longer to encode than to write."""
    rng = np.random.default_rng(0)
    files = [io.BytesIO() for _ in range(60)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(file, "PNG")
    return [file.getvalue() for file in files]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two classes, 30 random images each."""
    for label, images in (("cat", random_images()[:30]), ("dog", random_images()[30:])):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i, content in enumerate(images):
            (tmp_path / "photos" / label / f"{i}.png").write_bytes(content)
    return tmp_path / "photos"


@pytest.fixture
def values() -> dict:
    """Return params.yaml as plain values, to change and parse."""
    from darkroom.config.params import read_yaml

    return read_yaml(ROOT / "params.yaml")


@pytest.fixture
def shapes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batch normalisation return its input, which has its shape: on the meta device torch computes it in Python."""
    from torch import nn

    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: x)


@pytest.fixture(autouse=True)
def _path_of_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what MLflow adds when it loads a version: its code, a part of the package, which new processes would import."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(autouse=True, scope="module")
def _path_of_modules_after_a_file() -> Iterator[None]:
    """Take away what fixtures of a whole file have added."""
    path = [*sys.path]
    yield
    sys.path[:] = path


@pytest.fixture
def own_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the environment without an address of MLflow's, and as it was afterwards, whatever MLflow sets; nobody is asked."""
    from darkroom.tracking import records, requests

    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "DARKROOM_TRACKING",
        "DVC_STAGE",
        "DVC_EXP_NAME",
        "DARKROOM_PIPELINE",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(records, "start_uploader", lambda: None)
    monkeypatch.setattr(requests, "send", lambda name, arguments: None)  # this process does the work


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one worker more than there are cores: tests wait for the disk, and for the real DVC, MLflow and Prefect."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files of which no test is wanted: to import MLflow's server and Prefect takes each worker seconds."""
    unwanted = [marker for marker in ("pipeline", "slow", "team") if f"not {marker}" in config.getoption("markexpr")]
    if not unwanted or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    return any(f"\npytestmark = pytest.mark.{marker}\n" in text for marker in unwanted) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, those of the real DVC, MLflow and Prefect: the others fill up the time in which they
    wait, and keep every worker busy to the end.
    """
    items.sort(key=lambda item: (not item.path.is_relative_to(LONG), item.get_closest_marker("pipeline") is None))


def pytest_collection_finish() -> None:
    """Collect garbage again, though never among what the test modules have imported, nor now, which takes over a second."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # what tests leave is small beside it, and each look at it costs as much as before
    gc.enable()


def pytest_unconfigure() -> None:
    """Let the interpreter free what was imported at its end: libraries report it as leaked otherwise."""
    gc.unfreeze()
