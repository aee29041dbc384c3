"""Sources at `hf://` and `gs://`, on servers of this machine that answer as the Hub and Google's storage do."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import fsspec
import pytest

from darkroom.core.errors import SourceError
from darkroom.data import remote_files
from tests.postgresql import free_port

COMMIT = "0" * 40
REPOSITORY = "/api/datasets/own/photos"


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub's API that its file system asks: a data set, its trees and its files."""

    files: ClassVar[dict[str, bytes]] = {}
    status = 404

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"{REPOSITORY}/tree/main"):
            folder = path.removeprefix(f"{REPOSITORY}/tree/main").strip("/")
            self.send(json.dumps(self.tree(folder, "recursive=true" in self.path)).encode())
        elif path == REPOSITORY:
            self.send(json.dumps({"id": "own/photos", "sha": COMMIT, "tags": [], "siblings": []}).encode())
        elif path.startswith("/datasets/own/photos/resolve/main/"):
            self.send(self.files[path.removeprefix("/datasets/own/photos/resolve/main/")])
        else:
            self.send(b'{"error": "no"}', self.status)

    def send(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": len(content), "X-Repo-Commit": COMMIT}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def tree(self, folder: str, is_recursive: bool) -> list[dict[str, object]]:
        entries: dict[str, dict[str, object]] = {}
        for path, content in self.files.items():
            if folder and not path.startswith(f"{folder}/"):
                continue
            parts = path.removeprefix(folder).strip("/").split("/")
            for depth in range(1, len(parts) + 1 if is_recursive else 2):
                name = "/".join(filter(None, [folder, *parts[:depth]]))
                entry = {"type": "directory", "oid": COMMIT, "size": 0, "path": name}
                if name == path:
                    entry |= {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
                entries[name] = entry
        return list(entries.values())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """Serve a data set of two files."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(Hub, "files", {"data/train-0.parquet": b"p" * 100, "photos/cat/1 ä.png": b"x" * 50})
    monkeypatch.setattr(Hub, "status", 404)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": f"http://127.0.0.1:{server.server_port}", "token": False})
    yield Hub
    server.shutdown()
    server.server_close()


def check_folder(address: str, tmp_path: Path, change: object) -> None:
    """A folder is listed with identities, copied, and has another version after a change that keeps all sizes."""
    listing = remote_files.list_files(address)
    assert [(file.name, file.size) for file in listing.files] == [("cat/1 ä.png", 50)]
    assert all(file.identity for file in listing.files)
    (tmp_path / "out").mkdir()
    assert remote_files.copy(tmp_path / "out", address, listing.version, tmp_path / "scratch") == 1
    assert (tmp_path / "out/cat/1 ä.png").read_bytes() == b"x" * 50
    change()  # type: ignore[operator]
    assert remote_files.list_files(address).version != listing.version


def test_a_data_set_of_the_hub(hub, tmp_path):
    """A folder or a file of a data set is a source, by the file system of the Hub's library and the Hub's API."""
    check_folder("hf://datasets/own/photos/photos", tmp_path, lambda: hub.files.update({"photos/cat/1 ä.png": b"y" * 50}))
    lone = remote_files.list_files("hf://datasets/own/photos/data/train-0.parquet")
    assert lone.lone
    assert [file.name for file in lone.files] == ["train-0.parquet"]


@pytest.mark.parametrize(
    ("status", "words", "retryable"),
    [(404, "there is nothing", False), (403, "HF_TOKEN", False), (401, "HF_TOKEN", False), (503, "check the network", True)],
)
def test_what_the_hub_refuses(hub, monkeypatch, status, words, retryable):
    """A data set that is missing or private, and a Hub that does not answer, are told apart."""
    monkeypatch.setattr(hub, "status", status)
    with pytest.raises(SourceError) as caught:
        remote_files.list_files("hf://datasets/own/nothing")
    assert words in str(caught.value)
    assert caught.value.retryable == retryable


def test_a_bucket_of_google_storage(tmp_path, monkeypatch):
    """A folder of a bucket is a source, by gcsfs and the API of Google Storage."""
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # which asks by gRPC, and the emulator has HTTP alone
    pytest.importorskip("gcsfs", reason="gcsfs is not installed")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed")
    port = free_port()
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="photos")
    server.start()
    try:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        for protocol in ("gs", "gcs"):
            monkeypatch.setitem(fsspec.config.conf, protocol, {"token": "anon"})
        system = fsspec.filesystem("gs", skip_instance_cache=True)
        system.pipe("photos/set/cat/1 ä.png", b"x" * 50)
        check_folder("gs://photos/set", tmp_path, lambda: system.pipe("photos/set/cat/1 ä.png", b"y" * 50))
        with pytest.raises(SourceError, match="there is nothing"):
            remote_files.list_files("gs://photos/none")
    finally:
        server.stop()
