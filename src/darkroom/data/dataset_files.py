"""The ingested images as files of many images, for other programs and for `ingest` itself: Parquet as the Hugging Face Hub has it,
and tars of samples as WebDataset has them.

An image is the bytes of its file. With it are its label and the columns of the manifest. The same images give the same bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.core import strict_json
from darkroom.data.manifest import COLUMNS, Row

FORMATS = ("parquet", "webdataset")
HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}  # as the Hub names them
FACTS = tuple(name for name in COLUMNS if name not in ("path", "label", "status", "reason", "detail"))  # columns of an image
GROUP_ROWS = 100  # of a row group, as the Hub has it, and
GROUP_BYTES = 32 * 2**20  # at most so many bytes
SUFFIXES = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "TIFF": "tiff", "BMP": "bmp", "PPM": "ppm",
    "SGI": "sgi", "AVIF": "avif", "HEIF": "heic",
}  # fmt: skip
README = "README.md"
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_KINDS = {field.name: {"int": "int64", "float": "float64"}.get(str(field.type), "string") for field in fields(Row)}
Read = Callable[[Row], bytes]


class Shard(NamedTuple):
    """A file to write: the number of its first image in its split, and its images."""

    name: str
    first: int
    rows: Sequence[Row]


def plan(images: Mapping[str, Sequence[Row]], kind: str, shard_bytes: int) -> list[Shard]:
    """Return the files that hold the images of each split, each of about `shard_bytes` of images at most."""
    shards = []
    for split, rows in images.items():
        parts = list(_cut(rows, shard_bytes))
        first = 0
        for number, part in enumerate(parts):
            of = f"-of-{len(parts):05}" if kind == "parquet" else ""
            name = f"{HUB_SPLITS[split]}-{number:05}{of}.parquet" if kind == "parquet" else f"{HUB_SPLITS[split]}-{number:06}.tar"
            shards.append(Shard(name, first, part))
            first += len(part)
    return shards


def _cut(rows: Sequence[Row], most_bytes: int, most_rows: int | None = None) -> Iterator[Sequence[Row]]:
    """Yield the images in parts that are full when the next image does not fit; an image of more is a part."""
    begin = size = 0
    for i, row in enumerate(rows):
        if i > begin and (size + row.bytes > most_bytes or i - begin == most_rows):
            yield rows[begin:i]
            begin, size = i, 0
        size += row.bytes
    if begin < len(rows):
        yield rows[begin:]


def write(folder: Path, shards: Iterable[Shard], classes: Sequence[str], kind: str, read: Read) -> None:
    """Write shards into a folder. `read` returns the bytes of an image's file."""
    writer = write_parquet if kind == "parquet" else write_tar
    for shard in shards:
        writer(folder / shard.name, shard, classes, read)


def write_parquet(path: Path, shard: Shard, classes: Sequence[str], read: Read) -> None:
    """Write `image` {bytes, path}, `label` (a ClassLabel) and the columns of the manifest, some rows at a time."""
    schema = pa.schema([("image", _IMAGE), ("label", pa.int64()), *((name, getattr(pa, _KINDS[name])()) for name in FACTS)])
    features: dict[str, Any] = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    features |= {name: {"dtype": _KINDS[name], "_type": "Value"} for name in FACTS}
    schema = schema.with_metadata({"huggingface": strict_json.dumps({"info": {"features": features}}, ensure_ascii=False)})
    number = {label: i for i, label in enumerate(classes)}
    words = [name for name in FACTS if _KINDS[name] == "string"]
    with pq.ParquetWriter(path, schema, use_dictionary=words, write_page_checksum=True) as writer:
        for group in _cut(shard.rows, GROUP_BYTES, GROUP_ROWS):
            columns = [
                pa.array([{"bytes": read(row), "path": row.path} for row in group], _IMAGE),
                pa.array([number[row.label] for row in group], pa.int64()),
                *(pa.array([_value(row, name) for row in group], schema.field(name).type) for name in FACTS),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=len(group))


def write_tar(path: Path, shard: Shard, classes: Sequence[str], read: Read) -> None:
    """Write each image as `NUMBER.jpg`, the number of its class as `.cls`, and its label and the manifest's columns as `.json`."""
    number = {label: i for i, label in enumerate(classes)}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for i, row in enumerate(shard.rows, shard.first):
            facts = {"label": row.label, "path": row.path} | {name: _value(row, name) for name in FACTS}
            values = {name: None if value != value else value for name, value in facts.items()}
            parts = {
                SUFFIXES.get(row.format, "png"): read(row),
                "cls": str(number[row.label]).encode(),
                "json": json.dumps(values, ensure_ascii=False, sort_keys=True).encode(),
            }
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{i:08}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def _value(row: Row, name: str) -> Any:
    value = getattr(row, name)
    return " ".join(value) if name == "flags" else value


def readme(shards: Iterable[Shard], classes: Sequence[str], kind: str) -> str:
    """Return a page that says what the files hold, and how programs read them."""
    counts: dict[str, int] = {}
    for shard in shards:
        split = shard.name.partition("-")[0]
        counts[split] = counts.get(split, 0) + len(shard.rows)
    listing = "\n".join(f"| {split} | {count:,} |" for split, count in counts.items())
    names = ", ".join(name.replace("\n", " ") for name in classes[:20]) + (", …" if len(classes) > 20 else "")
    if kind == "parquet":
        how = 'from datasets import load_dataset\n\nds = load_dataset("parquet", data_files={' + ", ".join(
            f'"{split}": "{split}-*.parquet"' for split in counts
        )
        how += "})"
    else:
        how = "import webdataset as wds\n\n"
        how += 'ds = wds.WebDataset("train-000000.tar").decode("pil").to_tuple("jpg;png", "cls", "json")'
    return (
        f"# Images\n\n{len(classes)} classes: {names}\n\n| split | images |\n| --- | --- |\n{listing}\n\n```\n{how}\n```\n"
        "Darkroom reads this folder too: `darkroom recipe photos --data FOLDER`.\n"
    )
