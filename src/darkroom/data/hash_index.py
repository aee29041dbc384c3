"""Finds hashes of 64 bits that are close to each other, without comparing all pairs.

Locality-sensitive hashing (Indyk and Motwani 1998): each table holds the hashes by a key of some of their
bits, and two hashes are compared where they share a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from darkroom.core import large_arrays

_BLOCK = 1_000_000  # pairs compared together


@cache
def _key_weights(tables: int, bits: int, unused: tuple[int, ...]) -> np.ndarray:
    """Return (64, tables) float32: the contribution of each bit of a hash to each table's key.

    It is the same in every process.
    """
    draw = np.random.default_rng(0)
    usable = np.setdiff1d(np.arange(64), unused)
    weights = np.zeros((64, tables), np.float32)
    for table in range(tables):
        weights[draw.choice(usable, bits, replace=False), table] = 2.0 ** np.arange(bits)
    return weights


def keys(hashes: np.ndarray, tables: int, bits: int, unused: tuple[int, ...]) -> np.ndarray:
    """Return the keys (tables, N) int32 of hashes (N,) uint64; bits that are the same in all are `unused`."""
    numbers = large_arrays.zeros((tables, len(hashes)), np.int32)
    weights = _key_weights(tables, bits, unused)
    for begin in range(0, len(hashes), 2**16):
        block = np.ascontiguousarray(hashes[begin : begin + 2**16])
        unpacked = np.unpackbits(block.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        numbers[:, begin : begin + len(block)] = (unpacked.astype(np.float32) @ weights).T
    return numbers


class Table:
    """Hashes (N,) sorted by a key of some of their bits."""

    def __init__(self, hashes: np.ndarray, keys: np.ndarray, bits: int) -> None:
        self.order = np.argsort(keys, kind="stable").astype(np.int32)
        self.hashes = hashes[self.order]
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=2**bits))])

    def near(self, keys: np.ndarray, queries: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield numbers (one, other) of queries and hashes with the same key and no more than `distance` bits
        between them.
        """
        first = self.starts[keys]
        for one, other in _close(queries, self.hashes, first, self.starts[keys + 1] - first, distance):
            yield one, self.order[other].astype(np.int64)


def close_pairs(
    queries: np.ndarray, tables: list[Table], bits: int, unused: tuple[int, ...], distance: int, both: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of numbers, (M,) and (M,), of queries and hashes that are close, each once.

    With `both`, (i, j) and (j, i) are different pairs.
    """
    blocks, count, most, size = [np.empty(0, np.int64)], 0, 4 * _BLOCK, len(tables[0].hashes)
    for table, table_keys in zip(tables, keys(queries, len(tables), bits, unused), strict=True):
        for one, other in table.near(table_keys, queries, distance):
            keep = one != other if both else one < other
            blocks.append(one[keep] * size + other[keep])
            count += len(blocks[-1])
            if count > most:  # most of them come from several tables
                blocks = [np.unique(np.concatenate(blocks))]
                count = len(blocks[0])
                most = 2 * count + 4 * _BLOCK  # so that none is sorted often
    return np.divmod(np.unique(np.concatenate(blocks)), max(size, 1))


def join(
    hashes: np.ndarray, groups: np.ndarray, table_keys: np.ndarray, table: int, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (one, other) of numbers of hashes (N,) that share a key in one of the tables (tables, N), in
    none before it, and have no more than `distance` bits between them.

    Hashes of the same group (N,) are in no pair. Their number costs no time.
    """
    own = table_keys[table]
    order = np.argsort(groups, kind="stable")
    for half in (own & 0xFFFF, own >> 16):  # NumPy sorts 16 bits in linear time
        order = order[np.argsort(half[order].astype(np.uint16), kind="stable")]
    sorted_keys, sorted_groups, sorted_hashes = own[order], groups[order], hashes[order]
    changes = sorted_keys[1:] != sorted_keys[:-1]
    key_ends = _run_ends(changes)
    group_ends = _run_ends(changes | (sorted_groups[1:] != sorted_groups[:-1]))
    for one, other in _close(sorted_hashes, sorted_hashes, group_ends, key_ends - group_ends, distance):
        one, other = order[one], order[other]
        new = ~(table_keys[:table, one] == table_keys[:table, other]).any(axis=0)
        yield one[new], other[new]


def _run_ends(changes: np.ndarray) -> np.ndarray:
    """Return (N,) the end of the run that each element is in; `changes` (N − 1,) begin new runs."""
    ends = np.append(np.flatnonzero(changes) + 1, len(changes) + 1)
    return ends[np.concatenate([[0], np.cumsum(changes)])]


def _close(
    queries: np.ndarray, hashes: np.ndarray, first: np.ndarray, counts: np.ndarray, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (i, k) for each query i and each k of the `counts[i]` hashes from `first[i]` that is close to it, some at a time.

    Queries with equally many hashes are compared together: then the hashes are rows of a table, which are copied as they
    lie in memory. Most time goes into the bits that differ, some 2 ns a pair.
    """
    sizes = np.bincount(counts)
    order = np.argsort(counts.astype(np.uint16 if len(sizes) <= 2**16 else np.int64), kind="stable")  # 16 bits in linear time
    ends = np.cumsum(sizes).tolist()
    for size in np.flatnonzero(sizes).tolist():
        if not size:
            continue
        begin, end = ends[size - 1], ends[size]
        rows, at_once = sliding_window_view(hashes, size), max(1, _BLOCK // size)
        for start in range(begin, end, at_once):
            chosen = order[start : min(start + at_once, end)]
            pairs = rows[first[chosen]]
            pairs ^= queries[chosen, None]
            one, inner = np.divmod(np.flatnonzero(np.bitwise_count(pairs) <= distance), size)
            yield chosen[one], first[chosen[one]] + inner
