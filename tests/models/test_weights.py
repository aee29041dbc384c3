"""Where weights come from, and what happens when they do not fit."""

from __future__ import annotations

import hashlib
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from darkroom.core import checksums
from darkroom.core.errors import WeightsError
from darkroom.data.decoding import decode
from darkroom.models import weight_files, weights
from darkroom.models.backbones.torchvision import TorchvisionBackbone, download
from darkroom.models.base import Normalize
from darkroom.models.specs import BackboneSpec


def network(seed: int = 0) -> TorchvisionBackbone:
    return TorchvisionBackbone(BackboneSpec("squeezenet1_1", 32), seed)


def full_state() -> dict[str, torch.Tensor]:
    return torchvision.models.squeezenet1_1(weights=None).state_dict()


@pytest.mark.parametrize("name", ["squeezenet1_1.safetensors", "squeezenet1_1.pth", "squeezenet1_1-HASH.pth"])
def test_a_file_is_found_and_loaded(tmp_path, name):
    """A torchvision state_dict in either format fills the backbone; its classifier is left aside."""
    state = full_state()
    if name.endswith("pth"):
        torch.save(state, tmp_path / name)
    else:
        save_file({key: value.half() for key, value in state.items()}, tmp_path / name)
    sha256 = checksums.of_file(tmp_path / name)
    (tmp_path / name).rename(tmp_path / name.replace("HASH", sha256[:8]))
    backbone = network(1)
    path = weight_files.find(tmp_path, "squeezenet1_1")
    assert weight_files.checked_sha256(path) == sha256
    unused = weights.fill(backbone, weights.read(path), str(path))
    assert unused == ["classifier.1.bias", "classifier.1.weight"]
    for key, value in backbone.weights().items():
        assert torch.allclose(value, state[key], atol=1e-3)
        assert value.dtype == torch.float32


def test_a_missing_file_lists_what_is_there(tmp_path):
    """Where a backbone has no file, the error lists those that the folder has."""
    (tmp_path / "resnet18.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"resnet18\.pth"):
        weight_files.find(tmp_path, "vgg16")
    with pytest.raises(WeightsError, match="does not exist"):
        weight_files.find(tmp_path / "nowhere", "vgg16")


def test_a_mismatch_lists_both_sides():
    """Missing, extra and misshapen weights are all named with their shapes; nothing is loaded."""
    backbone, state = network(), full_state()
    before = {key: value.clone() for key, value in backbone.weights().items()}
    state["features.0.weight"] = torch.zeros(1, 2, 3)
    state["extra.weight"] = torch.zeros(7)
    del state["features.3.squeeze.bias"]
    with pytest.raises(WeightsError) as error:
        weights.fill(backbone, state, "the file")
    for difference in (
        "features.0.weight: (1, 2, 3) in the file, (64, 3, 3, 3)",
        "extra.weight (7,)",
        "features.3.squeeze.bias (16,)",
    ):
        assert difference in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in backbone.weights().items())


def test_a_damaged_file_is_an_error_with_a_remedy(tmp_path):
    """A file that is no weights is refused by name."""
    for name in ("vgg16.pth", "vgg16.safetensors"):
        (tmp_path / name).write_bytes(b"\x00" * 20)
        with pytest.raises(WeightsError, match=name):
            weights.read(tmp_path / name)


def test_a_file_with_code_in_it_is_refused_without_advice_to_run_it(tmp_path):
    """A pickle of anything but tensors is not loaded, and the message does not tell how to load it all the same."""
    torch.save({"state_dict": Path("x")}, tmp_path / "vgg16.pth")
    with pytest.raises(WeightsError, match="more than tensors") as error:
        weights.read(tmp_path / "vgg16.pth")
    assert "safetensors" in error.value.remedy
    for advice in ("weights_only", "safe_globals", "trust", "torch"):
        assert advice not in str(error.value)


@pytest.mark.parametrize(
    ("name", "sums", "problem", "remedy"),
    [
        ("squeezenet1_1-00000000.pth", "", "in its name", "rename it to squeezenet1_1.pth"),
        ("squeezenet1_1.pth", "0a *squeezenet1_1.pth\n", "SHA256SUMS", "correct"),
        ("squeezenet1_1.pth", "\udcff", "SHA256SUMS cannot be read", "remove it"),
    ],
)
def test_a_file_with_another_digest_than_is_known_is_refused(tmp_path, name, sums, problem, remedy):
    """The sha256 of a weight file is compared with the one in its name and the one in SHA256SUMS beside it."""
    torch.save({"a": torch.ones(2)}, tmp_path / name)
    if sums:
        (tmp_path / "SHA256SUMS").write_bytes(sums.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match=problem) as error:
        weight_files.checked_sha256(tmp_path / name)
    assert remedy in error.value.remedy


def test_a_listed_file_is_accepted(tmp_path):
    """A file whose line in SHA256SUMS is right is accepted, and so is one without a line."""
    for name in ("a.pth", "b.pth"):
        torch.save({name: torch.ones(2)}, tmp_path / name)
    digest = checksums.of_file(tmp_path / "a.pth")
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  a.pth\n\n")
    assert weight_files.checked_sha256(tmp_path / "a.pth") == digest
    weight_files.checked_sha256(tmp_path / "b.pth")


def test_a_damaged_part_of_an_archive_is_refused(tmp_path):
    """A .pth file whose numbers were changed does not have the CRC-32 in its archive, which torch does not look at."""
    file = tmp_path / "net.pth"
    torch.save({"a": torch.full((64,), 1.5)}, file)
    content = file.read_bytes()
    at = content.index(np.full(64, 1.5, np.float32).tobytes())
    file.write_bytes(content[: at + 9] + b"\x7f" + content[at + 10 :])
    assert weights.read(file)["a"][2] != 1.5
    with pytest.raises(WeightsError, match="damaged"):
        weight_files.checked_sha256(file)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    """NaN or infinity among the weights is named with its tensor."""
    save_file({"conv.weight": torch.tensor([1.0, value])}, tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match=r"conv\.weight has NaN or infinity"):
        weights.read(tmp_path / "net.safetensors")


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serve a file of weights on loopback as torchvision's server would, and give torch an empty cache."""
    file = tmp_path / "served.pth"
    torch.save(full_state(), file)
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = content if self.path.startswith("/squeezenet1_1-") else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def point(name: str) -> None:
        chosen = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
        url = f"http://127.0.0.1:{server.server_port}/{name.replace('HASH', digest)}"
        object.__setattr__(chosen.value, "url", url)  # torchvision freezes it

    original = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.value.url
    yield point
    object.__setattr__(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.value, "url", original)
    server.shutdown()


def test_imagenet_weights_are_downloaded_and_checked(server):
    """The weights come from torchvision's address, are checked by the hash in their name, and are cached."""
    server("squeezenet1_1-HASH.pth")
    path, details = download("squeezenet1_1")
    assert path.exists()
    assert details["torchvision"] == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    weights.fill(network(), weights.read(path), str(path))


def test_a_damaged_file_in_torchs_cache_is_not_used(server):
    """A cached file without the hash of its name is refused, and fetched again once it is deleted, as the remedy says."""
    server("squeezenet1_1-HASH.pth")
    path, _ = download("squeezenet1_1")
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"\0" + content[-8:])
    with pytest.raises(WeightsError, match="damaged") as error:
        download("squeezenet1_1")
    assert f"`rm {path}`" in error.value.remedy
    path.unlink()
    assert download("squeezenet1_1")[0].read_bytes() == content


@pytest.mark.parametrize("name", ["squeezenet1_1-00000000.pth", "gone-HASH.pth"])
def test_what_cannot_be_downloaded_says_what_to_place_where(server, name):
    """A wrong hash or an unreachable server names the file and the folder to put it in, and leaves no file
    behind.
    """
    server(name)
    with pytest.raises(WeightsError) as error:
        download("squeezenet1_1")
    assert "place " in error.value.remedy
    assert "checkpoints" in error.value.remedy
    assert "weights.source" in error.value.remedy


@pytest.mark.slow
def test_real_weights_separate_bees_from_ants(shared, tmp_path):
    """MobileNetV2 with the real weights, cut and pooled, separates ants from bees by a nearest class mean."""
    backbone = TorchvisionBackbone(BackboneSpec("mobilenet_v2", 128))
    path = weight_files.find(shared / "weights", "mobilenet_v2")
    weights.fill(backbone, weights.read(path), str(path))
    normalize = Normalize(*weights.normalization("mobilenet_v2", str(path)))
    with tarfile.open(shared / "hymenoptera.tar") as archive:
        members = [m for m in archive.getmembers() if m.isfile() and "/train/" in m.name][::6]
        photos = [(archive.extractfile(m).read(), "bees" in m.name) for m in members]
    pixels = [decode(content, 128, "crop", (0, 0, 0)).pixels for content, _ in photos]
    labels = np.array([label for _, label in photos])
    with torch.inference_mode():
        embeddings = backbone(normalize(torch.from_numpy(np.stack(pixels)))).numpy()
    half = np.arange(len(labels)) % 2 == 0
    means = [embeddings[half & (labels == value)].mean(0) for value in (False, True)]
    distance = [((embeddings - mean) ** 2).sum(1) for mean in means]
    assert ((distance[1] < distance[0]) == labels)[~half].mean() > 0.75
