"""What a run will do, from a list of files: images by class and split, minutes, gigabytes."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from darkroom.config import params
from darkroom.config.params import SPLITS, Params
from darkroom.core.errors import SourceError
from darkroom.preflight import disk, durations, plan, plan_text

FIXES = Path("no-fixes.csv")
MACHINE = durations.Machine(50e9, 1.0)


def with_source(values: dict, source: Path, **ingest: object) -> Params:
    values["ingest"] |= {"source": str(source), **ingest}
    return params.parse(values | {"fetch": values["fetch"] | {"datasets": []}})


def counted(root: Path, *folders: str, count: int = 10) -> Path:
    """Write files that are no images: nothing here may depend on decoding them."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number}.jpg").write_bytes(b"x")
    return root


def test_drawn_splits_are_shares(values, tmp_path):
    """A folder of classes is split by the shares of the params; the six lines have the classes and their images."""
    settings = with_source(values, counted(tmp_path / "photos", "cat", "dog", count=50), val_share=0.1, test_share=0.2)
    planned = plan.make(settings, plan.read_content(settings, FIXES))
    assert planned.splits == {"train": 70, "val": 10, "test": 20}
    assert planned.drawn == ("val", "test")
    lines = plan_text.lines(planned)
    assert len(lines) == 6
    assert "100 in 2 classes: cat 50, dog 50" in lines[1]
    assert "about 70 train, 10 val, 20 test" in lines[2]


def test_ready_splits_are_the_sources_own(values, tmp_path):
    """Splits of the source are counted; one that is missing is a share of train; a class that lacks a split is named."""
    counted(tmp_path / "photos", "train/cat", "train/dog", "test/cat")
    settings = with_source(values, tmp_path / "photos", val_share=0.1)
    planned = plan.make(settings, plan.read_content(settings, FIXES))
    assert planned.splits == {"train": 18, "val": 2, "test": 10}
    assert planned.drawn == ("val",)
    assert "10 test (without dog)" in plan_text.lines(planned)[2]


@pytest.mark.parametrize(("suffix", "unread"), [("tar", False), ("tar.gz", False), ("tar.xz", True)])
def test_a_big_compressed_archive_is_said_to_be_unread(suffix, unread, values, tmp_path, monkeypatch):
    """Listing it takes as long as decompressing it; a small one is listed, and so is one that is not compressed."""
    monkeypatch.setitem(plan.UNREAD, b"\xfd7zXZ\x00", 0)
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / f"photos.{suffix}"
    with tarfile.open(archive, f"w:{suffix.partition('.')[2]}") as file:
        file.add(counted(tmp_path / "photos", "cat", "dog"), "photos")
    settings = with_source(values, archive)
    content = plan.read_content(settings, FIXES)
    assert bool(content.unread) == unread
    text = "\n".join(plan_text.lines(plan.make(settings, content)))
    assert ("not known" in text) == unread
    assert ("20 in 2 classes" in text) != unread


def test_a_data_set_that_is_not_there_yet_is_known(values, tmp_path, monkeypatch):
    """What `fetch` will write is counted from what the data set is."""
    monkeypatch.chdir(tmp_path)
    for name, images, splits in (("digits", 1797, [1258, 180, 359]), ("mnist", 70_000, [54_000, 6000, 10_000])):
        values["fetch"]["datasets"] = [name]
        values["ingest"]["source"] = f"data/raw/{name}"
        settings = params.parse(values)
        planned = plan.make(settings, plan.read_content(settings, FIXES))
        assert sum(planned.content.images.values()) == images
        assert [planned.splits[split] for split in SPLITS] == splits
    assert "12 MiB" in "\n".join(plan_text.lines(planned))


def test_a_wrong_folder_is_seen(values, tmp_path):
    """Files outside of classes are counted in the first line, and a class with two images is a warning."""
    counted(tmp_path / "photos", "cat", "dog")
    counted(tmp_path / "photos", "rare", count=2)
    (tmp_path / "photos/beside.jpg").write_bytes(b"x")
    settings = with_source(values, tmp_path / "photos")
    lines = plan_text.lines(plan.make(settings, plan.read_content(settings, FIXES)))
    assert "23 files" in lines[0]
    assert "1 ignored" in lines[0]
    assert lines[6].startswith("warning: rare: fewer than 3 images")


def test_a_full_disk_is_a_warning(values, tmp_path, monkeypatch):
    """More to be written than is free is said before hours of work."""
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    settings = with_source(values, counted(tmp_path / "photos", "cat", "dog"))
    assert any("augment.storage" in line for line in plan_text.lines(plan.make(settings, plan.read_content(settings, FIXES))))


def test_label_fixes_are_checked_against_the_classes(values, tmp_path):
    """A fix of a class that the source lacks, and a folder in the place of the file, are refused by name."""
    settings = with_source(values, counted(tmp_path / "photos", "cat", "dog"))
    fixes = tmp_path / "fixes.csv"
    fixes.write_text("image,label\ncat/0.jpg,dgo\n")
    with pytest.raises(SourceError, match=r'fixes\.csv.*did you mean "dog"'):
        plan.read_content(settings, fixes)
    with pytest.raises(SourceError, match="is no file"):
        plan.read_content(settings, tmp_path)


@pytest.mark.parametrize("source", ["photos", "data/raw/digits"])
def test_frozen_splits_that_cannot_be_read_are_named(source, values, tmp_path, monkeypatch):
    """A line of data/splits.csv that is no split is refused before a run, as ingest would refuse it."""
    monkeypatch.chdir(tmp_path)
    counted(Path("photos"), "cat", "dog")
    values["ingest"]["source"] = source
    Path("data").mkdir()
    Path("data/splits.csv").write_text("image,split\ncat/0.jpg,tset\n")
    with pytest.raises(SourceError, match=r'splits\.csv has the split "tset"'):
        plan.read_content(params.parse(values), FIXES)


def test_what_the_test_images_tell_apart(values, tmp_path):
    """The plan says which difference of two models the planned test images can tell; of very few images it is none."""
    for images, fact in (
        (450, "90 images tell accuracies apart from about"),
        (15, "3 images cannot tell two models apart"),
    ):
        folder = counted(tmp_path / str(images), "cat", "dog", count=images // 2)
        settings = with_source(values, folder, val_share=0.1, test_share=0.2)
        planned = plan.make(settings, plan.read_content(settings, FIXES))
        assert fact in plan_text.lines(planned)[3]
        assert plan_text.as_json(planned)["detectable_difference"] == (planned.detectable and round(planned.detectable, 4))
    assert planned.detectable is None


def test_json_has_every_figure(values, tmp_path):
    """The JSON has images by class and split, downloads, the range of seconds, and bytes by part."""
    settings = with_source(values, counted(tmp_path / "photos", "train/cat", "train/dog", "test/cat", "test/dog"))
    content = plan_text.as_json(plan.make(settings, plan.read_content(settings, FIXES)))
    assert content["classes"] == {"cat": {"test": 10, "train": 10}, "dog": {"test": 10, "train": 10}}
    assert content["seconds"]["low"] < sum(content["seconds"]["stages"].values()) < content["seconds"]["high"]
    assert content["bytes_written"]["views"] > 0
    assert list(content["backbones"]) == settings.backbones


@pytest.mark.slow
def test_no_torch_is_imported(values, tmp_path):
    """A plan takes about a second, since it imports neither torch, torchvision nor MLflow."""
    folder = counted(tmp_path / "photos", "cat", "dog")
    code = (
        "import sys; from pathlib import Path; from darkroom.config import params; from darkroom.preflight import plan, plan_text\n"
        f"values = {values!r}; values['ingest']['source'] = {str(folder)!r}; values['fetch']['datasets'] = []\n"
        "settings = params.parse(values); plan_text.lines(plan.make(settings, plan.read_content(settings, Path('none'))))\n"
        "sys.exit(sorted({'torch', 'torchvision', 'mlflow'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_more_work_takes_longer(values):
    """Twice the images, the epochs, the pixels or the backbones never take less, and each stage has its time."""
    base = params.parse(values)
    counts = durations.Counts(700, 100, 200, 2e6)
    before = durations.stages(base, counts, 5, MACHINE)
    assert set(before) >= {"ingest", "augment", "baseline", "weights@vgg11_bn", "finetune@vgg11_bn", "evaluate", "register"}
    more = durations.Counts(1400, 200, 400, 4e6)
    assert sum(durations.stages(base, more, 5, MACHINE).values()) > sum(before.values())
    for section, key, value in (
        ("baseline", "epochs", 24), ("ingest", "image_size", 64), ("augment", "views", 16), ("finetune", "unfreeze", 0.8),
    ):  # fmt: skip
        changed = params.parse(values | {section: values[section] | {key: value}})
        assert sum(durations.stages(changed, counts, 5, MACHINE).values()) > sum(before.values()), key


def test_the_range_is_in_words_of_its_size():
    """Seconds below a minute and a half, then minutes, then hours."""
    assert durations.as_range(20).endswith("seconds")
    assert durations.as_range(600).endswith("minutes")
    assert durations.as_range(20_000).endswith("hours")


def test_the_bytes_of_views_are_those_of_the_array(values, tmp_path, monkeypatch):
    """Views, twice since DVC copies them, take what NumPy's array takes; linked into the cache they count once."""
    monkeypatch.chdir(tmp_path)
    settings = params.parse(values)
    counts = durations.Counts(100, 10, 20, 1e5)
    array = np.empty((settings.augment.views, 100, 32, 32, 3), np.uint8).nbytes
    assert disk.by_kind(disk.by_stage(settings, counts))["views"] == 2 * array
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[cache]\n    type = hardlink,copy\n")
    assert disk.by_kind(disk.by_stage(settings, counts))["views"] == array


def test_each_stage_has_its_time_memory_and_bytes(values):
    """`darkroom plan` has a row for each stage of the graph and one for all: the sums, and the largest memory."""
    settings = params.parse(values)
    planned = plan.make(settings, plan.Content("folder", 200, 10**6, {("cat", ""): 100, ("dog", ""): 100}))
    rows = plan_text.stages(planned)
    names = [row[0] for row in rows[:-1]]
    assert names == list(planned.seconds) == list(planned.memory)
    assert set(planned.stage_bytes) <= set(names)
    assert rows[-1][2] == max((row[2] for row in rows[:-1]), key=lambda text: int(text.split()[0].replace(",", "")))
    content = plan_text.stages_as_json(planned)
    assert sum(stage["written"] for stage in content) == pytest.approx(sum(planned.bytes.values()), rel=1e-3)
    assert all(stage["low"] < stage["seconds"] < stage["high"] for stage in content)


def test_more_memory_than_there_is_is_a_warning(values, monkeypatch):
    """A stage that takes more memory than is available is named, with the param that lowers it."""
    settings = params.parse(values | {"baseline": values["baseline"] | {"batch_size": 4096}})
    content = plan.Content("folder", 200, 10**6, {("cat", ""): 100, ("dog", ""): 100})
    monkeypatch.setattr(plan.platforms, "available_memory", lambda: 2**30)
    assert any("`baseline.batch_size`" in line for line in plan_text.notes(plan.make(settings, content)))
    monkeypatch.setattr(plan.platforms, "available_memory", lambda: 2**50)
    assert not any("memory" in warning for warning in plan.make(settings, content).warnings)


def test_a_network_without_known_costs_is_named(values):
    """What no estimate has, as a network of timm's that the table lacks, is said, in six lines and in the table of stages."""
    settings = params.parse(values | {"backbones": ["mobilenet_v3_small", "timm/test_vit"]})
    planned = plan.make(settings, plan.Content("folder", 200, 10**6, {("cat", ""): 100, ("dog", ""): 100}))
    for text in (plan_text.lines(planned), plan_text.notes(planned)):
        (note,) = [line for line in text if "not in the estimates" in line]
        assert "timm/test_vit" in note
        assert "mobilenet_v3_small" not in note
