"""Near duplicates: one picture resized, recompressed, mirrored or slightly cropped.

A perceptual hash proposes pairs, and a comparison of pixels confirms them. The hash is the sign of the 63
lowest coefficients of a thumbnail's discrete cosine transform (pHash, Zauner 2010, Implementation and
Benchmarking of Perceptual Image Hash Functions). Mirroring changes the sign of the odd horizontal frequencies
alone, so the mirrored picture's hash costs one XOR. For crops, each picture is also hashed through WINDOWS of
itself. Locality-sensitive hashing over TABLES of 16 bits (Indyk and Motwani 1998) finds hashes within
DISTANCE without comparing all pairs.

Whether two pictures are near duplicates depends on these two alone, never on the other pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import cv2
import numpy as np

from darkroom.data.quality import THUMBNAIL

ReadThumbnails = Callable[[np.ndarray], np.ndarray]  # numbers (M,) → (M, 64, 64) uint8

DISTANCE = 10  # bits of 63
TABLES, KEY_BITS = 16, 16
PLAIN = 3.0  # standard deviation of grey below which a thumbnail has no hash
# correlations that confirm a pair: of grey values, and of details finer than a blur of 2.5 pixels
GREY, DETAIL = 0.85, 0.7
_ROUGH = 0.8  # correlation at 16 or 32 pixels below which a pair is dropped
_LOW = 8  # frequencies in each direction
_ODD = np.uint64(0xAAAA_AAAA_AAAA_AAAA)  # bits of odd horizontal frequencies
_STEPS = sorted(((x, y) for x in (-0.05, 0.0, 0.05) for y in (-0.05, 0.0, 0.05)), key=lambda step: abs(step[0]) + abs(step[1]))
_BLOCK = 1_000_000  # candidate pairs compared together


def _windows() -> list[tuple[float, float, float, float]]:
    """Return (left, right, top, bottom) in shares of the side: all, nine of 90%, four with one side cut."""
    ninths = [(x, round(x + 0.9, 2), y, round(y + 0.9, 2)) for y in (0.0, 0.05, 0.1) for x in (0.0, 0.05, 0.1)]
    sides = [(0.0, 0.9, 0.0, 1.0), (0.1, 1.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.9), (0.0, 1.0, 0.1, 1.0)]
    return [(0.0, 1.0, 0.0, 1.0), *ninths, *sides]


WINDOWS = _windows()
_RANGES = sorted({ends for left, right, top, bottom in WINDOWS for ends in ((left, right), (top, bottom))})


def hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Return the perceptual hashes (windows, N) uint64 of thumbnails (N, 64, 64) uint8 through WINDOWS."""
    transform = _transform()  # a window is one of few ranges of rows by one of few ranges of columns
    signs = (transform @ thumbnails.astype(np.float32) @ transform.T) > 0
    signs = signs.reshape(len(thumbnails), len(_RANGES), _LOW, len(_RANGES), _LOW).transpose(1, 3, 0, 2, 4)
    hashed = []
    for left, right, top, bottom in WINDOWS:
        bits = signs[_RANGES.index((top, bottom)), _RANGES.index((left, right))].reshape(len(thumbnails), 64)
        hashed.append(np.packbits(bits, axis=1, bitorder="little").view(np.uint64)[:, 0] & ~np.uint64(1))
    return np.stack(hashed)


def is_plain(thumbnails: np.ndarray) -> np.ndarray:
    """Return (N,) bool: thumbnails with too little contrast for a meaningful hash."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    mean = flat.mean(axis=1)
    return np.einsum("nd,nd->n", flat, flat) / flat.shape[1] - mean**2 < PLAIN**2


@cache
def _transform() -> np.ndarray:
    """Return the matrix (ranges · 8, 64) from the rows of a thumbnail to the low frequencies of each range."""
    positions = (np.arange(32) + 0.5) / 32
    cosines = np.stack([np.cos(np.pi * frequency * positions) for frequency in range(_LOW)])
    return np.concatenate([cosines @ _averages(32, *ends) for ends in _RANGES]).astype(np.float32)


def _averages(count: int, start: float, stop: float) -> np.ndarray:
    """Return the matrix (count, 64) that averages the samples of [start, stop) in `count` equal parts."""
    edges = np.linspace(start, stop, count + 1)[:, None] * THUMBNAIL
    samples = np.arange(THUMBNAIL)
    overlap = np.minimum(edges[1:], samples + 1) - np.maximum(edges[:-1], samples)
    weights = np.clip(overlap, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


def find_pairs(
    labels: Sequence[str],
    read: ReadThumbnails,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[tuple[int, int]], list[str]]:
    """Return near duplicates among pictures as sorted pairs (i, j), i < j, enough of them to connect every
    cluster.

    The second result is each picture's hash as 16 hexadecimal digits, empty for a picture with too little
    contrast.

    Two pictures that other pairs connect already are not compared if they have the same label, or if both are
    already in a pair with another label. So every picture that is a near duplicate of one with another label
    is in such a pair. `read` returns the thumbnails (M, 64, 64) uint8 of the pictures with some numbers (M,).
    `on_step` receives the number of finished steps and of all. Time grows with the number of pictures and of
    pairs that look alike.
    """
    clusters = Clusters(len(labels))
    numbers, hashed, tiny = _describe(len(labels), read)
    digits = [""] * len(labels)
    for number, value in zip(numbers.tolist(), hashed[0].tolist(), strict=True):
        digits[number] = f"{value:016x}"
    tables = [_Table(keys) for keys in _keys(hashed[0]).T]
    pairs: set[tuple[int, int]] = set()
    disputed: set[int] = set()
    steps = [(window, mirrored) for window in range(len(WINDOWS)) for mirrored in (False, True)]
    for step, (window, mirrored) in enumerate(steps):
        queries = hashed[window] ^ _ODD if mirrored else hashed[window]
        one, other = _proposals(queries, hashed[0], tables, both=window > 0)
        similar = _similar(numbers, one, other, window, mirrored, tiny, read)
        for i, j in zip(numbers[one[similar]].tolist(), numbers[other[similar]].tolist(), strict=True):
            agreed = labels[i] == labels[j] or (i in disputed and j in disputed)
            if agreed and clusters.root(i) == clusters.root(j):
                continue
            first, second = read(np.array([i, j]))
            second = second[:, ::-1] if mirrored else second
            if confirm(first, second, window) or (window == 0 and confirm(second, first, window)):
                pairs.add((min(i, j), max(i, j)))
                clusters.join(i, j)
                if labels[i] != labels[j]:
                    disputed |= {i, j}
        on_step(step + 1, len(steps))
    return sorted(pairs), digits


class Clusters:
    """A disjoint-set forest over N things (Tarjan 1975)."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def root(self, i: int) -> int:
        """Return the smallest number in the cluster of i."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        one, other = sorted((self.root(i), self.root(j)))
        self.parent[other] = one


def _describe(count: int, read: ReadThumbnails) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return numbers (N,) of pictures that are not plain, hashes (windows, N), tiny versions (N, 256)."""
    numbers, hashed, tiny = [np.empty(0, np.int64)], [np.empty((len(WINDOWS), 0), np.uint64)], [np.empty((0, 256), np.float32)]
    for start in range(0, count, 2048):
        block = np.arange(start, min(start + 2048, count))
        thumbnails = read(block)
        keep = ~is_plain(thumbnails)
        numbers.append(block[keep])
        hashed.append(hashes(thumbnails[keep]))
        tiny.append(_tiny(thumbnails[keep], 0))
    return np.concatenate(numbers), np.concatenate(hashed, axis=1), np.concatenate(tiny)


def _tiny(thumbnails: np.ndarray, window: int) -> np.ndarray:
    """Return the content of a window at 16 × 16, (N, 256) float32 with mean 0 and length 1."""
    left, right, top, bottom = WINDOWS[window]
    rows, columns = _averages(16, top, bottom).astype(np.float32), _averages(16, left, right).astype(np.float32)
    small = (rows @ thumbnails.astype(np.float32) @ columns.T).reshape(len(thumbnails), 256)
    small -= small.mean(axis=1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)


def _similar(
    numbers: np.ndarray, one: np.ndarray, other: np.ndarray, window: int, mirrored: bool, tiny: np.ndarray,
    read: ReadThumbnails,
) -> np.ndarray:  # fmt: skip
    """Return (M,) bool: the pairs (one, other) that correlate at 16 × 16, `one` seen through the window."""
    if not len(one):
        return np.zeros(0, bool)
    queries, index = np.unique(one, return_inverse=True)
    windowed = tiny[queries]
    if window:
        windowed = np.concatenate([_tiny(read(numbers[queries[i : i + 2048]]), window) for i in range(0, len(queries), 2048)])
    similar = np.zeros(len(one), bool)
    for i in range(0, len(one), 20_000):
        whole = tiny[other[i : i + 20_000]]
        if mirrored:
            whole = whole.reshape(-1, 16, 16)[:, :, ::-1].reshape(-1, 256)
        similar[i : i + 20_000] = np.einsum("nd,nd->n", windowed[index[i : i + 20_000]], whole) > _ROUGH
    return similar


@cache
def _key_weights() -> np.ndarray:
    """Return (64, TABLES) float32, the same in every process: what each bit adds to each table's key."""
    draw = np.random.default_rng(0)
    weights = np.zeros((64, TABLES), np.float32)
    for table in range(TABLES):
        weights[draw.choice(np.arange(1, 64), KEY_BITS, replace=False), table] = 2.0 ** np.arange(KEY_BITS)
    return weights


def _keys(hashed: np.ndarray) -> np.ndarray:
    """Return the keys (N, TABLES) int32 of hashes (N,) uint64."""
    bits = np.unpackbits(hashed.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    return (bits.astype(np.float32) @ _key_weights()).astype(np.int32)


class _Table:
    """Hashes sorted by a key of some of their bits."""

    def __init__(self, keys: np.ndarray) -> None:
        self.order = np.argsort(keys, kind="stable").astype(np.int32)
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=2**KEY_BITS))])

    def near(self, keys: np.ndarray, queries: np.ndarray, hashed: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield numbers (one, other) of queries and hashes with the same key, at most DISTANCE bits apart."""
        first, counts = self.starts[keys], self.starts[keys + 1] - self.starts[keys]
        ends = np.cumsum(counts)
        begin = 0
        while begin < len(queries):
            stop = max(begin + 1, int(np.searchsorted(ends, (ends[begin - 1] if begin else 0) + _BLOCK, side="right")))
            matches = counts[begin:stop]
            one = np.repeat(np.arange(begin, stop), matches)
            inner = np.arange(len(one)) - np.repeat(np.cumsum(matches) - matches, matches)
            other = self.order[np.repeat(first[begin:stop], matches) + inner].astype(np.int64)
            close = np.bitwise_count(queries[one] ^ hashed[other]) <= DISTANCE
            yield one[close], other[close]
            begin = stop


def _proposals(queries: np.ndarray, hashed: np.ndarray, tables: list[_Table], both: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of numbers, (M,) and (M,), that are close, each once.

    With `both`, (i, j) and (j, i) are different pairs: one is seen through a window.
    """
    blocks, count = [np.empty(0, np.int64)], 0
    for table, keys in zip(tables, _keys(queries).T, strict=True):
        for one, other in table.near(keys, queries, hashed):
            keep = one != other if both else one < other
            blocks.append(one[keep] * len(hashed) + other[keep])
            count += len(blocks[-1])
            if count > 4 * _BLOCK:  # most of them come from several tables
                blocks = [np.unique(np.concatenate(blocks))]
                count = len(blocks[0])
    return np.divmod(np.unique(np.concatenate(blocks)), max(len(hashed), 1))


def confirm(whole: np.ndarray, part: np.ndarray, window: int) -> bool:
    """Return whether `part` matches this window of `whole`, both (64, 64) uint8, in greys and in details."""
    left, right, top, bottom = WINDOWS[window]
    small_whole, small_part = (cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in (whole, part))
    rough = []
    for step_across, step_down in _STEPS:
        across, down = round(right - left + step_across, 2), round(bottom - top + step_down, 2)
        if max(across, down) <= 1:
            score, x, y = _match(small_whole, _sized(small_part, round(32 * across), round(32 * down)))
            rough.append((score, x, y, across, down))
    rough[1:] = sorted(rough[1:], reverse=True)[:2]  # the window's own scale, and the best two others
    for score, x, y, across, down in rough:
        if score < _ROUGH:
            continue
        width, height = round(THUMBNAIL * across), round(THUMBNAIL * down)
        x, y = min(max(0, 2 * x - 2), THUMBNAIL - width), min(max(0, 2 * y - 2), THUMBNAIL - height)
        field, template = whole[y : y + height + 4, x : x + width + 4], _sized(part, width, height)
        score, x, y = _match(field, template)
        inside = field[y : y + height, x : x + width]
        if score >= GREY and _correlation(_details(inside), _details(template)) >= DETAIL:
            return True
    return False


def _sized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return image if image.shape == (height, width) else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _match(field: np.ndarray, template: np.ndarray) -> tuple[float, int, int]:
    """Return the best correlation of a template within a field, and its place (x, y)."""
    scores = cv2.matchTemplate(field, template, cv2.TM_CCOEFF_NORMED)
    _, score, _, (x, y) = cv2.minMaxLoc(scores)
    return float(score), x, y


def _details(image: np.ndarray) -> np.ndarray:
    values = image.astype(np.float32)
    return values - cv2.GaussianBlur(values, (0, 0), 2.5)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / max(float(np.linalg.norm(one)) * float(np.linalg.norm(other)), 1e-9))
