"""The names of a zip's members as their writer meant them.

A member's flag says UTF-8, or nothing: then the format's own code page is cp437, but macOS writes UTF-8 and
Windows the code page of its language. All names without the flag are read together: as UTF-8 where they are
valid UTF-8, else in the first code page in which they look like words. A code page that is guessed is named.
"""

from __future__ import annotations

import itertools
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field: the name in UTF-8, with the CRC-32 of the other one
_LATIN = ("cp437", "cp850", "cp852", "cp1252", "cp1250")
_ALPHABETS = (("cp866", "CYRILLIC"), ("cp1251", "CYRILLIC"), ("cp737", "GREEK"), ("cp1253", "GREEK"))
_EAST_ASIAN = ("cp932", "euc_kr", "gb2312", "big5", "gbk", "cp949")
LANGUAGES = {
    "cp437": "Western", "cp850": "Western European", "cp852": "Central European", "cp1252": "Western European",
    "cp1250": "Central European", "cp866": "Cyrillic", "cp1251": "Cyrillic", "cp737": "Greek", "cp1253": "Greek",
    "cp932": "Japanese", "gb2312": "Chinese", "gbk": "Chinese", "euc_kr": "Korean", "cp949": "Korean",
    "big5": "traditional Chinese",
}  # fmt: skip


def read(archive: Path, members: list[zipfile.ZipInfo]) -> tuple[list[str], str]:
    """Return the name of each member, with `/` between folders, and a note where a code page was guessed."""
    names = [_declared_name(member) for member in members]
    raw = [member.orig_filename.encode("cp437", "replace") for member in members]
    open_names = [raw[i] for i, name in enumerate(names) if name is None]
    pages = guess(open_names)
    page, note = pages[0], ""
    if page not in ("ascii", "utf-8"):
        example = next(text for text in open_names if not text.isascii()).decode(page, "replace")
        others = f", though they may be {' or '.join(LANGUAGES[other] for other in pages[1:])}" if pages[1:] else ""
        note = f"warning: the names in {archive} say no encoding, and are read as {page} ({LANGUAGES[page]}{others}), "
        note += f"for example {example!r}; "
        note += "where that is wrong, zip the folder again with a program that writes UTF-8, or unpack it and name the folder"
    decoded = [raw[i].decode(page, "replace") if name is None else name for i, name in enumerate(names)]
    return [name.partition("\0")[0].replace("\\", "/") for name in decoded], note


def _declared_name(member: zipfile.ZipInfo) -> str | None:
    """Return a name whose encoding the archive says; None for others."""
    if member.flag_bits & _UTF8_FLAG:
        return member.orig_filename
    extra, raw = member.extra, member.orig_filename.encode("cp437", "replace")
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5 and field[0] == 1 and struct.unpack("<L", field[1:5])[0] == zlib.crc32(raw):
            return field[5:].decode("utf-8", "replace")
    return None


def guess(names: Iterable[bytes]) -> list[str]:
    """Return the encoding of names: ascii, utf-8, or the first code page in which they look like words, else cp437.

    East Asian code pages overlap: others in which the names look like words follow the first.
    """
    texts = sorted({text for name in names for text in name.split(b"/") if not text.isascii()})
    if not texts:
        return ["ascii"]
    joined = b"/".join(texts)
    for page in ("utf-8", *_LATIN):
        text = _decoded(joined, page)
        if text is not None and (page == "utf-8" or _is_latin(text)):
            return [page]
    for page, alphabet in _ALPHABETS:
        text = _decoded(joined, page)
        if text is not None and _is_alphabet(text, alphabet):
            return [page]
    eastern = [page for page in _EAST_ASIAN if (text := _decoded(joined, page)) is not None and _is_east_asian(text, page)]
    if "cp932" in eastern and any(_script(c) in ("HIRAGANA", "KATAKANA") for c in joined.decode("cp932")):
        return ["cp932"]
    first_pages = {LANGUAGES[page]: page for page in reversed(eastern)}
    return [page for page in eastern if first_pages[LANGUAGES[page]] == page] or ["cp437"]


def _decoded(content: bytes, page: str) -> str | None:
    try:
        return content.decode(page)
    except UnicodeDecodeError:
        return None


def _foreign(text: str) -> list[str]:
    return [c for c in text if not c.isascii()]


def _script(char: str) -> str:
    return unicodedata.name(char, "?").partition(" ")[0]


def _is_latin(text: str) -> bool:
    """Letters of Latin script alone, most of them plain, and none in upper case amid a word in lower case."""
    foreign = _foreign(text)
    plain = sum(c.isascii() and c.isalpha() for c in text)
    if not all(c.isalpha() and _script(c) == "LATIN" and c not in "ƒªº" for c in foreign) or len(foreign) > plain:
        return False
    return not any(a.islower() and b.isupper() and not b.isascii() for a, b in itertools.pairwise(text))


def _is_alphabet(text: str, alphabet: str) -> bool:
    foreign = _foreign(text)
    pairs = list(itertools.pairwise(text))
    mixed = any((a.islower() and b.isupper()) or (a.isalpha() and b.isalpha() and a.isascii() != b.isascii()) for a, b in pairs)
    return not mixed and "\\" not in text and all(c.isalpha() and _script(c) == alphabet for c in foreign)


def _is_east_asian(text: str, page: str) -> bool:
    """Characters of the script that belongs to the code page; half-width katakana are left over from other ones."""
    scripts = {
        "cp932": {"CJK", "HIRAGANA", "KATAKANA", "FULLWIDTH", "KATAKANA-HIRAGANA", "IDEOGRAPHIC"},
        "euc_kr": {"HANGUL", "FULLWIDTH"},
    }
    scripts["cp949"] = scripts["euc_kr"]
    return all(_script(c) in scripts.get(page, {"CJK", "FULLWIDTH", "IDEOGRAPHIC"}) for c in _foreign(text))
