"""Near duplicates: one picture resized, recompressed, mirrored, turned, cropped, framed or with a banner.

Two searches propose pairs, and a comparison of pixels confirms them. The perceptual hash of a whole picture
finds copies with the same edges, in any of eight orientations. The hashes of its local features find the
others, and tell how one picture lies on the other.

Whether two pictures are near duplicates, and whether they are copies, depends on these two alone, never on
the other pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from darkroom.core import large_arrays
from darkroom.data import alignment, hash_index, local_features, perceptual_hash
from darkroom.data.perceptual_hash import ORIENTATIONS, Orientation

DISTANCE, TABLES, KEY_BITS = 10, 16, 16  # of hashes of whole pictures: bits of 63 that may differ
LOCAL_DISTANCE, LOCAL_TABLES, LOCAL_KEY_BITS = 8, 16, 20  # of hashes of local features
_ROUGH = 0.8  # correlation at 16 pixels below which a pair with the same edges is dropped
_SHARED = 0.9  # of one of two pictures that lies within the other, where a pair of features lays them
_SMALLEST = 0.4  # area of a picture on the other by that of the other
_SAME_EDGES = 0.85  # of both pictures within the other: if they are copies, the hash of the whole picture tells
_MATCHES = 3  # features that two pictures have in common there
_CERTAIN = 0.8  # correlation at 16 × 16 points with which one is enough
_TRIES = 2  # pairs of features of a pair of pictures that are tried
_BATCH = 20_000  # pairs compared together
_BLOCK = 512  # pictures described together


class ReadFingerprints(Protocol):
    def __call__(self, numbers: np.ndarray, detailed: bool = False) -> np.ndarray:
        """Return the fingerprints (M,) of pictures with some numbers (M,): FINGERPRINT if `detailed`, else at
        least the fields of SUMMARY.
        """
        ...


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

    def roots(self) -> np.ndarray:
        """Return the smallest number in each one's cluster, (N,)."""
        roots = np.array(self.parent, np.int64)
        while (roots != (roots := roots[roots])).any():
            pass
        return roots

    def join(self, i: int, j: int) -> None:
        one, other = sorted((self.root(i), self.root(j)))
        self.parent[other] = one


@dataclass(frozen=True)
class Duplicates:
    """`pairs` (i, j), i < j, connect every cluster of near duplicates. `conflicts` are pairs of copies with
    different labels; a mirrored or turned copy is in none, since its label may tell how it is turned.
    `hashes` holds each picture's hash as 16 hexadecimal digits, empty for a picture with too little contrast.
    """

    pairs: list[tuple[int, int]]
    conflicts: list[tuple[int, int]]
    hashes: list[str]


def find(
    labels: Sequence[str], read: ReadFingerprints, on_step: Callable[[int, int], None] = lambda done, total: None
) -> Duplicates:
    """Return near duplicates among pictures.

    Pairs of pictures that other pairs connect already are left out, except pairs with different labels: every
    picture that is an upright copy of one with another label is in such a pair. `on_step` receives the number of
    finished steps and of all. Time grows with the number of pictures and of pairs that look alike.
    """
    search = _Search(list(labels), read)
    steps = len(ORIENTATIONS) + LOCAL_TABLES
    for step, orientation in enumerate(ORIENTATIONS):
        search.compare_whole(orientation)
        on_step(step + 1, steps)
    for table in range(LOCAL_TABLES):
        search.compare_local(table)
        on_step(len(ORIENTATIONS) + table + 1, steps)
    return Duplicates(sorted(search.pairs), sorted(search.conflicts), search.digits)


class _Described(NamedTuple):
    """What is held of the pictures that are not plain: those of a picture first, then those of a feature."""

    numbers: np.ndarray  # (N,)
    hashes: np.ndarray  # (N,) of whole pictures
    shapes: np.ndarray  # (N, 2) width and height
    small: np.ndarray  # (N, 32, 32) uint8
    plain: np.ndarray  # (N,) bool: an object on a plain ground, without local features
    tiny: np.ndarray  # (N, 256) float16, 16 × 16 pixels with mean 0 and length 1
    features: np.ndarray  # (F,) FEATURE, those of a picture one after another
    owners: np.ndarray  # (F,) the places in `numbers` of the pictures that features belong to


class _Candidate(NamedTuple):
    """Two pictures that are similar where a pair of their features lays them."""

    part: int
    whole: int
    matches: int
    score: float
    same_edges: bool
    transform: np.ndarray

    @property
    def is_disputable(self) -> bool:
        """Whether it decides if these are copies: upright ones, of which the hash of the whole picture does not tell."""
        return not self.same_edges and self.transform[0, 0] > 0 and self.transform[1, 1] > 0

    def rank(self) -> tuple:
        return *self.pair, -self.matches, -self.score, self.part, self.transform.tolist()

    @property
    def pair(self) -> tuple[int, int]:
        return min(self.part, self.whole), max(self.part, self.whole)


class _Search:
    """The state of a search. Its pictures are places in `described.numbers`."""

    def __init__(self, labels: list[str], read: ReadFingerprints) -> None:
        self.read = read
        self.described = described = _describe(len(labels), read)
        self.digits = [""] * len(labels)
        for number, value in zip(described.numbers.tolist(), described.hashes.tolist(), strict=True):
            self.digits[number] = f"{value:016x}"
        self.labels = np.unique(np.array(labels, str), return_inverse=True)[1][described.numbers]
        self.clusters = Clusters(len(described.numbers))
        self.disputed = np.zeros(len(described.numbers), bool)  # pictures that are in a conflict
        self.pairs: set[tuple[int, int]] = set()
        self.conflicts: set[tuple[int, int]] = set()
        self.tries: dict[tuple[int, int], int] = {}  # comparisons of pairs of pictures that local features find
        self.rejected: set[tuple[int, int]] = set()  # pairs with different labels that local features find, and that are no copies
        whole_keys = hash_index.keys(described.hashes, TABLES, KEY_BITS, perceptual_hash.UNUSED_BITS)
        self.tables = [hash_index.Table(described.hashes, keys, KEY_BITS) for keys in whole_keys]
        self.local_keys = hash_index.keys(described.features["hash"], LOCAL_TABLES, LOCAL_KEY_BITS, local_features.UNUSED_BITS)

    def compare_whole(self, orientation: Orientation) -> None:
        """Find pairs with the same edges, the first of which is in this orientation."""
        described = self.described
        one, other = hash_index.close_pairs(
            orientation.of_hashes(described.hashes), self.tables, KEY_BITS, perceptual_hash.UNUSED_BITS,
            DISTANCE, both=not orientation.is_own_inverse,
        )  # fmt: skip
        for begin in range(0, len(one), _BATCH):
            first, second = one[begin : begin + _BATCH], other[begin : begin + _BATCH]
            turned = orientation.of_pictures(described.tiny[first].reshape(-1, 16, 16)).reshape(-1, 256)
            similar = np.einsum("nd,nd->n", turned.astype(np.float32), described.tiny[second].astype(np.float32)) > _ROUGH
            first, second = first[similar], second[similar]
            settled = self._settled(first, second)
            first, second = first[~settled], second[~settled]
            disputable = (self.labels[first] != self.labels[second]) & orientation.is_upright
            small = described.small[first[disputable]], described.small[second[disputable]]
            disputable[disputable] = alignment.may_be_copies(*small)
            for i, j, may_be_copies in zip(first.tolist(), second.tolist(), disputable.tolist(), strict=True):
                self._settle_whole(i, j, orientation, may_be_copies)

    def _settle_whole(self, i: int, j: int, orientation: Orientation, may_be_copies: bool) -> None:
        if not self._joined(i, j):
            first, second = self.read(self.described.numbers[[i, j]])["thumbnail"]
            first = np.ascontiguousarray(orientation.of_pictures(first))
            plain = bool(self.described.plain[[i, j]].any())
            if not (alignment.has_same_edges(first, second, plain) or alignment.has_same_edges(second, first, plain)):
                return
            self._join(i, j)
        if may_be_copies:
            self._dispute(i, j, orientation.transform)

    def compare_local(self, table: int) -> None:
        """Find pairs of which two features share a key in one of the tables."""
        described = self.described
        candidates = []
        groups = self._groups()[described.owners]
        for one, other in hash_index.join(described.features["hash"], groups, self.local_keys, table, LOCAL_DISTANCE):
            for begin in range(0, len(one), _BATCH):
                candidates += self._similar(one[begin : begin + _BATCH], other[begin : begin + _BATCH])
        candidates.sort(key=_Candidate.rank)
        for pair, tries in itertools.groupby(candidates, key=lambda candidate: candidate.pair):
            self._settle_local(pair[0], pair[1], list(itertools.islice(tries, _TRIES)))

    def _similar(self, one: np.ndarray, other: np.ndarray) -> list[_Candidate]:
        """Return the pairs of pictures that are similar where these pairs of features lay them."""
        described = self.described
        transforms = local_features.transforms(
            described.features[one], described.features[other],
            described.shapes[described.owners[one]], described.shapes[described.owners[other]],
        )  # fmt: skip
        scale = alignment.areas(transforms)
        swapped = scale > 1  # the part is the one of which more lies within the other
        transforms[swapped] = alignment.invert(transforms[swapped])
        inside = alignment.share_inside(transforms)
        kept = np.flatnonzero((inside > _SHARED) & (np.minimum(scale, 1 / scale) > _SMALLEST))
        part = described.owners[np.where(swapped, other, one)[kept]]
        whole = described.owners[np.where(swapped, one, other)[kept]]
        score = alignment.compare_roughly(described.small[part], described.small[whole], transforms[kept])
        similar = score > alignment.ROUGH
        part, whole, score, transforms = part[similar], whole[similar], score[similar], transforms[kept[similar]]
        matches, transforms = local_features.match(
            self._features(part), self._features(whole), transforms, described.shapes[part], described.shapes[whole]
        )
        score = alignment.compare_roughly(described.small[part], described.small[whole], transforms)
        shared = alignment.share_inside(transforms)
        same_edges = shared * alignment.areas(transforms) > _SAME_EDGES
        similar = (shared > _SHARED) & (score > np.where(matches >= _MATCHES, alignment.ROUGH, _CERTAIN))
        return [
            _Candidate(int(part[k]), int(whole[k]), int(matches[k]), float(score[k]), bool(same_edges[k]), transforms[k])
            for k in np.flatnonzero(similar)
        ]

    def _features(self, pictures: np.ndarray) -> np.ndarray:
        """Return the features (M, MAX_FEATURES) of pictures (M,), zeros after the last of each."""
        starts, ends = (np.searchsorted(self.described.owners, pictures, side) for side in ("left", "right"))
        places = starts[:, None] + np.arange(local_features.MAX_FEATURES)
        present = places < ends[:, None]
        features = np.zeros(places.shape, local_features.FEATURE)
        features[present] = self.described.features[places[present]]
        return features

    def _settle_local(self, i: int, j: int, tries: list[_Candidate]) -> None:
        joined = self._joined(i, j)
        if joined and (self.labels[i] == self.labels[j] or (i, j) in self.rejected):
            return
        for candidate in tries:
            if not joined and self.tries.get((i, j), 0) < _TRIES:
                self.tries[i, j] = self.tries.get((i, j), 0) + 1
                joined = self._is_same_picture(candidate)
                if joined:
                    self._join(i, j)
            if joined and candidate.is_disputable and self._dispute(candidate.part, candidate.whole, candidate.transform):
                return
        if joined:
            self.rejected.add((i, j))

    def _is_same_picture(self, candidate: _Candidate) -> bool:
        places = [candidate.part, candidate.whole]
        part, whole = self.read(self.described.numbers[places])["thumbnail"]
        return alignment.is_same_picture(part, whole, candidate.transform, self.described.shapes[places])

    def _groups(self) -> np.ndarray:
        """Return (N,) a number for each picture: equal where a pair of two pictures would tell nothing new."""
        named = self.clusters.roots() * (len(self.labels) + 1) + np.where(self.disputed, len(self.labels), self.labels)
        return np.unique(named, return_inverse=True)[1]

    def _joined(self, i: int, j: int) -> bool:
        return self.clusters.root(i) == self.clusters.root(j)

    def _join(self, i: int, j: int) -> None:
        self.clusters.join(i, j)
        self.pairs.add(self._named(i, j))

    def _dispute(self, i: int, j: int, transform: np.ndarray) -> bool:
        """Note a conflict if two pictures are copies and have different labels, and tell whether there is one."""
        if self.labels[i] == self.labels[j]:
            return False
        if not (self.disputed[i] and self.disputed[j]):
            first, second = self.read(self.described.numbers[[i, j]], detailed=True)["detailed"]
            if not alignment.is_copy(first, second, transform, self.described.shapes[[i, j]]):
                return False
            self.disputed[[i, j]] = True
            self.conflicts.add(self._named(i, j))
        return True

    def _named(self, i: int, j: int) -> tuple[int, int]:
        one, other = sorted(self.described.numbers[[i, j]].tolist())
        return one, other

    def _settled(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return (M,) bool: the pairs that tell nothing new."""
        groups = self._groups()
        return groups[one] == groups[other]


def _describe(count: int, read: ReadFingerprints) -> _Described:
    """Describe the pictures of which two could be told from each other, block by block; what is large may be on the disk."""
    most = count * local_features.MAX_FEATURES
    described = _Described(
        np.empty(count, np.int64), np.empty(count, np.uint64), np.empty((count, 2), np.float32),
        large_arrays.zeros((count, 32, 32), np.uint8), np.empty(count, bool), large_arrays.zeros((count, 256), np.float16),
        large_arrays.zeros((most,), local_features.FEATURE), large_arrays.zeros((most,), np.int64),
    )  # fmt: skip
    pictures = features = 0
    for start in range(0, count, _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, count))
        summaries = read(numbers)
        keep = ~perceptual_hash.is_plain(summaries["thumbnail"])
        block = _describe_block(numbers[keep], summaries[keep], pictures)
        pictures_end, features_end = pictures + len(block.numbers), features + len(block.features)
        for own, new in zip(described[:6], block[:6], strict=True):
            own[pictures:pictures_end] = new
        for own, new in zip(described[6:], block[6:], strict=True):
            own[features:features_end] = new
        pictures, features = pictures_end, features_end
    return _Described(*(array[:pictures] for array in described[:6]), *(array[:features] for array in described[6:]))


def _describe_block(numbers: np.ndarray, summaries: np.ndarray, place: int) -> _Described:
    """Describe pictures, the first of which gets this place."""
    thumbnails = np.ascontiguousarray(summaries["thumbnail"])
    small = _halved(thumbnails.astype(np.uint16))
    tiny = _halved(small).reshape(-1, 256).astype(np.float32)
    tiny -= tiny.mean(axis=1, keepdims=True)
    tiny /= np.maximum(np.linalg.norm(tiny, axis=1, keepdims=True), 1e-6)
    present = np.arange(local_features.MAX_FEATURES) < summaries["count"][:, None]
    return _Described(
        numbers, perceptual_hash.hashes(thumbnails),
        np.stack([summaries["width"], summaries["height"]], axis=1).astype(np.float32), (small // 4).astype(np.uint8),
        summaries["count"] == 0, tiny.astype(np.float16), summaries["features"][present], place + np.nonzero(present)[0],
    )  # fmt: skip


def _halved(pictures: np.ndarray) -> np.ndarray:
    """Return the sums of 2 × 2 pixels of pictures (M, n, n)."""
    rows = pictures[:, ::2] + pictures[:, 1::2]
    return rows[:, :, ::2] + rows[:, :, 1::2]
