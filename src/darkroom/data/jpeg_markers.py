"""The marker segments of a JPEG: where it ends, how many scans it has, and whether all of its data are there.

Phones and cameras append videos, depth maps and raw data to a JPEG, and embed thumbnails that are JPEGs. Both
may hold the bytes of any marker, so markers are found by walking from segment to segment, as libjpeg does
(ITU-T T.81, annex B).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

END = b"\xff\xd9"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_AFTER_DATA = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # within a scan, FF 00 is a byte of data, D0 to D7 restart it
_BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a segment
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # what may stand between two scans
_NEVER_SENT = 0xFF  # the precision of a coefficient that no scan has
_GREY = 128  # what libjpeg decodes missing data to


@dataclass(slots=True)
class Layout:
    """What the markers of a JPEG say; offsets in bytes, sizes in pixels.

    `end` is behind the EOI marker, or, where there is none, behind the last byte that may be a scan's.
    """

    first_scan: int = 0
    end: int = 0
    scans: int = 0
    has_end: bool = False
    height: int = 0
    width: int = 0
    unit: tuple[int, int] = (8, 8)  # height and width of a minimum coded unit (MCU)
    ends_in_refinement: bool = False  # the last scan adds the lowest bits of coefficients alone
    precision: dict[int, bytearray] = field(default_factory=dict)  # by component, lowest bit sent of its 64 coefficients

    @property
    def has_all_scans(self) -> bool:
        """Whether the scans, the last one whole, hold every coefficient to its lowest bit."""
        return all(not any(bits) for bits in self.precision.values())

    def lacks_data(self, pixels: np.ndarray) -> bool:
        """Return whether the end of the data is missed in the pixels (h, w, 3) uint8, decoded without it at any scale.

        It is not where it holds the lowest bits of a progressive picture, or an eighth of the others at most,
        no more than their last row of blocks: libjpeg decodes these to grey.
        """
        if self.scans > 1:
            return not self.ends_in_refinement
        down, across = -(-self.height // self.unit[0]), -(-self.width // self.unit[1])
        first = down * across - 1 - min(across, max(1, down * across // 8))  # of the blocks that must be there the last
        if first < 0:
            return False
        row, column = divmod(first, across)
        bottom = min(len(pixels), (row + 1) * self.unit[0] * len(pixels) // self.height)
        right = min(pixels.shape[1], (column + 1) * self.unit[1] * pixels.shape[1] // self.width)
        return bool((pixels[max(0, bottom - 2) : bottom, max(0, right - 2) : right] == _GREY).all())


def walk(content: bytes, most_scans: int) -> Layout | None:
    """Return the layout of a JPEG up to its EOI marker or `most_scans` + 1 scans; None where no scan is found."""
    layout = Layout()
    at, data_end = 2, 0  # data_end: of the last scan, 0 while it is not known
    while match := (_AFTER_DATA if layout.scans and not data_end else _NEXT_MARKER).search(content, at):
        marker = content[match.end() - 1]
        if marker in _BARE:
            at = match.end()
            continue
        if layout.scans and not data_end:
            data_end = match.start()
        if marker == _EOI and layout.scans:
            layout.has_end, layout.end = True, match.end()
            return layout
        at = match.end() + int.from_bytes(content[match.end() : match.end() + 2], "big")
        segment = content[match.end() + 2 : at]
        if at < match.end() + 2 or at > len(content):
            break
        if marker == _SOS:
            if not _add_scan(layout, segment):
                break
            layout.first_scan = layout.first_scan or match.start()
            layout.scans, data_end = layout.scans + 1, 0
            if layout.scans > most_scans:
                break
        elif marker in _FRAMES and not layout.scans:
            _set_frame(layout, segment)
        elif marker not in _TABLES:
            break
    layout.end = data_end or len(content)
    return layout if layout.scans else None


def _set_frame(layout: Layout, segment: bytes) -> None:
    components = segment[6 : 6 + 3 * segment[5]] if len(segment) > 5 else b""
    layout.height, layout.width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    layout.precision = {number: bytearray([_NEVER_SENT]) * 64 for number in components[::3]}
    sampling = components[1::3] if len(components) > 3 else b"\x11"
    layout.unit = 8 * max(factor & 15 for factor in sampling), 8 * max(factor >> 4 for factor in sampling)


def _add_scan(layout: Layout, segment: bytes) -> bool:
    """Note what a scan holds; return whether its header can be one."""
    count = segment[0] if segment else 0
    numbers = segment[1 : 1 + 2 * count : 2]
    if not 1 <= count <= 4 or len(segment) != 4 + 2 * count or not set(numbers) <= layout.precision.keys():
        return False
    first, last, bits = segment[-3:]
    last = min(last, 63)
    for number in numbers:
        layout.precision[number][first : last + 1] = bytes([bits & 15]) * max(0, last + 1 - first)
    layout.ends_in_refinement = bits >> 4 > 0
    return True
