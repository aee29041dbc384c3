"""What the name of a file or folder says: left behind by a system, beside a photograph, or no image at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

_SYSTEM_FOLDERS = frozenset((
    "__macosx", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "@__thumb", "@sharesnap", "#recycle", "#snapshot",
    "#recently-snapshot", "~snapshot", "$recycle.bin", "$recycle", "recycler", "recycled", "system volume information",
    "lost+found", "found.000", "network trash folder", "temporary items", "__pycache__", "_gsdata_", "thumbs.db", "captureone",
    "[originals]",
))  # fmt: skip
_SYSTEM_FILES = frozenset((
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "zbthumbnail.info", "picasa.ini", "pspbrwse.jbf",
    "sync.ffs_db", "autorun.inf",
))  # fmt: skip
_LEFTOVERS = (".partial", ".crdownload", ".part", ".tmp", "~")
_HIDDEN_TOOLS = re.compile(
    r"\.(_|git|svn|hg|ds_store|thumb|trash|dtrash|cache|ipynb_checkpoints|dvc|idea|vscode|venv|fseventsd|spotlight|documentrevisions"
    r"|temporaryitems|appledouble|apdisk|volumeicon|localized|picasa|comments|recycle|dropbox|sync|st|nomedia|directory|xvpics|nfs|fuse"
    r"|darkroom|mypy|pytest|ruff|@|~|snapshots?$|zfs)",
    re.IGNORECASE,
)
# kinds that hold no photograph: text, tables, documents, settings, films, sound, code, numbers, packed files
_NO_IMAGES = frozenset(
    "txt md rst log csv tsv psv json jsonl ndjson xml yaml yml toml ini cfg conf html htm css js ts url webloc lnk desktop pdf doc "
    "docx odt rtf xls xlsx ods ppt pptx odp tex bib epub xmp aae thm dop pp3 on1 cos cop nksc vrd rmd lrtemplate lrcat xslt arp "
    "mov mp4 m4v avi mkv webm mts m2ts 3gp 3g2 wmv flv lrv insv mpg mpeg vob mp3 m4a wav aac ogg flac wma opus py ipynb sh bat ps1 "
    "exe dll so c h cpp java r m rb go npy npz mat h5 hdf5 pkl pickle pt pth onnx safetensors ckpt pb tfrecord parquet feather "
    "arrow db sqlite sqlite3 zip tar gz tgz bz2 xz 7z rar iso dmg names data info dat sha256 sha1 md5 sfv par2 torrent license "
    "gpx kml kmz srt vtt eml ics vcf dvc lock bak old orig jpg_original jpeg_original tif_original png_original jbf pto ctg "
    "xcf~ geojson shp shx dbf prj wld jgw tfw pgw ".split()
)  # fmt: skip
# kinds that hold a photograph or a drawing, and that no decoder here reads
_RAW_KINDS = frozenset(
    "cr2 cr3 crw nef nrw arw srf sr2 dng orf rw2 raw raf pef ptx srw x3f rwl iiq 3fr fff mef mos mrw erf kdc dcr k25 gpr cap "
    "eip".split()
)
_HEIF_KINDS = frozenset("heic heif heics heifs hif avci".split())
_UNREAD = (
    _RAW_KINDS
    | _HEIF_KINDS
    | frozenset(
        "jxl jxr wdp hdp jp2 j2k jpf jpx psd psb svg svgz eps ai xcf kra exr hdr dcm dicom nii fits fit fts cdr djvu tga pcx ico "
        "icns dds qoi ras xbm xpm pict czi lsm nd2 svs ndpi mrxs lif mha mhd nrrd img".split()
    )
)
_READ = frozenset("jpg jpeg jpe jfif mpo png apng gif webp tif tiff bmp dib ppm pgm pbm pnm sgi rgb bw avif".split())


def suffix(name: str) -> str:
    """Return the part of a name after its last point, in small letters."""
    stem, _, ending = name.rpartition("/")[2].rpartition(".")
    return ending.lower() if stem else ""


def _is_system(name: str, is_folder: bool) -> bool:
    lowered = name.lower()
    if name.startswith(".") or lowered in _SYSTEM_FOLDERS or lowered.endswith(".lrdata"):
        return True
    return not is_folder and (lowered in _SYSTEM_FILES or lowered.endswith(_LEFTOVERS) or lowered.startswith("~$"))


@cache
def in_system_folder(folder: str) -> bool:
    """Tell whether a folder, or one around it, is hidden or made by a system."""
    return any(_is_system(part, True) for part in folder.split("/") if part not in ("", ".", ".."))


def is_litter(path: str) -> bool:
    """Tell whether a file is hidden, left behind by a system, or in a folder that is."""
    folder, _, name = path.rpartition("/")
    return _is_system(name, False) or in_system_folder(folder)


def hidden_by_hand(folder: str) -> str:
    """Return the part of a path whose name begins with a dot, and that no known program makes: it may be a class."""
    hidden = [part for part in folder.split("/") if _is_system(part, True)]
    return hidden[0] if len(hidden) == 1 and hidden[0].startswith(".") and not _HIDDEN_TOOLS.match(hidden[0]) else ""


def is_no_image(path: str) -> bool:
    """Tell whether a name says that the file is no image."""
    return suffix(path) in _NO_IMAGES


def is_unread(path: str) -> bool:
    """Tell whether a name is of a kind of image that is not read."""
    return suffix(path) in _UNREAD


def is_archive(path: str) -> bool:
    """Tell whether a name is that of packed files."""
    return suffix(path) in ("zip", "tar", "tgz", "gz", "7z", "rar")


def may_be_image(path: str) -> bool:
    """Tell whether a name is of a kind of image, or says nothing."""
    return suffix(path) in _READ | _UNREAD | {""}


def is_raw(path: str) -> bool:
    """Tell whether a name is of a camera's raw data, in which decoders of TIFF find a thumbnail alone."""
    return suffix(path) in _RAW_KINDS


def is_image(path: str) -> bool:
    """Tell whether a name is of a kind of image that is read."""
    return suffix(path) in _READ


def beside_images(paths: Iterable[str]) -> set[str]:
    """Return the images of kinds that are not read beside which one of the same name lies that is read."""
    listed = list(paths)
    read = {path.rpartition(".")[0].lower() for path in listed if is_image(path)}
    return {path for path in listed if is_unread(path) and path.rpartition(".")[0].lower() in read}
