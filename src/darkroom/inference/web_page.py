"""A page that classifies images in a browser, from one file and without a network.

It holds ONNX Runtime Web, a program of the model, and scripts that decode and resize images as `darkroom predict` does. The same
model gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.core import pages
from darkroom.core.errors import WorkspaceError
from darkroom.inference import web_runtime
from darkroom.inference.web_runtime import Runtime

MAX_BYTES = 64_000_000  # of a program: what a phone opens in a page
COVERAGE = "0.9"  # that is chosen at first
SHOWN_CLASSES = 6
SETTINGS = ("classes", "prediction_sets", "abstention")  # of the metadata


def check_size(program: Path) -> None:
    """Raise WorkspaceError where a program is too large for a page."""
    size = program.stat().st_size
    if size > MAX_BYTES:
        raise WorkspaceError(
            f"the model has {size / 1e6:.0f} MB, and a page that a phone can open holds at most {MAX_BYTES / 1e6:.0f} MB",
            "use a program of 8-bit integers, which `register.quantize: int8` makes, or a smaller backbone such as mobilenet_v2",
        )


def write(program: Path, metadata: Mapping[str, Any], card: Mapping[str, str], runtime: Runtime, target: Path) -> None:
    """Write the page of an ONNX program with its metadata, as of `export.describe`; `card` has what the model card says."""
    preprocessing = metadata["preprocessing"]
    settings = {"size": preprocessing["image_size"], **{key: preprocessing[key] for key in ("resize", "background")}}
    settings |= {key: metadata[key] for key in SETTINGS}
    script = pages.render("inference", "web/script.js.j2")
    coverages = list(metadata["prediction_sets"])
    source = "\n".join(line for line in runtime.script.splitlines() if not line.startswith("//# sourceMappingURL="))
    page = pages.render(
        "inference", "web/page.html.j2", source=metadata["about"], about=metadata["about"], named=_named(metadata["classes"]),
        card=dict(card), settings=settings, chosen=COVERAGE if COVERAGE in coverages else (coverages or [""])[-1],
        script=script, digest="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=web_runtime.VERSION, licence=web_runtime.LICENCE, runtime=_packed(source.encode()), wasm=_packed(runtime.wasm),
        model=_packed(program.read_bytes()),
    )  # fmt: skip
    target.write_text(page, encoding="utf-8", newline="\n")


def _packed(content: bytes) -> str:
    """Return bytes deflated, in base64."""
    return base64.b64encode(zlib.compress(content, 9)).decode()


def _named(classes: list[str]) -> str:
    """Return the classes in words, of many the first ones."""
    if len(classes) > SHOWN_CLASSES:
        return f"{', '.join(classes[:SHOWN_CLASSES])} or {len(classes) - SHOWN_CLASSES} more"
    return " or ".join([", ".join(classes[:-1]), classes[-1]] if len(classes) > 1 else classes)
