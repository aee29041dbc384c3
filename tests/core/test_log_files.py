"""Logs stay small, whoever writes them."""

from __future__ import annotations

from darkroom.core import log_files


def test_a_long_log_begins_again_and_its_writer_goes_on(tmp_path):
    """A log above the limit is moved beside it, in place of the part before; a writer that has it open writes on at its begin."""
    log = tmp_path / "server.log"
    with log.open("ab", buffering=0) as writer:
        for part in (b"one\n" * 10, b"two\n" * 10):
            writer.write(part)
            log_files.trim(log, limit=100)
            assert log.stat().st_size == 40
            log_files.trim(log, limit=39)
            assert log.stat().st_size == 0
            assert (tmp_path / "server.log.old").read_bytes() == part
        writer.write(b"three\n")
    assert log.read_bytes() == b"three\n"


def test_a_log_that_is_not_there_is_none(tmp_path):
    """Nothing is made where there is no log."""
    log_files.trim(tmp_path / "server.log")
    assert list(tmp_path.iterdir()) == []
