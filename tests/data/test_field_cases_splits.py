"""What people meet when they split small folders: classes in every split, counts that hold, images that stay."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom import cli
from darkroom.data import manifest
from tests.conftest import ROOT
from tests.skeletons import enter_skeleton

MANIFEST = Path("data/ingested/manifest.parquet")


def add(folder: Path, label: str, count: int, first: int = 0) -> None:
    """Write random images of a class."""
    (folder / label).mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        pixels = np.random.default_rng([ord(label[0]), i]).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / label / f"{i:03}.png")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Return a project with a folder of photographs, two classes of 50."""
    enter_skeleton(tmp_path, monkeypatch)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    for label in ("cat", "dog"):
        add(tmp_path / "photos", label, 50)
    return tmp_path


def use_photos(*recipe: str) -> None:
    assert cli.main(["recipe", *recipe, "--data", "photos", "--set", "backbones=[]", "ingest.image_size=32"]) == 0


def ingest() -> dict[str, str]:
    """Run the stage; return the split of each image."""
    assert cli.main(["ingest"]) == 0
    return {row.path: row.split for row in manifest.read(MANIFEST)}


@pytest.mark.parametrize("recipe", [("photos",), ("cifar10-cnn",), ()])
def test_two_classes_of_fifty_have_their_shares(project, recipe):
    """`--data`, with a recipe or without one, gives each class 35, 5 and 10 images."""
    use_photos(*recipe)
    splits = ingest()
    for label in ("cat", "dog"):
        counts = Counter(split for path, split in splits.items() if path.startswith(label))
        assert counts == {"train": 35, "val": 5, "test": 10}


def test_added_images_move_none_that_is_frozen(project, capsys):
    """Freeze, add, ingest: all stay, also under another name, and the shares are met with the new ones."""
    use_photos("photos")
    before = ingest()
    assert cli.main(["splits", "freeze"]) == 0
    assert "100 lines added, 100 in all (70 train, 10 val, 20 test)" in capsys.readouterr().out
    frozen = Path("data/splits.csv").read_bytes()
    for label in ("cat", "dog"):
        add(project / "photos", label, 50, first=50)
    (project / "photos" / "cat" / "000.png").rename(project / "photos" / "cat" / "renamed.png")
    after = ingest()
    output = capsys.readouterr().out
    assert "100 images have their split from data/splits.csv" in output
    assert "changed their split" not in output
    assert "warning" not in output
    assert Counter(after.values()) == {"train": 140, "val": 20, "test": 40}
    assert after["cat/renamed.png"] == before.pop("cat/000.png")
    assert all(after[path] == split for path, split in before.items())
    assert Path("data/splits.csv").read_bytes() == frozen


@pytest.mark.slow
def test_images_that_move_are_named_and_can_be_put_back(project, capsys):
    """Another seed moves images: ingest says how many and which, and `freeze --before` restores them."""
    use_photos("photos")
    before = ingest()
    assert cli.main(["splits", "freeze", "--before"]) == 2
    assert cli.main(["recipe", "--set", "ingest.seed=1"]) == 0
    capsys.readouterr()
    moved = ingest()
    output = capsys.readouterr().out
    count = sum(before[path] != split for path, split in moved.items())
    assert f"warning: {count} images changed their split since the last ingest (" in output
    assert next(path for path, split in moved.items() if before[path] != split) in output
    assert cli.main(["splits", "freeze", "--before"]) == 0
    assert ingest() == before


@pytest.mark.slow
def test_the_same_source_keeps_its_way_of_splitting(project):
    """`recipe --data` of the folder that params.yaml names already leaves a chosen `split_by` alone; another folder does not."""
    use_photos()
    assert cli.main(["recipe", "--set", "ingest.split_by=hash"]) == 0
    use_photos()
    assert "split_by: hash" in Path("params.yaml").read_text()
    (project / "photos").rename(project / "others")
    assert cli.main(["recipe", "--data", "others"]) == 0
    assert "split_by: stratified" in Path("params.yaml").read_text()


def test_a_small_class_is_in_every_split_or_named(project, capsys):
    """Three images are enough for all splits; a class of two is named with the reason."""
    add(project / "photos", "fox", 3)
    add(project / "photos", "owl", 2)
    use_photos("photos")
    splits = ingest()
    assert sorted(split for path, split in splits.items() if path.startswith("fox")) == ["test", "train", "val"]
    output = capsys.readouterr().out
    assert "owl has no image for val and test: it has 2 images to divide, and 3 are needed; add images" in output
    assert output.count("has no image for") == 1


def test_a_folder_with_its_own_test_keeps_it(project, capsys):
    """Images of a ready `test` folder stay there whatever is frozen, and validation comes out of train."""
    for name, first in (("train", 0), ("test", 100)):
        for label in ("cat", "dog"):
            add(project / "ready" / name, label, 20, first)
    assert cli.main(["recipe", "photos", "--data", "ready", "--set", "backbones=[]", "ingest.image_size=32"]) == 0
    splits = ingest()
    assert Counter(splits.values()) == {"train": 36, "val": 4, "test": 40}
    Path("data").joinpath("splits.csv").write_text("image,split\ntest/cat/100.png,train\ntrain/cat/000.png,val\ngone.png,val\n")
    capsys.readouterr()
    splits = ingest()
    output = capsys.readouterr().out
    assert (splits["test/cat/100.png"], splits["train/cat/000.png"]) == ("test", "val")
    assert Counter(splits.values()) == {"train": 36, "val": 4, "test": 40}
    assert "test/cat/100.png (frozen to train, now test)" in output
    assert "1 line of data/splits.csv names no image that is used: gone.png" in output
