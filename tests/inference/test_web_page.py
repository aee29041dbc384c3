"""The page of `darkroom export --format html` in Chromium: from the disk, without a network, with predict's probabilities."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom.cli import main
from darkroom.core.errors import SourceError
from darkroom.data.decoding import decode
from darkroom.inference import export, web_page, web_runtime
from darkroom.inference.classifier import Classifier
from darkroom.inference.web_runtime import Runtime
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.factory import build_features
from darkroom.models.prediction_sets import ConformalScores
from darkroom.models.specs import CompactSpec
from tests.browser import COLOURS, SHARED, chromium, faults, scrolls_sideways  # noqa: F401
from tests.models.known_images import fit_distance

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("chromium")]

SIZE, CLASSES = 24, ("cat", "d</script><b>ög</b>")
SQUARES = ((32, "crop"), (160, "pad"), (64, "stretch"), (400, "crop"))


@contextmanager
def opened(file: Path, ready: str, dark: bool = False, width: int = 1100) -> Iterator[Any]:
    """Yield the page once its status is `ready`; on exit assert that nothing failed and nothing but the file was loaded."""
    page = SHARED[0].new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    until(page, f"document.getElementById('status').innerText.startsWith('{ready}')")
    yield page
    page.close()
    assert messages == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [file.as_uri()]


def until(page: Any, condition: str) -> None:
    """Wait until an expression of the page is true; `wait_for_function` would need eval, which the page's policy forbids."""
    for _ in range(6_000):
        if page.evaluate(condition):
            return
        time.sleep(0.01)
    raise TimeoutError(condition)


def files() -> dict[str, bytes]:
    """Return pictures as files of many kinds: sampling, scans, scales, orientation, transparency, depth."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.linspace(0, 9, 601))[:, None, None] * np.cos(np.linspace(0, 7, 543))[None, :, None] * [90, 120, -100] + 128
    large = Image.fromarray((waves + rng.integers(-9, 10, waves.shape)).clip(0, 255).astype(np.uint8))
    small, tall, turned = large.resize((57, 43)), large.resize((15, 90)), Image.Exif()
    turned[0x112] = 6
    clear = small.copy()
    clear.putalpha(Image.fromarray(rng.integers(0, 256, (43, 57), np.uint8)))
    jpegs = {
        f"{name}-{sampling}{'-progressive' if scans else ''}": (picture, "JPEG", {"subsampling": sampling, "progressive": scans})
        for name, picture in (("large", large), ("small", small)) for sampling in (0, 1, 2) for scans in (False, True)
    }  # fmt: skip
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = jpegs | {
        "grey": (large.convert("L"), "JPEG", {}), "rgb": (small, "JPEG", {"keep_rgb": True}),
        "quarter": (large.resize((1031, 1100)), "JPEG", {}), "eighth": (large.resize((2101, 2050)), "JPEG", {"quality": 90}),
        "tall": (tall, "JPEG", {"quality": 95}),
        "restarts": (large, "JPEG", {"restart_marker_blocks": 5}), "turned": (large, "JPEG", {"exif": turned}),
        "png": (large, "PNG", {}), "turned png": (small, "PNG", {"exif": turned}), "clear": (clear, "PNG", {}),
        "grey clear": (clear.convert("LA"), "PNG", {}), "palette": (small.quantize(9), "PNG", {"bits": 4, "transparency": 3}),
        "bits": (small.convert("1"), "PNG", {}),
    }  # fmt: skip
    contents = {}
    for name, (picture, kind, options) in kinds.items():
        target = io.BytesIO()
        picture.save(target, kind, **options)
        contents[name] = target.getvalue()
    return contents


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Return a checkpoint of an untrained network with prediction sets and abstention."""
    folder = tmp_path_factory.mktemp("place") / "some"
    folder.mkdir()
    architecture, preprocessing = CompactSpec(SIZE, 4), Preprocessing(SIZE, "pad", (1, 2, 3), (0.5,) * 3, (0.5,) * 3)
    network = Network(build_features(architecture), preprocessing, 2)
    network.head.weight.data *= 300
    images = export.noise_images(SIZE)
    empty = Checkpoint("finetune/some", architecture, preprocessing, CLASSES, {}, {})
    probabilities = Classifier(network, empty).probabilities(images)
    distances = fit_distance(network, images, images)
    scores = ConformalScores.of(np.repeat(probabilities, 3, 0), np.arange(24) % 2)
    checkpoint = Checkpoint("finetune/some", architecture, preprocessing, CLASSES, {}, {}, 0.7, scores, distances)
    save(folder, checkpoint, network.state_dict(), 1, [{"epoch": 1.0}])
    return folder


def test_pixels_are_those_of_predict(model, tmp_path):
    """The page's own decoders and resizing give the pixels of `predict`, to the bit: JPEG at all its scales, PNG, turned,
    transparent, shrunk and enlarged, however the square is made."""
    program = tmp_path / "model.onnx"
    program.write_bytes(b"none")
    page_file = tmp_path / "model.html"
    web_page.write(program, export.describe(Classifier.load(model)), {}, Runtime("export {}", b"none"), page_file)
    with opened(page_file, "The model cannot run here") as page:
        for number, (name, content) in enumerate(files().items()):
            for size, resize in SQUARES[number % 2 :: 2]:
                expected = decode(content, size, resize, (9, 200, 77)).pixels
                encoded, is_own = page.evaluate(
                    """async ([content, settings]) => {
                        const picture = await prepare(new Blob([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))]), settings);
                        return [btoa(Array.from(picture.data, (value) => String.fromCharCode(value)).join("")), picture.isOwn];
                    }""",
                    [base64.b64encode(content).decode(), {"size": size, "resize": resize, "background": [9, 200, 77]}],
                )
                pixels = np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(size, size, 3)
                assert is_own, name
                assert np.array_equal(pixels, expected), (name, size, resize, np.abs(pixels.astype(int) - expected).max())


def test_it_predicts_as_predict_does(model, tmp_path):
    """Probabilities within 1e-3 of predict's, unknown images, prediction sets and heat maps, from the disk, with no request;
    names are text; it is used by the keyboard, fits a phone, and breaks no rule of accessibility in light and dark."""
    try:
        web_runtime.load()
    except SourceError as error:
        pytest.skip(f"ONNX Runtime Web cannot be had here: {error}")
    assert main(["export", "--model", str(model), "--format", "html", "--out", str(tmp_path / "out")]) == 0
    classifier, contents = Classifier.load(model), files()
    noise = export.noise_images(SIZE)
    for number, pixels in enumerate(noise):
        target = io.BytesIO()
        Image.fromarray(pixels).save(target, "PNG")
        contents[f"noise {number}"] = target.getvalue()
    expected = classifier.predict_files(contents.values())
    handed = [{"name": name, "mimeType": "image/jpeg", "buffer": content} for name, content in contents.items()]
    handed.append({"name": "text.jpg", "mimeType": "image/jpeg", "buffer": b"no image"})
    with opened(tmp_path / "out" / "model.html", "Ready") as page:
        page.set_input_files("#files", handed)
        until(page, "document.getElementById('status').innerText.includes('classified')")
        assert page.inner_text("#status").startswith(f"{len(contents)} of {len(contents) + 1} images classified. text.jpg:")
        results = page.evaluate("[...document.querySelectorAll('article')].map((card) => JSON.parse(card.dataset.result))")[::-1]
        assert [result["file"] for result in results] == list(contents)
        for result, prediction in zip(results, expected, strict=True):
            assert prediction.probabilities is not None
            assert result["probabilities"] == pytest.approx(list(prediction.probabilities), abs=1e-3)
            assert result["unknown"] == classifier.threshold.is_unknown(prediction.distance)
        assert {result["unknown"] for result in results} == {True, False}
        assert len({result["label"] for result in results}) == 2
        cards = page.locator("article")  # the last image first
        for number, (result, prediction) in enumerate(zip(reversed(results), reversed(expected), strict=True)):
            named = classifier.prediction_sets(prediction.probabilities[None], 0.9)[0]
            promised = f"for 90% of images, among: {', '.join(named) or 'none'}"
            assert (promised in cards.nth(number).inner_text()) == (not result["unknown"])
        card = cards.first
        card.get_by_role("button", name="Heat map").focus()
        page.keyboard.press("Enter")
        until(page, "document.querySelector('article button').innerText == 'Without heat map'")
        assert faults(page) == []
        page.click("#clear")
        assert page.locator("article").count() == 0
    with opened(tmp_path / "out" / "model.html", "Ready", dark=True, width=390) as page:
        page.set_input_files("#files", handed[:1])
        until(page, "document.getElementById('status').innerText.includes('classified')")
        assert faults(page, COLOURS) == []
        assert not scrolls_sideways(page)
