"""Pairs of close hashes: all that share a key in some table, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.data import hash_index

TABLES, BITS, DISTANCE, UNUSED = 3, 5, 20, (0,)
rng = np.random.default_rng(0)
HASHES = rng.integers(0, 2**63, 700, dtype=np.uint64) & ~np.uint64(1)
HASHES[:60] = HASHES[0] ^ (np.uint64(1) << rng.integers(1, 64, 60).astype(np.uint64))  # a key that many share
KEYS = hash_index.keys(HASHES, TABLES, BITS, UNUSED)
SHARED = KEYS[:, :, None] == KEYS[:, None]
CLOSE = np.bitwise_count(HASHES[:, None] ^ HASHES) <= DISTANCE


@pytest.mark.parametrize("block", [50, 10**6])
def test_pairs_are_those_that_share_a_key(block, monkeypatch):
    """Each pair is found once, whatever the number of pairs that are compared together, of few and many hashes with a key."""
    monkeypatch.setattr(hash_index, "_BLOCK", block)
    tables = [hash_index.Table(HASHES, keys, BITS) for keys in KEYS]
    expected = SHARED.any(0) & CLOSE
    for both, close in ((False, np.triu(expected, 1)), (True, expected & ~np.eye(len(HASHES), dtype=bool))):
        one, other = hash_index.close_pairs(HASHES, tables, BITS, UNUSED, DISTANCE, both)
        assert (np.stack([one, other], 1) == np.argwhere(close)).all()


@pytest.mark.parametrize("table", range(TABLES))
def test_a_join_leaves_out_groups_and_earlier_tables(table):
    """Pairs of a group, and those that an earlier table has found, are not found again."""
    groups = rng.integers(0, 50, len(HASHES))
    joined = [np.sort(pair, 0) for pair in hash_index.join(HASHES, groups, KEYS, table, DISTANCE)]
    pairs = np.concatenate([np.empty((2, 0), int), *joined], 1)
    expected = np.triu(SHARED[table] & ~SHARED[:table].any(0) & CLOSE & (groups[:, None] != groups), 1)
    assert sorted(map(tuple, pairs.T.tolist())) == sorted(map(tuple, np.argwhere(expected).tolist()))


def test_no_hashes_have_no_pairs():
    """Of no hash, or one, there is no pair."""
    for hashes in (HASHES[:0], HASHES[:1]):
        tables = [hash_index.Table(hashes, keys, BITS) for keys in hash_index.keys(hashes, TABLES, BITS, UNUSED)]
        assert not len(hash_index.close_pairs(hashes, tables, BITS, UNUSED, DISTANCE, both=True)[0])
