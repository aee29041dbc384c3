"""`darkroom export-data`: the ingested images as Parquet and as tars of samples, which ingest reads as it read the source."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from darkroom import cli
from darkroom.config import params
from darkroom.data import dataset_files, manifest
from darkroom.stages import ingest as stage
from tests.conftest import ROOT

KINDS = dataset_files.FORMATS


def ingest(source: str) -> list[manifest.Row]:
    """Run the stage on a source; return the rows of the images."""
    content = params.read_yaml(ROOT / "params.yaml")
    content["ingest"] |= {"source": source, "image_size": 16, "split_by": "stratified", "max_quarantined": 0.2}
    Path("params.yaml").write_text(json.dumps(content))
    stage.run(Path("data/ingested"), Path("reports/data.html"), Path("data/label_fixes.csv"))
    return [row for row in manifest.read(Path("data/ingested/manifest.parquet")) if row.status == "accepted"]


@pytest.fixture
def project(folder, tmp_path, monkeypatch):
    """Return a project whose source has JPEG and PNG, a copy, a damaged file, and names that are hard to write."""
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    Path("data").mkdir()
    Path("data/label_fixes.csv").write_text("image,label\ncat/3.png,dog\n")
    rng = np.random.default_rng(5)
    Path("photos/Größe, 1").mkdir()
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(f"photos/Größe, 1/{i}.jpg")
    shutil.copy("photos/cat/5.png", "photos/cat/copy of 5.png")
    Path("photos/cat/broken.jpg").write_bytes(b"\xff\xd8x")
    return ingest("photos")


def facts(rows: list[manifest.Row]) -> list[tuple[str, str, str, str]]:
    return sorted((row.sha256, row.label, row.split, row.pixel_hash) for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_is_ingested_as_it_was(project, kind):
    """Ingest of the exported folder has the same files, labels and splits, in several shards too."""
    assert cli.main(["export-data", "out/set", "--format", kind, "--shard-megabytes", "1"]) == 0
    assert {row.split for row in project} == {"train", "val", "test"}
    assert facts(ingest("out/set")) == facts(project)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_has_the_same_bytes_each_time(project, kind, monkeypatch):
    """Two exports are equal to the byte, and shards have as many images as fit."""
    monkeypatch.setattr(dataset_files, "GROUP_ROWS", 7)
    sums = []
    for out in ("one", "two"):
        shards = dataset_files.plan(manifest.read_images(Path("data/ingested/manifest.parquet")), kind, 30_000)
        assert cli.main(["export-data", out, "--format", kind]) == 0
        files = sorted(path for path in Path(out).iterdir())
        sums.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert sums[0] == sums[1]
    assert all(sum(row.bytes for row in shard.rows) <= 30_000 for shard in shards)
    assert sum(len(shard.rows) for shard in shards) == len(project)
    assert len(shards) > 4


def test_parquet_has_the_columns_of_the_hub(project):
    """`image` and `label` are the Hub's Image and ClassLabel, beside the columns of the manifest; files are named as there."""
    assert cli.main(["export-data", "out"]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "README.md", "test-00000-of-00001.parquet", "train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"
    ]  # fmt: skip
    table = pq.read_table("out/train-00000-of-00001.parquet", use_threads=False)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"_type": "ClassLabel", "names": ["Größe, 1", "cat", "dog"]}
    assert features["image"] == {"_type": "Image"}
    assert set(features) == set(table.column_names) >= {"sha256", "pixel_hash", "split", "width", "flags"}
    first = table.slice(0, 1).to_pylist()[0]
    assert hashlib.sha256(first["image"]["bytes"]).hexdigest() == first["sha256"]


def test_tars_have_the_parts_of_webdataset(project):
    """Each image is followed by its number and its facts, and no member has a time or an owner."""
    assert cli.main(["export-data", "out", "--format", "webdataset"]) == 0
    with tarfile.open("out/validation-000000.tar") as archive:
        members = archive.getmembers()
        facts = json.load(archive.extractfile(members[2]))
        number = int(archive.extractfile(members[1]).read())
    assert [member.name for member in members[:3]] == ["00000000.jpg", "00000000.cls", "00000000.json"]
    assert ["Größe, 1", "cat", "dog"][number] == facts["label"]
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}


def test_nothing_is_written_where_the_source_has_changed(project, capsys):
    """A file that is not the ingested one, or is gone, ends the export with a remedy; no folder is left or overwritten."""
    Path("photos/cat/0.png").write_bytes(Path("photos/dog/0.png").read_bytes())
    assert cli.main(["export-data", "out"]) == 2
    message = capsys.readouterr().err
    assert "cat/0.png" in message
    assert "dvc repro ingest" in message
    Path("photos/cat/0.png").unlink()
    assert cli.main(["export-data", "out"]) == 2
    assert not Path("out").exists()
    Path("out").mkdir()
    assert cli.main(["export-data", "out"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_arrays_are_exported_as_png(project):
    """Images of an .npz become PNG files, with the same pixels, labels and splits."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 20, 20, 3), np.uint8), np.arange(60) % 2
    Path("data/label_fixes.csv").write_text("image,label\n")
    np.savez("set.npz", images=images, labels=labels)
    before = ingest("set.npz")
    assert cli.main(["export-data", "out"]) == 0
    after = ingest("out")
    assert sorted((row.pixel_hash, row.label, row.split) for row in after) == sorted(
        (row.pixel_hash, row.label, row.split) for row in before
    )
