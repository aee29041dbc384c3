"""ONNX Runtime Web, which runs a model in a browser: two files of a package of the npm registry, kept in the user's cache.

The package is compared with the hash that is written here, and so are its two files wherever they come from.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from darkroom.core import atomic, checksums, deadline
from darkroom.core.errors import SourceError, masked
from darkroom.core.os_errors import is_retryable
from darkroom.core.progress import Progress

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"  # the smallest build for a processor
SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
REGISTRY = "https://registry.npmjs.org"  # npm's own; its variable NPM_CONFIG_REGISTRY names another one
TIMEOUT = 10  # seconds in which a server says something
ATTEMPTS = 3
BLOCK = 1 << 20  # bytes
LICENCE = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without
limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the
Software, and to permit persons to whom the Software is furnished to do so, subject to the following
conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions
of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED
TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL
THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
DEALINGS IN THE SOFTWARE."""


@dataclass(frozen=True)
class Runtime:
    """The script, an ES module, and the program that it runs, WebAssembly."""

    script: str
    wasm: bytes


def load(source: Path | None = None) -> Runtime:
    """Return the runtime of a package's .tgz, of a folder that has its files, or by default of the cache, into which it is
    downloaded.

    Raises SourceError where it cannot be had, or is not the one whose hash is written here.
    """
    if source is None:
        folder = cache_folder()
        if not _is_complete(folder):
            _download(folder)
    elif source.is_dir():
        folder = next(
            (place for place in (source, source / "dist", source / "package" / "dist") if (place / WASM).is_file()), source
        )
    else:
        folder = cache_folder()
        with atomic.new_folder(folder) as working:
            _extract(source, working, str(source))
    for name, expected in SHA256.items():
        if not (folder / name).is_file() or checksums.of_file(folder / name) != expected:
            raise SourceError(
                f"{folder} does not hold {name} of {PACKAGE} {VERSION}, or another version of it",
                f"name the folder that `npm install {PACKAGE}@{VERSION}` makes, node_modules/{PACKAGE}, or omit --runtime",
            )
    return Runtime((folder / SCRIPT).read_text(encoding="utf-8"), (folder / WASM).read_bytes())


def cache_folder() -> Path:
    """Return the folder of the two files, which all projects of a user share."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "darkroom" / f"{PACKAGE}-{VERSION}"


def address() -> str:
    """Return where the package is downloaded from."""
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY
    return f"{registry.rstrip('/')}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() and checksums.of_file(folder / name) == value for name, value in SHA256.items())


def _download(folder: Path) -> None:
    url = address()
    with atomic.new_folder(folder) as working:
        package = working / f"{PACKAGE}.tgz"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _fetch(url, package)
                break
            except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address that is none
                if attempt == ATTEMPTS or not is_retryable(error):
                    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
                    raise SourceError(
                        f"{masked(url)} cannot be downloaded: {masked(str(reason))}",
                        f"check the network; or, on a machine that has it, `npm pack {PACKAGE}@{VERSION}`, and name the file here: "
                        f"--runtime {PACKAGE}-{VERSION}.tgz",
                        is_retryable(error),
                    ) from error
                time.sleep(attempt)
        _extract(package, working, masked(url))
        package.unlink()


def _fetch(url: str, target: Path) -> None:
    """Write what an address has into a file; ConnectionError where it ends before its length, TimeoutError where it stalls."""
    response = deadline.within(TIMEOUT, lambda: urllib.request.urlopen(url, timeout=TIMEOUT))
    with response, target.open("wb") as file:
        length = int(response.headers.get("Content-Length") or 0)
        with Progress(f"download {PACKAGE}", -(-length // BLOCK), "MiB") as progress:
            for block in deadline.blocks(response, BLOCK):
                file.write(block)
                progress.advance(file.tell() // BLOCK - progress.done)
        if length and file.tell() != length:
            raise ConnectionError(f"it ended after {file.tell():,} of {length:,} bytes")


def _extract(package: Path, folder: Path, name: str) -> None:
    """Write the two files of a package into a folder; raises SourceError where it is another package."""
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").hexdigest()
    except OSError as error:
        raise SourceError(
            f"{name} cannot be read: {error.strerror}", "name a file or folder that is there with --runtime"
        ) from error
    if digest != SHA512:
        raise SourceError(
            f"{name} is not {PACKAGE} {VERSION} as it was published: its sha512 is {digest[:12]}…, not {SHA512[:12]}…",
            f"`npm pack {PACKAGE}@{VERSION}` fetches it; name the file with --runtime",
        )
    with tarfile.open(package) as archive:
        for file_name in SHA256:
            content = archive.extractfile(f"package/dist/{file_name}")
            assert content is not None  # the hash of the package is known
            with content, (folder / file_name).open("wb") as file:
                shutil.copyfileobj(content, file, BLOCK)
