"""ONNX Runtime Web: downloaded once, compared with its hash, or read from where a person has it."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from darkroom.core.errors import EX_TEMPFAIL, MISTAKE, SourceError
from darkroom.inference import web_runtime

CONTENTS = {web_runtime.SCRIPT: b"export {}", web_runtime.WASM: b"\0asm"}


def package(contents: dict[str, bytes]) -> bytes:
    """Return a package of the npm registry with these files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, value in contents.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(value)
            archive.addfile(entry, io.BytesIO(value))
    return content.getvalue()


class Registry(http.server.BaseHTTPRequestHandler):
    """Answers the first requests with the statuses of `failures`, then with the package."""

    content = package(CONTENTS)
    failures: ClassVar[list[int]] = []
    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        status = self.failures.pop(0) if self.failures else 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content if status == 200 else b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def registry(monkeypatch, tmp_path) -> Iterator[type[Registry]]:
    """Serve a small package under the real one's name, with an empty cache."""
    monkeypatch.setattr(web_runtime, "SHA512", hashlib.sha512(Registry.content).hexdigest())
    monkeypatch.setattr(web_runtime, "SHA256", {name: hashlib.sha256(value).hexdigest() for name, value in CONTENTS.items()})
    monkeypatch.setattr(web_runtime.time, "sleep", lambda _: None)
    monkeypatch.setattr(Registry, "failures", [])
    monkeypatch.setattr(Registry, "paths", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        yield Registry
        server.shutdown()


def test_it_is_downloaded_once(registry):
    """A failure of the server is tried again; what has arrived whole is kept for all projects, without the package."""
    registry.failures += [503]
    assert web_runtime.load() == web_runtime.Runtime("export {}", b"\0asm")
    assert registry.paths == [f"/onnxruntime-web/-/onnxruntime-web-{web_runtime.VERSION}.tgz"] * 2
    assert web_runtime.load().wasm == b"\0asm"
    assert len(registry.paths) == 2
    assert {path.name for path in web_runtime.cache_folder().iterdir()} == set(CONTENTS)
    (web_runtime.cache_folder() / web_runtime.WASM).write_bytes(b"damaged")
    assert web_runtime.load().wasm == b"\0asm"


def test_a_server_that_fails_is_named_with_what_works_offline(registry):
    """What may work later has exit code 75, a package that is not there 2; both name the offline way, and nothing is left."""
    for failures, code in (([500] * 3, EX_TEMPFAIL), ([404], MISTAKE)):
        registry.failures[:] = failures
        with pytest.raises(SourceError, match=r"--runtime onnxruntime-web-.*\.tgz") as caught:
            web_runtime.load()
        assert caught.value.code == code
        assert not web_runtime.cache_folder().exists()


def test_another_package_is_refused(registry, monkeypatch, tmp_path):
    """A package or a folder whose hash is another one is not used, wherever it comes from."""
    other = package(CONTENTS | {web_runtime.WASM: b"\0asm evil"})
    monkeypatch.setattr(Registry, "content", other)
    (tmp_path / "other.tgz").write_bytes(other)
    for source in (None, tmp_path / "other.tgz"):
        with pytest.raises(SourceError, match="as it was published"):
            web_runtime.load(source)
    folder = tmp_path / "node_modules"
    folder.mkdir()
    (folder / web_runtime.WASM).write_bytes(b"\0asm evil")
    with pytest.raises(SourceError, match=f"npm install onnxruntime-web@{web_runtime.VERSION}"):
        web_runtime.load(folder)
    assert not web_runtime.cache_folder().exists()


def test_a_persons_own_package_needs_no_network(registry, tmp_path):
    """A .tgz, and the folder that npm installs, are read where they are."""
    (tmp_path / "own.tgz").write_bytes(registry.content)
    assert web_runtime.load(tmp_path / "own.tgz").script == "export {}"
    installed = tmp_path / "onnxruntime-web"
    (installed / "dist").mkdir(parents=True)
    for name, value in CONTENTS.items():
        (installed / "dist" / name).write_bytes(value)
    assert web_runtime.load(installed).wasm == b"\0asm"
    with pytest.raises(SourceError, match="cannot be read"):
        web_runtime.load(tmp_path / "none.tgz")
    assert registry.paths == []
