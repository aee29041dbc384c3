"""Images in formats that Darkroom does not read, told by their first bytes, and how to convert them."""

from __future__ import annotations

from darkroom.data import heif

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
_STARTS = {
    b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"8BPS": "Photoshop", b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"gimp xcf": "GIMP", b"\x76\x2f\x31\x01": "OpenEXR", b"#?RADIANCE": "Radiance HDR", b"FUJIFILMCCD-RAW": "raw", b"FOVb": "raw",
    b"IIRO": "raw", b"IIRS": "raw", b"MMOR": "raw", b"IIU\0": "raw", b"SIMPLE  =": "FITS", b"%PDF": "PDF", b"%!PS": "PostScript",
    b"AT&TFORM": "DjVu", b"II\xbc": "JPEG XR",
}  # fmt: skip
_CONVERT = {
    "HEIC": "install the decoder, `pip install pi-heif`, and run it again; or make JPEGs: `magick mogrify -format jpg *.heic`",
    "raw": "`darktable-cli`, `dcraw -w -T` or the camera's own program develops them",
    "DICOM": "`dcm2img` or the package pydicom makes PNGs of them",
}


def name_of(content: bytes) -> str:
    """Return the format of an image that is not read; empty where the first bytes are of none that is known."""
    if content[4:8] == b"ftyp":
        if content[8:12] in _HEIF_BRANDS:
            return "" if heif.VERSION else "HEIC"  # with a decoder it is damaged
        return "raw" if content[8:12] == b"crx " else ""
    if content[8:10] == b"CR" and content[:4] == b"II*\0":
        return "raw"
    if content[128:132] == b"DICM":
        return "DICOM"
    start = content[:400].lstrip().lower()
    if b"<svg" in start:
        return "SVG"
    return next((name for magic, name in _STARTS.items() if content.startswith(magic)), "")


def remedy(formats: set[str]) -> str:
    """Return how images of the formats become readable."""
    remedies = [_CONVERT[name] for name in sorted(formats) if name in _CONVERT]
    return "; ".join(remedies) or "`magick mogrify -format png FILE` makes PNGs of them, or the program that made them exports them"
