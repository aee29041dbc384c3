"""The requests that `serving.py` sends: good images in every format, and what no client should send."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

JSON = {"Content-Type": "application/json"}
BATCHES = (1, 1, 1, 2, 4, 8)  # good images of a request
HUGE = 96 * 2**20  # characters of base64: above the limit of an image file
DEPTH = 100_000
MLFLOW_FAILS = 500  # before the request reaches the model: without a content type, and where JSON is nested too deep to be parsed


@dataclass(frozen=True)
class Sample:
    """An image file, and what `darkroom predict` says: probabilities by class, or None where it cannot be read."""

    content: bytes
    probabilities: dict[str, float] | None

    @property
    def text(self) -> str:
        return base64.b64encode(self.content).decode()


@dataclass(frozen=True)
class Request:
    """A request, the statuses that answer it, and for a 200 the sample of each row; None is no image."""

    kind: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    statuses: tuple[int, ...] = (200,)
    rows: tuple[Sample | None, ...] | None = None
    is_cut: bool = False  # the connection is closed in the middle of the body


def write_files(photos: Path, target: Path, count: int) -> list[Path]:
    """Write some photographs in several formats, and damaged copies of them; return the paths."""
    target.mkdir(parents=True)
    formats: dict[str, dict[str, Any]] = {
        "jpg": {"quality": 85},
        "png": {},
        "webp": {"quality": 80},
        "bmp": {},
        "gif": {},
        "tiff": {},
    }
    draw = random.Random(0)
    for number, photo in enumerate(sorted(photos.rglob("*.jpg"))[:count]):
        picture = Image.open(photo).convert("RGB")
        picture.thumbnail((400, 400))
        (target / f"{number}-original.jpg").write_bytes(photo.read_bytes())
        for suffix, options in formats.items():
            picture.save(target / f"{number}.{suffix}", **options)
        picture.convert("RGBA").save(target / f"{number}-rgba.png")
        picture.convert("L").save(target / f"{number}-grey.png")
        picture.convert("CMYK").save(target / f"{number}-cmyk.jpg")
        content = (target / f"{number}.jpg").read_bytes()
        (target / f"{number}-truncated.jpg").write_bytes(content[: draw.randrange(30, len(content))])
        flipped = bytearray(content)
        for _ in range(20):
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        (target / f"{number}-flipped.jpg").write_bytes(flipped)
    return sorted(target.iterdir())


def bomb() -> bytes:
    """Return a PNG of 30,000 × 30,000 pixels in a few kilobytes, of which only the head is meant to be read."""
    buffer = BytesIO()
    Image.new("1", (1, 1)).save(buffer, "png")
    content = buffer.getvalue()
    head = content[12:16] + (30_000).to_bytes(4) * 2 + content[24:29]
    return content[:12] + head + zlib.crc32(head).to_bytes(4) + content[33:]


def encode(images: list[Any], draw: random.Random) -> bytes:
    """Return the body of a request in one of MLflow's formats."""
    content = draw.choice([
        {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}},
        {"dataframe_records": [{"image": image} for image in images]},
        {"inputs": {"image": images}},
    ])  # fmt: skip
    return json.dumps(content).encode()


class Requests:
    """Draws requests: half of them good, the others as bad as a client, a proxy or a stranger can make them."""

    def __init__(self, samples: list[Sample], seed: int) -> None:
        self.draw = random.Random(seed)
        self.good = [sample for sample in samples if sample.probabilities is not None]
        self.damaged = [sample for sample in samples if sample.probabilities is None]
        self.kinds: list[Callable[[], Request]] = [
            self._damaged, self._damaged, self._mixed, self._mixed, self._mixed, self._noise, self._no_json, self._wrong_columns,
            self._wrong_values, self._nothing, self._too_many, self._cut, self._wrong_type, self._no_type, self._nested, self._nan,
            self._nul, self._bomb, self._no_text,
        ]  # fmt: skip

    def next(self) -> Request:
        if self.draw.random() < 0.5:
            return self._good()
        if self.draw.random() < 0.004:  # a second and 300 MB each
            return self._huge()
        return self.draw.choice(self.kinds)()

    def _samples(self) -> tuple[Sample, ...]:
        return tuple(self.draw.choice(self.good) for _ in range(self.draw.choice(BATCHES)))

    def _rows(self, kind: str, rows: tuple[tuple[Any, Sample | None], ...]) -> Request:
        return Request(kind, encode([image for image, _ in rows], self.draw), rows=tuple(sample for _, sample in rows))

    def _good(self) -> Request:
        samples = self._samples()
        prefix = self.draw.choice(["", "", "data:image/png;base64,"])
        return self._rows("good images", tuple((prefix + sample.text, sample) for sample in samples))

    def _damaged(self) -> Request:
        sample = self.draw.choice(self.damaged)
        return self._rows("damaged image", ((sample.text, sample),))

    def _mixed(self) -> Request:
        """Return good images among rows of every bad kind."""
        bad = [None, "", "no base64!", self._random_text(), 3, True, {"a": 1}, [], self.draw.choice(self.damaged).text, "\u0000"]
        rows = [(sample.text, sample) for sample in self._samples()]
        rows += [(value, None) for value in self.draw.sample(bad, 3) if value != []]
        self.draw.shuffle(rows)
        images = [image for image, _ in rows]
        body = json.dumps({"dataframe_records": [{"image": image} for image in images]}).encode()
        return Request("good and bad rows", body, rows=tuple(sample for _, sample in rows))

    def _noise(self) -> Request:
        return self._rows("random bytes as an image", ((self._random_text(), None),))

    def _no_json(self) -> Request:
        text = encode([self.draw.choice(self.good).text], self.draw)
        broken = [
            text[: self.draw.randrange(1, len(text))],
            b"{",
            b"null",
            b"[]",
            b'"text"',
            b"3",
            b"{}",
            b"{'image': 1}",
            b"[" * 50,
        ]
        return Request("wrong JSON", self.draw.choice(broken), statuses=(400,))

    def _wrong_columns(self) -> Request:
        text = self.draw.choice(self.good).text
        content = self.draw.choice([{"inputs": {"picture": [text]}}, {"dataframe_records": [{"img": text}]}, {"rows": [text]}])
        return Request("wrong columns", json.dumps(content).encode(), statuses=(400,))

    def _wrong_values(self) -> Request:
        content = self.draw.choice([
            {"dataframe_split": {"columns": ["image"], "data": [1, [2, 3]]}}, {"dataframe_records": 3}, {"dataframe_split": "a"},
            {"dataframe_records": {"image": {"a": [1]}}},
            {"dataframe_split": {"columns": ["image", "image"], "data": [["a", "b"]]}}, {"inputs": {"image": {"b": [[[1]]]}}},
            {"inputs": {"image": [[["a"], ["b"]], 3]}}, {"inputs": 3}, {"instances": {}},
            {"inputs": [1], "instances": [2]},
        ])  # fmt: skip
        return Request("wrong values", json.dumps(content).encode(), statuses=(200, 400))

    def _nothing(self) -> Request:
        body = self.draw.choice([b"", b" ", b'{"dataframe_records": []}', b'{"inputs": {"image": []}}'])
        return Request("empty", body, statuses=(200, 400))

    def _too_many(self) -> Request:
        return Request("257 images", json.dumps({"inputs": {"image": [self.damaged[0].text] * 257}}).encode(), statuses=(400,))

    def _cut(self) -> Request:
        return Request("cut connection", encode([sample.text for sample in self._samples()], self.draw), statuses=(), is_cut=True)

    def _wrong_type(self) -> Request:
        types = ["text/plain", "image/jpeg", "application/json; charset=latin-1", "text/csv", "application/x-parquet", ";", "a;b=c"]
        content = self.draw.choice([self.draw.choice(self.good).content, b"image\nabc\n", b"\xff\xfe\x00"])
        return Request("wrong content type", content, {"Content-Type": self.draw.choice(types)}, (200, 400, 415))

    def _no_type(self) -> Request:
        return Request("no content type", encode([self.draw.choice(self.good).text], self.draw), {}, (MLFLOW_FAILS,))

    def _nested(self) -> Request:
        depth = self.draw.choice([50, 900, DEPTH])
        opening, closing = self.draw.choice([("[", "]"), ('{"a":', "}")])
        body = '{"inputs": {"image": [' + opening * depth + "1" + closing * depth + "]}}"
        return Request("deep nests", body.encode(), statuses=(200, 400, MLFLOW_FAILS))

    def _nan(self) -> Request:
        body = self.draw.choice([b'{"inputs": {"image": [NaN]}}', b'{"dataframe_records": [{"image": NaN}, {"image": Infinity}]}'])
        return Request("NaN", body, statuses=(200, 400))

    def _nul(self) -> Request:
        body = self.draw.choice([b'{"inputs": {"image": ["\\u0000"]}}', b'{"inputs"\x00: 1}', b"\x00" * 20])
        return Request("NUL", body, statuses=(200, 400))

    def _bomb(self) -> Request:
        return self._rows("30,000 × 30,000 pixels", ((base64.b64encode(bomb()).decode(), None),))

    def _no_text(self) -> Request:
        return Request("no UTF-8", b'{"inputs": {"image": ["\xff\xfe"]}}', statuses=(400,))

    def _huge(self) -> Request:
        return Request("96 MiB of base64", b'{"inputs": {"image": ["' + b"A" * HUGE + b'"]}}', rows=(None,))

    def _random_text(self) -> str:
        return base64.b64encode(self.draw.randbytes(self.draw.randrange(1, 5_000))).decode()
