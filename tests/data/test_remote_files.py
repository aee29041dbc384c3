"""A source at an address: it is copied whole, once, and resumed; what has changed there is noticed, and no secret is shown."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from darkroom import cli
from darkroom.config import params
from darkroom.core.errors import ParamsError, SourceError
from darkroom.data import remote_files
from darkroom.preflight import remote_source
from tests.conftest import ROOT
from tests.data.test_webdataset import samples, write


@pytest.fixture
def memory(folder):
    """Return a file system in memory that has the photographs below /photos."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    system.put(str(folder), "/photos", recursive=True)
    yield system
    system.store.clear()


class Server(ThreadingHTTPServer):
    """Serves one file, `content`, by ranges unless `ranges` is false; `broken`: bytes after which a request is cut off."""

    content = b""
    ranges = True
    broken = 0
    status = 200
    served = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self):
        self._head(self.server.status, len(self.server.content))

    def do_GET(self):
        content, status = self.server.content, self.server.status
        byte_range = self.headers.get("Range", "")
        if byte_range and self.server.ranges:
            first, _, last = byte_range.removeprefix("bytes=").partition("-")
            content, status = content[int(first) : int(last or len(content)) + 1], 206
        self._head(status, len(content))
        if self.server.broken:
            content = content[: self.server.broken]
        self.server.served += len(content)
        self.wfile.write(content)

    def _head(self, status, length):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", hashlib.md5(self.server.content).hexdigest())
        self.send_header("Accept-Ranges", "bytes" if self.server.ranges else "none")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """Return a server of a tar of 60 samples at /set.tar, and its address."""
    server = Server(("127.0.0.1", 0), Handler)
    server.content = write(tmp_path / "served" / "set.tar", samples(60)).read_bytes()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, f"http://127.0.0.1:{server.server_port}/set.tar"
    server.shutdown()
    server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy(address: str, tmp_path: Path, version: str = "") -> dict[str, bytes]:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    remote_files.copy(out, address, version, tmp_path / "scratch")
    return files_of(out)


def test_a_copy_is_the_folder(memory, folder, tmp_path):
    """All files of a folder are copied, with their names, and nothing else is left."""
    assert copy("memory://photos", tmp_path) == files_of(folder)
    assert not (tmp_path / "scratch").exists()


def test_the_version_is_that_of_the_files(memory):
    """The same files have the same version; another content, name or number of files has another one."""
    first = remote_files.list_files("memory://photos").version
    assert remote_files.list_files("memory://photos").version == first
    memory.pipe("/photos/cat/more.png", b"x")
    second = remote_files.list_files("memory://photos").version
    memory.pipe("/photos/cat/more.png", b"xy")
    assert len({first, second, remote_files.list_files("memory://photos").version}) == 3


def test_another_version_than_the_named_one_is_refused(memory, tmp_path):
    """A source that has changed since its version was written is no input: the message names both ways to go on."""
    version = remote_files.list_files("memory://photos").version
    memory.rm("/photos/cat/0.png")
    with pytest.raises(SourceError, match="has changed") as caught:
        copy("memory://photos", tmp_path, version)
    assert "darkroom recipe --latest" in caught.value.remedy
    assert "dvc pull" in caught.value.remedy


@pytest.mark.parametrize("ranges", [True, False])
def test_a_copy_that_was_cut_off_goes_on(server, tmp_path, monkeypatch, ranges):
    """What arrived before an error is kept and not asked for again, where the server has ranges; the copy is the file."""
    served, address = server
    monkeypatch.setattr(remote_files, "BLOCK", 20_000)
    served.ranges = ranges
    size = len(served.content)
    read, blocks = Handler.do_GET, []

    def breaking(self):
        blocks.append(1)
        self.server.broken = 1 if len(blocks) > 3 or not ranges else 0
        read(self)

    monkeypatch.setattr(Handler, "do_GET", breaking)
    with pytest.raises(SourceError) as caught:
        copy(address, tmp_path)
    assert caught.value.retryable
    served.broken, served.served = 0, 0
    monkeypatch.setattr(Handler, "do_GET", read)
    assert copy(address, tmp_path) == {"set.tar": served.content}
    assert served.served <= (size - 20_000 if ranges else 2 * size)


def test_a_change_during_the_copy_is_noticed(memory, tmp_path, monkeypatch):
    """Files that are replaced while they are copied are not taken for the version that was listed."""
    original = remote_files._copy_file

    def changing(system, file, *rest):
        original(system, file, *rest)
        memory.pipe("/photos/dog/late.png", b"x")

    monkeypatch.setattr(remote_files, "_copy_file", changing)
    with pytest.raises(SourceError, match="changed while it was copied"):
        copy("memory://photos", tmp_path)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("memory://nothing", "there is nothing at memory://nothing"),
        ("nosuch://bucket/x", 'unknown kind "nosuch"'),
        ("memory://photos/cat/0.png", "no source of images"),
        ("http://127.0.0.1:9/x.tar", "cannot be read"),
    ],
)
def test_an_address_that_is_none_has_a_remedy(memory, address, words):
    """What is not there, of an unknown kind, no source or not answering is an error of its own."""
    with pytest.raises((SourceError, ParamsError), match=words):
        remote_files.list_files(address)


def test_a_name_that_leads_out_of_an_address_is_refused(memory, tmp_path, monkeypatch):
    """A file whose name has `..` ends the copy before anything is written."""
    hostile = {"/photos/cat/../../../evil.png": {"type": "file", "size": 1}}
    monkeypatch.setattr(type(memory), "find", lambda *arguments, **options: hostile)
    with pytest.raises(SourceError, match="leads out"):
        copy("memory://photos", tmp_path)
    assert not files_of(tmp_path / "out")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    """An address whose library is not installed says what to install."""

    def missing(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(remote_files.fsspec_core, "url_to_fs", missing)
    with pytest.raises(ParamsError) as caught:
        remote_files.list_files("s3://bucket/photos")
    assert "s3fs" in caught.value.remedy
    assert "extra `s3`" in caught.value.remedy


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_of_the_server_is_explained(server, status):
    """403 is of credentials, 404 of the address, and 503 may work later; a query, which may sign, is not shown."""
    served, address = server
    served.status = status
    with pytest.raises(SourceError) as caught:
        remote_files.list_files(f"{address}?X-Amz-Signature=abc")
    assert caught.value.retryable == (status == 503)
    assert "abc" not in str(caught.value)
    assert ("credentials" in caught.value.remedy) == (status == 403)


@pytest.mark.parametrize("address", ["https://me:pw@host/x.tar", "https://host/x.tar?X-Amz-Signature=pw", "https://h/x.tar?sig=pw"])
def test_a_secret_in_an_address_is_refused_unshown(address):
    """params.yaml is committed: a password or a signature is refused before anybody is asked, and not repeated."""
    with pytest.raises(ParamsError) as caught:
        remote_source.locate(address)
    assert "pw" not in str(caught.value).replace("password", "")
    content = params.read_yaml(ROOT / "params.yaml")
    content["fetch"] |= {"datasets": ["url"], "url": address}
    with pytest.raises(ParamsError, match="which git would keep"):
        params.parse(content, "params.yaml")


def test_an_address_by_hand_names_the_command(values):
    """`ingest.source` cannot be an address itself; the message says what writes it."""
    values["ingest"]["source"] = "s3://bucket/photos"
    with pytest.raises(ParamsError, match="darkroom recipe --data ADDRESS"):
        params.parse(values, "params.yaml")


def test_recipe_writes_address_and_version_and_fetch_copies(memory, folder, tmp_path, monkeypatch, capsys):
    """`recipe --data ADDRESS` writes what fetch needs, and says what will be copied; afterwards `check` says what has changed,
    and `--latest` takes it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.setattr("darkroom.preflight.project.check", lambda settings, runs: None)
    assert cli.main(["recipe", "--data", "memory://photos", "--set", "backbones=[]", "weights.source=random"]) == 0
    assert "to be copied from memory://photos, 60 files" in capsys.readouterr().out
    settings = params.read()
    assert settings.fetch.datasets == ["url"]
    assert settings.ingest.source == "data/raw/url"
    assert settings.fetch.version == remote_files.list_files("memory://photos").version
    assert cli.main(["fetch", "url", "--out", "data/raw/url"]) == 0
    assert files_of(Path("data/raw/url")) == files_of(folder)
    capsys.readouterr()
    assert cli.main(["check"]) == 0
    assert "copied from memory://photos\n" in capsys.readouterr().out
    memory.pipe("/photos/cat/more.png", b"x")
    assert cli.main(["check"]) == 0
    assert "memory://photos has changed since it was copied" in capsys.readouterr().out
    before = settings.fetch.version
    assert cli.main(["recipe", "--latest"]) == 0
    assert params.read().fetch.version == remote_files.list_files("memory://photos").version != before
    capsys.readouterr()
    assert cli.main(["recipe", "--latest", "--data", "memory://photos"]) == 0
    assert "params.yaml: unchanged" in capsys.readouterr().out
    assert cli.main(["recipe", "--set", "fetch.datasets=[digits]", "ingest.source=data/raw/digits"]) == 0
    assert cli.main(["recipe", "--latest"]) == 2
    assert "--data ADDRESS" in capsys.readouterr().err


def test_the_copy_of_a_file_is_named_as_the_source(server, tmp_path):
    """An archive is the source itself, within the folder that fetch writes."""
    assert remote_source.locate(server[1])["ingest.source"] == "data/raw/url/set.tar"
