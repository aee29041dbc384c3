"""What people's folders mean: a case a row, each a kind that users of such programs report.

Classes and splits are those that a person means; what has two meanings is a question, never a guess.
"""

from __future__ import annotations

import io
import json
import os
import re
import socket
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from darkroom.core.errors import SourceError
from darkroom.data import class_names, decoding, heif, label_fixes, split_names, zip_names
from darkroom.data.sources import Source, open_source
from darkroom.preflight import source_files
from tests.data.test_ingest import elsewhere, read  # noqa: F401


def draw(path: Path, seed: int, side: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def tree(root: Path, *folders: str, count: int = 2) -> Path:
    """Draw images into folders; `{a,b}` stands for each of them."""
    number = 0
    for folder in folders:
        head, _, tail = folder.partition("{")
        inner, _, rest = tail.partition("}")
        for name in [head + part + rest for part in inner.split(",")] if tail else [folder]:
            if "{" in name:
                tree(root, name, count=count)
                continue
            for i in range(count):
                number += 1
                draw(root / name / f"{i:03}.png", number + 1000 * len(name))
    return root


def understood(source: Source) -> dict[str, int]:
    """Return the number of images of each `split/class`."""
    used = [file for file in source.files if not file.ignored and not file.refused]
    return dict(Counter(f"{file.split}/{file.label}" for file in used))


def meaning(path: Path, class_folder="auto") -> tuple[set[str], str]:
    with open_source(path, class_folder=class_folder) as source:
        return set(understood(source)), " | ".join(source.notes)


SPLIT_NAMES = [
    ("Training", "Testing"), ("train2017", "val2017"), ("train", "validate", "test"), ("train", "dev"),
    ("train_images", "test_images"), ("seg_train", "seg_test"), ("trn", "tst"), ("train", "eval"), ("TRAIN", "VAL", "TEST"),
    ("01_train", "02_val", "03_test"),
    ("images-train", "images-test"), ("train-set", "test-set"), ("my dataset train", "my dataset test"),
    ("trainset", "testset"), ("TrainImages", "TestImages"), ("tr", "va", "te"), ("train", "hold-out"), ("X_train", "X_test"),
    ("trainval", "test"), ("train.v2", "test.v2"),
    ("训练集", "测试集"), ("学習", "テスト"), ("entrenamiento", "validación", "prueba"), ("train", "val", "eval"),
    ("TrAiN", "tEsT"),
    ("Training Data", "Validation Data"), ("flowers-train-v1", "flowers-valid-v1"),
    ("Trainingsmenge", "Testmenge"), ("Lerndaten", "Prüfdaten"), ("learning set", "essai"), ("trn", "vld", "tst"),
    ("entreno", "prueba"), ("eğitim", "doğrulama", "test"), ("träning", "testning"), ("entrenar", "probar"),
]  # fmt: skip


@pytest.mark.parametrize("names", SPLIT_NAMES, ids="+".join)
def test_folders_named_like_splits_are_splits(tmp_path, names):
    """Every spelling of train, validation and test makes splits of folders, never classes, and it is said."""
    classes, notes = meaning(tree(tmp_path / "s", *(f"{name}/{{cats,dogs}}" for name in names)))
    assert {label.split("/")[1] for label in classes} == {"cats", "dogs"}
    assert len({label.split("/")[0] for label in classes}) == len(names)
    assert "are splits" in notes


LAYOUTS = {
    "images/train": (["images/{train,val}/cat", "images/{train,val}/dog"], {"train/cat", "train/dog", "val/cat", "val/dog"}),
    "train/images": (["{train,test}/images/cat", "{train,test}/images/dog"], {"train/cat", "train/dog", "test/cat", "test/dog"}),
    "doubled": (["seg_train/seg_train/{a,b}", "seg_test/seg_test/{a,b}", "seg_pred/seg_pred"],
                {"train/a", "train/b", "test/a", "test/b"}),
    "test without classes": (["train/{cat,dog}", "test1"], {"train/cat", "train/dog"}),
    "doubled, test without classes": (["train/train/{cat,dog}", "test1/test1"], {"train/cat", "train/dog"}),
    "unlabelled": (["train/{cat,dog}", "test/{cat,dog}", "unlabeled"], {"train/cat", "train/dog", "test/cat", "test/dog"}),
    "splits in classes": (["cat/{train,test}", "dog/{train,test}"], {"train/cat", "train/dog", "test/cat", "test/dog"}),
    "train, bus, car": (["train", "bus", "car"], {"/train", "/bus", "/car"}),
    "test_tube": (["test_tube", "training_shoes"], {"/test_tube", "/training_shoes"}),
    "valley, trainer": (["valley", "trainer", "test_tube"], {"/valley", "/trainer", "/test_tube"}),
    "valid, invalid": (["valid", "invalid"], {"/valid", "/invalid"}),
    "blood and urine tests": (["blood_test", "urine_test"], {"/blood_test", "/urine_test"}),
    "deeper folders": (["animals/{cat,dog}", "vehicles/{car,bus}"], {"/animals", "/vehicles"}),
    "one camera each": (["cat/camera", "dog/camera"], {"/cat", "/dog"}),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_mean_what_people_mean(tmp_path, case):
    """Wrapped splits, splits in classes and classes with names like splits are read as they are meant."""
    folders, expected = LAYOUTS[case]
    assert meaning(tree(tmp_path / "s", *folders))[0] == expected


QUESTIONS = {
    "folds": (["fold1/{cat,dog}", "fold2/{cat,dog}"], "folds of a cross-validation"),
    "folds and test": (["fold_0/{cat,dog}", "fold_1/{cat,dog}", "test/{cat,dog}"], "folds of a cross-validation"),
    "cv-1": (["cv-1/{cat,dog}", "cv-2/{cat,dog}"], "folds"),
    "wrapped folds": (["images/split1/{cat,dog}", "images/split2/{cat,dog}"], "folds"),
    "the same subfolders": (["cat/{indoor,outdoor}", "dog/{indoor,outdoor}"], "either level"),
    "the same subfolders in splits": (["train/cat/{day,night}", "train/dog/{day,night}"], "either level"),
    "nearly the same": (["2019/{oak,maple}", "2020/{oak,birch}", "2021/{oak,maple,birch}"], "either level"),
    "sites with splits": (["a/train/{x,y}", "a/test/{x,y}", "b/train/{x,y}", "b/test/{x,y}"], "either may be the classes"),
    "domains": (["amazon/images/{mug,pen}", "webcam/images/{mug,pen}"], "either level"),
    "two train folders": (["train_1/{cat,dog}", "train_2/{cat,dog}", "test/{cat,dog}"], "all mean the split train"),
    "no train": (["dev/{cat,dog}", "test/{cat,dog}"], "no train folder"),
    "class and split in a name": (["cats_train", "cats_test", "dogs_train", "dogs_test"], "splits of several things"),
    "splits without classes": (["train", "test"], "no class folders"),
    "splits in one class of two": (["cat/{train,test}", "dog"], "cat holds test, train, which are named like splits"),
    "a data set beside a folder": (["pets/{train,test}/{cat,dog}", "more"], "and beside it is more"),
    "splits and masks in a data set": (["pets/{train,test,mask}/{cat,dog}", "other/{x,y}"], "pets holds mask, test, train"),
    "folds in train": (["train/fold1/{cat,dog}", "train/fold2/{cat,dog}", "test/{cat,dog}"], "folds of a cross-validation"),
    "test in train": (["train/{cat,dog}", "train/test/{cat,dog}"], "test lies in the folder of a split"),
    "classes in test alone": (["train", "test/{cat,dog}"], "train is named like a split, and has no class folders"),
    "images and masks": (["images/{train,test}/a", "masks/{train,test}/a"], "no names of classes"),
    "splits beside others": (["train/{cat,dog}", "test/{cat,dog}", "extra_stuff"], "and beside them"),
}  # fmt: skip


@pytest.mark.parametrize("case", QUESTIONS)
def test_layouts_with_two_meanings_are_a_question(tmp_path, case):
    """Folds, equal subfolders and splits beside other folders are refused, with the question and a remedy."""
    folders, message = QUESTIONS[case]
    with pytest.raises(SourceError, match=message) as error:
        meaning(tree(tmp_path / "s", *folders))
    assert error.value.remedy


def test_a_person_says_which_folder_is_the_class(tmp_path):
    """`ingest.class_folder` answers the question: the upper folder, or the one around the image."""
    assert meaning(tree(tmp_path / "u", "cat/{train,test}", "dog"), "first")[0] == {"/cat", "/dog"}
    source = tree(tmp_path / "s", "cat/{indoor,outdoor}", "dog/{indoor,outdoor}")
    assert meaning(source, "first")[0] == {"/cat", "/dog"}
    assert meaning(source, "last")[0] == {"/indoor", "/outdoor"}
    assert set(read(tree(tmp_path / "t", "a/{x,y}", "b/{x,y}", count=20), class_folder="last").classes) == {"x", "y"}


def test_an_empty_folder_of_a_split_is_named(tmp_path):
    """A test folder without images does not silently become a test split that is drawn."""
    source = tree(tmp_path / "s", "train/{cat,dog}")
    (source / "test").mkdir()
    assert "the folder test holds no image" in meaning(source)[1]
    assert "holds no image" not in meaning(tree(tmp_path / "t", "cat", "train"))[1]


def test_an_archive_has_the_same_meaning(tmp_path):
    """A zip of split folders, wrapped or not, is read as the folder is."""
    folder = tree(tmp_path / "s", "seg_train/{cat,dog}", "seg_test/{cat,dog}")
    for top in ("", "pets/images/"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for file in sorted(folder.rglob("*.png")):
                archive.write(file, top + file.relative_to(folder).as_posix())
        assert meaning(tmp_path / "a.zip")[0] == meaning(folder)[0]


def test_names_of_splits_are_told_from_other_words():
    """A word for a split counts as a whole word, or with a word that any folder has."""
    for name in ("valley", "trainer", "contest", "devil", "testament", "evaluator", "latest", "interval", "strain"):
        assert split_names.read_name(name) is None, name
    for name, kind in {
        "testset": "test",
        "ValImages": "val",
        "train_2": "train",
        "held out": "test",
        "no label": "unlabelled",
    }.items():
        assert split_names.read_name(name).kind == kind, name
    assert [split_names.fold_of(name) for name in ("fold1", "cv-3", "Fold_B", "split 2", "foldable1", "blindfold")] == [
        "1",
        "3",
        "b",
        "2",
        "",
        "",
    ]


def label(i: int) -> str:
    return ("cat", "dog")[i % 2]


def rows(template, count=20) -> str:
    return "".join(template(i) + "\n" for i in range(count))


TABLES = {
    "category": ("labels.csv", "filename,category\n" + rows(lambda i: f"images/{i:03}.png,{label(i)}")),
    "breed by id": ("labels.csv", "id,breed\n" + rows(lambda i: f"{i:03},{label(i)}")),
    "numbers as ids": ("labels.csv", "image_id,species\n" + rows(lambda i: f"{i},{label(i)}")),
    "class_name": ("labels.csv", "Image Name,Class Name\n" + rows(lambda i: f"{i:03}.png,{label(i)}")),
    "sep line": ("labels.csv", "sep=;\npath;label\n" + rows(lambda i: f"images/{i:03}.png;{label(i)}")),
    "pipe": ("labels.csv", "path|label\n" + rows(lambda i: f"images/{i:03}.png|{label(i)}")),
    "tab": ("labels.tsv", "path\tlabel\n" + rows(lambda i: f"images/{i:03}.png\t{label(i)}")),
    "no header": ("labels.csv", rows(lambda i: f"images/{i:03}.png,{label(i)}")),
    "list of words": ("list.txt", rows(lambda i: f"images/{i:03}.png {label(i)}")),
    "one-hot": ("labels.csv", "filename,cat,dog\n" + rows(lambda i: f"images/{i:03}.png,{1 - i % 2}.0,{i % 2}.0")),
    "double slash": ("labels.csv", "path,label\n" + rows(lambda i: f"images//{i:03}.png,{label(i)}")),
    "backslash": ("labels.csv", "path,label\n" + rows(lambda i: f".\\images\\{i:03}.png,{label(i)}")),
    "dots": ("labels.csv", "path,label\n" + rows(lambda i: f"x/../images/{i:03}.png,{label(i)}")),
    "addresses": ("labels.csv", "url,label\n" + rows(lambda i: f"https://example.org/a/{i:03}.png,{label(i)}")),
    "a folder that is not there": ("labels.csv", "path,label\n" + rows(lambda i: f"C:\\me\\pets\\images\\{i:03}.png,{label(i)}")),
    "other case": ("labels.csv", "path,label\n" + rows(lambda i: f"Images/{i:03}.PNG,{label(i)}")),
    "lines of JSON": ("metadata.jsonl", rows(lambda i: json.dumps({"file_name": f"images/{i:03}.png", "label": label(i)}))),
    "JSON": ("labels.json", json.dumps({f"{i:03}.png": label(i) for i in range(20)})),
    "an unknown name": ("labels.csv", "filename,kind\n" + rows(lambda i: f"images/{i:03}.png,{label(i)}")),
    "numbers and names": ("labels.csv", "path,class id,label\n" + rows(lambda i: f"images/{i:03}.png,{i % 2},{label(i)}")),
    "German": ("labels.csv", "Dateiname;Klasse;Bemerkung\n" + rows(lambda i: f"{i:03}.png;{label(i)};n{i}")),
    "spaces before quotes": ("labels.csv", '"path", "label"\n' + rows(lambda i: f'"images/{i:03}.png", "{label(i)}"')),
    "index column": ("labels.csv", ",path,label\n" + rows(lambda i: f"{i},images/{i:03}.png,{label(i)}")),
    "id as label": ("train.csv", "Image,Id\n" + rows(lambda i: f"{i:03}.png,{label(i)}")),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_are_understood_as_people_write_them(tmp_path, case, encoding):
    """Usual names of columns, separators, encodings and spellings of paths give the labels that are meant."""
    name, text = TABLES[case]
    source = tree(tmp_path / "s", "images", count=20)
    (source / name).write_bytes(text.encode(encoding))
    with open_source(source) as opened:
        assert understood(opened) == {"/cat": 10, "/dog": 10}
        assert not opened.missing
        assert name in opened.notes[0]


def test_absolute_paths_below_the_source_are_found(tmp_path):
    """A table with the source's own path names its files, also by way of a link to the source."""
    source = tree(tmp_path / "s", "images", count=20)
    (tmp_path / "link").symlink_to(source)
    (source / "labels.csv").write_text("path,label\n" + rows(lambda i: f"{source}/images/{i:03}.png,{label(i)}"))
    assert meaning(source)[0] == meaning(tmp_path / "link")[0] == {"/cat", "/dog"}


def test_folders_of_batches_are_no_classes_beside_a_table(tmp_path):
    """With a table of labels the batches are none; with one that is not understood there is an error that names it."""
    source = tree(tmp_path / "s", "batch1", "batch2", count=10)
    path = lambda i: f"batch{i // 10 + 1}/{i % 10:03}.png"  # noqa: E731
    (source / "labels.csv").write_text("filename,target\n" + rows(lambda i: f"{path(i)},{label(i)}"))
    assert meaning(source)[0] == {"/cat", "/dog"}
    (source / "labels.csv").write_text("filename,kind,mood\n" + rows(lambda i: f"{path(i)},{label(i)},{i % 3}"))
    with pytest.raises(SourceError, match=r"labels.csv has the columns filename, kind, mood.*batch1"):
        meaning(source)
    (source / "labels.csv").unlink()
    assert "look like batches" in meaning(source)[1]


def test_tables_give_splits_and_groups_in_any_spelling(tmp_path):
    """A column of splits, one table a split, a table in each folder, is_valid: each gives the splits that it means."""
    source = tree(tmp_path / "s", "images", count=20)
    spelling = ["TRAIN", "Training", "Validation", "tst"]
    (source / "labels.csv").write_text("path,label,subset\n" + rows(lambda i: f"images/{i:03}.png,{label(i)},{spelling[i % 4]}"))
    assert {name.split("/")[0] for name in meaning(source)[0]} == {"train", "val", "test"}
    (source / "labels.csv").write_text("path,label,is_valid\n" + rows(lambda i: f"images/{i:03}.png,{label(i)},{i % 5 == 0}"))
    assert {name.split("/")[0] for name in meaning(source)[0]} == {"train", "val"}
    (source / "labels.csv").write_text(
        "path,label,patient_id,fold\n" + rows(lambda i: f"images/{i:03}.png,{label(i)},p{i // 4},{i % 5}")
    )
    with open_source(source) as opened:
        assert {file.group for file in opened.files if file.label} == {f"p{i}" for i in range(5)}
    (source / "labels.csv").write_text("path,label,split\n" + rows(lambda i: f"images/{i:03}.png,{label(i)},{'AB'[i % 2]}"))
    with pytest.raises(SourceError, match="has the split 'A'"):
        meaning(source)
    (source / "labels.csv").unlink()
    (source / "train.csv").write_text("id,label\n" + rows(lambda i: f"{i:03},{label(i)}", 14))
    (source / "val.csv").write_text("id,label\n" + "".join(f"{i:03},{label(i)}\n" for i in range(14, 20)))
    (source / "sample_submission.csv").write_text("id,label\n" + rows(lambda i: f"{i:03},cat"))
    assert meaning(source)[0] == {"train/cat", "train/dog", "val/cat", "val/dog"}


SPLIT_COLUMNS = {
    "train": (lambda i: str(i % 4 > 0), {"train", "test"}),
    "Test": (lambda i: f"{int(i % 4 == 0)}", {"train", "test"}),
    "train,val,test": (lambda i: ("1,0,0", "0,1,0", "0,0,1")[i % 3], {"train", "val", "test"}),
    "is_valid,is_test": (lambda i: ("0,0", "1,0", "0,1")[i % 3], {"train", "val", "test"}),
    "data_type": (lambda i: ("training", "validation", "test")[i % 3], {"train", "val", "test"}),
    "purpose": (lambda i: ("learn", "exam", "learn")[i % 3], {""}),
}  # fmt: skip


@pytest.mark.parametrize("title", SPLIT_COLUMNS)
def test_columns_of_splits_are_found_by_their_values(tmp_path, title):
    """Columns of yes and no named for splits, and a column of split words with any name, are the splits."""
    source = tree(tmp_path / "s", "images", count=24)
    value, splits = SPLIT_COLUMNS[title]
    (source / "labels.csv").write_text(
        f"path,label,{title}\n" + rows(lambda i: f"images/{i:03}.png,{label(i // 4)},{value(i)}", 24)
    )
    names, notes = meaning(source)
    assert {name.split("/")[0] for name in names} == splits
    assert title.split(",")[0] in notes or splits == {""}


@pytest.mark.parametrize(
    ("title", "value", "message"),
    [
        ("partition", lambda i: f"{i % 3}", "has the split '0'"),
        ("train,test", lambda i: "1,1", "several, in train, test"),
        ("v1,v2", lambda i: ("train,test", "test,train")[i % 2], "v1 and v2 of the table labels.csv may each be the split"),
    ],
)
def test_columns_of_splits_with_two_meanings_are_a_question(tmp_path, title, value, message):
    """Numbers for splits, a line in two splits, two columns of splits: an error, and no draw over them."""
    source = tree(tmp_path / "s", "images", count=20)
    (source / "labels.csv").write_text(f"path,label,{title}\n" + rows(lambda i: f"images/{i:03}.png,{label(i)},{value(i)}"))
    with pytest.raises(SourceError, match=message):
        meaning(source)


@pytest.mark.parametrize(
    ("title", "value"), [("train,test", lambda i: f"{i % 2},{1 - i % 2}"), ("usage of it", lambda i: ("train", "test")[i % 2])]
)
def test_splits_are_no_classes(tmp_path, title, value):
    """A table of splits alone never makes classes of them."""
    source = tree(tmp_path / "s", "images", count=20)
    (source / "parts.csv").write_text(f"path,{title}\n" + rows(lambda i: f"images/{i:03}.png,{value(i)}"))
    with pytest.raises(SourceError, match=r"parts.csv .* no column is known as the label"):
        meaning(source)


def test_one_hot_classes_named_like_splits_are_classes(tmp_path):
    """In a table of a column for each class, `train` and `bus` are classes."""
    source = tree(tmp_path / "s", "images", count=20)
    (source / "labels.csv").write_text("path,coach,bus\n" + rows(lambda i: f"images/{i:03}.png,{i % 2},{1 - i % 2}"))
    assert meaning(source)[0] == {"/coach", "/bus"}
    (source / "labels.csv").write_text(
        "path,train,bus,tram\n" + rows(lambda i: f"images/{i:03}.png,{int(i % 3 == 0)},{int(i % 3 == 1)},{int(i % 3 == 2)}")
    )
    assert meaning(source)[0] == {"/train", "/bus", "/tram"}


def test_a_table_in_another_code_page_and_json_of_another_form_are_named(tmp_path):
    """Text that is not UTF-8 is shown as it was read; JSON that lists no labels is named, and no sidecar is."""
    source = tree(tmp_path / "s", "images", count=20)
    (source / "labels.csv").write_bytes(
        ("path,label\n" + rows(lambda i: f"images/{i:03}.png,{('猫', '犬')[i % 2]}")).encode("cp932")
    )
    assert "labels.csv is not in UTF-8, and is read as cp1252" in meaning(source)[1]
    (source / "labels.csv").unlink()
    (source / "coco.json").write_text(json.dumps({"images": [{"id": 1}], "annotations": [], "categories": []}))
    with pytest.raises(SourceError, match=r"coco.json has no records"):
        meaning(source)
    classes = tree(tmp_path / "t", "cat", "dog")
    draw(classes / "1.png", 1)
    for name in ("1.json", "1.png.json", "1.png.supplemental-metadata.json"):
        (classes / name).write_text(json.dumps({"title": "1", "time": {"x": 1}}))
    assert "json" not in meaning(classes)[1]


def test_a_table_in_each_folder_is_one_table(tmp_path):
    """Hugging Face's metadata in train and test: labels from both, splits from the folders."""
    source = tree(tmp_path / "s", "train", "test", count=10)
    for split in ("train", "test"):
        (source / split / "metadata.csv").write_text("file_name,label\n" + rows(lambda i: f"{i:03}.png,{label(i)}", 10))
    assert meaning(source)[0] == {"train/cat", "train/dog", "test/cat", "test/dog"}


def test_a_table_that_covers_a_part_of_class_folders_is_a_question(tmp_path):
    """A note about some images does not silently leave out the others; beside folders of other labels it needs all."""
    source = tree(tmp_path / "s", "cat", "dog", count=15)
    (source / "to_check.csv").write_text(
        "path,label,note\n" + "".join(f"{c}/{i:03}.png,{c},blurred\n" for c in ("cat", "dog") for i in range(6))
    )
    with pytest.raises(SourceError, match=r"to_check.csv names 12 of the 30 images in the folders cat, dog"):
        meaning(source)
    (source / "to_check.csv").write_text(
        "path,label\n" + "".join(f"{c}/{i:03}.png,{q}\n" for c, q in (("cat", "sharp"), ("dog", "blurred")) for i in range(6))
    )
    with pytest.raises(SourceError, match="names 12 of the 30"):
        meaning(source)
    (source / "to_check.csv").write_text(
        "path,iso,lens\n" + "".join(f"{c}/{i:03}.png,{i},50\n" for c in ("cat", "dog") for i in range(6))
    )
    labels, notes = meaning(source)
    assert labels == {"/cat", "/dog"}
    assert "to_check.csv has the columns path, iso, lens" in notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,species,breed\n" + rows(lambda i: f"images/{i:03}.png,{label(i)},b{i % 5}"), "may each be the label"),
        ("path,target\n" + rows(lambda i: f"images/{i:03}.png,{i * 0.73}", 60), "60 different values"),
        ("path,cat,dog\n" + rows(lambda i: f"images/{i:03}.png,1,1"), "several classes"),
        ("path,label\n" + rows(lambda i: f"pictures/x{i:03}.png,{label(i)}"), "none of them exists"),
        ("when,weather\nmonday,rain\n", "none names an image"),
    ],
)
def test_tables_that_are_not_understood_are_named(tmp_path, text, message):
    """Two label columns, numbers that are measured, several classes: an error with the table and its columns."""
    source = tree(tmp_path / "s", "images", count=60)
    (source / "labels.csv").write_text(text)
    with pytest.raises(SourceError, match=message) as error:
        meaning(source)
    assert "labels.csv" in error.value.problem


def test_no_label_and_whole_numbers(tmp_path):
    """NaN, null and an empty cell are no label; 1.0 in a column with empty cells is 1; None is a class, and said so."""
    source = tree(tmp_path / "s", "images", count=20)
    (source / "labels.csv").write_text(
        "path,label\n" + rows(lambda i: f"images/{i:03}.png,{['1.0', '2.0', 'NaN', 'null', ''][i % 5]}")
    )
    with open_source(source) as opened:
        assert understood(opened) == {"/1": 4, "/2": 4}
        assert Counter(file.refused for file in opened.files)["unlabelled"] == 12
    (source / "labels.csv").unlink()
    values = [None if i % 5 == 0 else i % 2 for i in range(20)]
    pq.write_table(
        pa.table({"image": [f"{i:03}.png" for i in range(20)], "y": pa.array(values, pa.float64())}), source / "labels.parquet"
    )
    assert meaning(source)[0] == {"/0", "/1"}
    (source / "labels.parquet").unlink()
    (source / "labels.csv").write_text("path,label\n" + rows(lambda i: f"images/{i:03}.png,{['None', 'crack'][i % 2]}"))
    assert '"None" is a class' in meaning(source)[1]


def test_classes_that_come_to_nothing_are_named(tmp_path, capsys):
    """An empty folder, too small images, copies of another class, a hidden folder: each class is named with its reason."""
    source = tree(tmp_path / "s", "cat", "dog", ".NET", count=30)
    (source / "empty").mkdir()
    for i in range(3):
        draw(source / "small" / f"{i}.png", 900 + i, side=6)
    (source / "copies").mkdir()
    (source / "copies" / "0.png").write_bytes((source / "cat" / "000.png").read_bytes())
    (source / "words").mkdir()
    (source / "words" / "notes.txt").write_text("x")
    data = read(source)
    reasons = {lost.label: lost.reason for lost in data.lost_classes()}
    assert set(reasons) == {"empty", "small", "copies", "words"}
    assert "no image" in reasons["empty"]
    assert "too_small" in reasons["small"]
    assert "label_conflict" in reasons["copies"]
    assert any(".NET is hidden" in note and "30 images" in note for note in data.source.notes)


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("{}.heic", b"\0\0\0\x18ftypheic" + bytes(60), "remove the folder" if heif.VERSION else "pip install pi-heif"),
        ("{}.jpg", b"\0\0\0\x18ftypmif1" + bytes(60), "remove the folder" if heif.VERSION else "pip install pi-heif"),
        ("{}.CR2", b"II*\0\x10\0\0\0CR\x02\0" + bytes(60), "develops"),
        ("{}.jxl", b"\xff\x0a" + bytes(60), "magick"),
        ("{}.jpg", b"\xff\xd8\xff" + bytes(60), "remove the folder"),
    ],
)
def test_a_class_of_which_no_file_can_be_read_is_an_error(tmp_path, name, content, remedy):
    """A folder of HEIC, raw or damaged photographs is no class without images: the error names it and the way."""
    source = tree(tmp_path / "s", "cat", "dog", count=40)
    (source / "bird").mkdir()
    for i in range(3):
        (source / "bird" / name.format(i)).write_bytes(content + bytes([i]))
    with pytest.raises(SourceError, match='"bird"') as error:
        read(source)
    assert remedy in error.value.remedy


def test_heic_is_read_with_its_extra(tmp_path):
    """With pi-heif a HEIC photograph is decoded like another; without it the package is named."""
    assert ("HEIF" in decoding.FORMATS) == bool(heif.VERSION)
    pytest.importorskip("pi_heif")
    encoder = pytest.importorskip("pillow_heif")
    encoder.from_pillow(Image.new("RGB", (64, 48), (200, 30, 30))).save(tmp_path / "a.heic", quality=90)
    decoded = decoding.decode((tmp_path / "a.heic").read_bytes(), 32, "crop", (0, 0, 0))
    assert decoded.format == "HEIF"
    assert abs(decoded.pixels.astype(int) - (200, 30, 30)).max() < 12


def test_links_to_files_and_folders_are_followed(tmp_path):
    """Links out of the source, as DVC and people make them, are images; a loop, and a folder twice, are not."""
    store = tree(tmp_path / "store", "cat", "dog", "bird", count=14)
    for name in ("cat", "dog"):
        (tmp_path / "s" / name).mkdir(parents=True)
        for file in (store / name).iterdir():
            (tmp_path / "s" / name / file.name).symlink_to(file)
    (tmp_path / "s" / "bird").symlink_to(store / "bird")
    (tmp_path / "s" / "cat" / "loop").symlink_to(tmp_path / "s")
    (tmp_path / "s" / "dog" / "again").symlink_to(tmp_path / "s" / "cat")
    (tmp_path / "s" / "fowl").symlink_to(store / "bird")
    with open_source(tmp_path / "s") as source:
        assert understood(source) == {"/cat": 14, "/dog": 14, "/bird": 14}
        refused = {file.path: file.refused for file in source.files if file.refused}
        assert refused == {"cat/loop": "linked_folder", "dog/again": "linked_folder", "fowl": "linked_folder"}
        assert any("bird is a link to a folder" in note for note in source.notes)


def test_what_is_no_file_is_named_before_anything_runs(tmp_path):
    """What DVC fails on, or waits for, is found by `check`; ingest lists it and goes on, and opens no pipe."""
    source = tree(tmp_path / "s", "cat", "dog", count=14)
    source_files.check(source)
    hostile = {
        "dangling": lambda path: path.symlink_to("/nonexistent/x.jpg"),
        "itself": lambda path: path.symlink_to(path),
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        ".dvcignore": lambda path: path.write_text("*.tmp"),
        "caf\udce9": lambda path: Path(path).write_bytes(b"x"),
        "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    }
    for name, make in hostile.items():
        path = source / "cat" / (name if name.startswith(".") else f"{name}.jpg")
        make(path)
        with pytest.raises(SourceError) as error:
            source_files.check(source)
        assert (name if name.isascii() else "caf") in error.value.problem
        assert error.value.remedy
        with open_source(source) as opened:
            assert len(understood(opened)) == 2
        path.unlink()


SIDECARS = ["json", "xmp", "MOV", "CR2", "txt", "aae", "jpg_original", "pp3", "THM", "heic", "mp4", "xml"]


@pytest.mark.parametrize("suffix", SIDECARS)
def test_a_file_beside_every_photograph_is_ignored(tmp_path, suffix):
    """Sidecars of photo programs are ignored with a reason: none counts as an image that cannot be used."""
    source = tree(tmp_path / "s", "cat", "dog", count=12)
    for file in sorted(source.rglob("*.png")):
        file.with_suffix(f".{suffix}").write_bytes(b"II*\0\x10\0\0\0CR\x02\0" + bytes(20))
    with open_source(source) as opened:
        assert understood(opened) == {"/cat": 12, "/dog": 12}
        assert {file.ignored for file in opened.files} <= {"", "no_image", "sidecar"}


@pytest.mark.parametrize("suffix", ["LRF", "onphoto", "zone.identifier", "luminar", "fsv", "never_heard_of"])
def test_a_file_of_an_unknown_kind_that_is_no_image_is_ignored(tmp_path, suffix):
    """A name with an unknown suffix is judged by its content: an image is used, anything else counts as no image."""
    source = tree(tmp_path / "s", "cat", "dog", count=20)
    for file in sorted(source.rglob("*.png")):
        file.with_suffix(f".{suffix}").write_bytes(b"settings of " + file.name.encode())
    draw(source / "cat" / "a.png", 7).rename(source / "cat" / f"a.{suffix}")
    (source / "cat" / "copy.jpg").write_bytes((source / "cat" / f"000.{suffix}").read_bytes())
    data = read(source)
    assert Counter((row.status, row.reason) for row in data.rows) == {
        ("accepted", ""): 41, ("ignored", "no_image"): 40, ("quarantined", "not_an_image"): 1,
    }  # fmt: skip
    assert set(data.classes) == {"cat", "dog"}


def test_archives_within_a_source_are_named(tmp_path):
    """An archive beside the folders is not read, and said so; where there are only archives, the remedy can be followed."""
    source = tree(tmp_path / "s", "train/{cat,dog}")
    for name in ("test", "train"):
        with zipfile.ZipFile(source / f"{name}.zip", "w") as archive:
            archive.write(source / "train" / "cat" / "000.png", "cat/000.png")
    assert "not read: test.zip;" in meaning(source)[1]
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(source / "test.zip", "test.zip")
    with pytest.raises(SourceError) as error:
        meaning(tmp_path / "outer.zip")
    assert "unpack each archive" in error.value.remedy


def test_a_folder_of_one_class_is_told_of_the_folder_above(tmp_path):
    """Naming the folder of a class instead of the data set's is an error whose remedy names the right one."""
    source = tree(tmp_path / "s", "cat", "dog")
    with pytest.raises(SourceError) as error:
        meaning(source / "cat")
    assert f"the folder above, {source}" in error.value.remedy


def test_arrays_that_are_not_used_are_named(tmp_path):
    """Of an .npz with arrays that are not understood, such as a split of each image, a warning names them."""
    images, labels = np.zeros((20, 24, 24), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "d.npz", images=images, labels=labels, split=labels)
    assert "the arrays split are not used" in meaning(tmp_path / "d.npz")[1]
    np.savez(tmp_path / "e.npz", images=images, labels=np.where(labels, np.inf, 0))
    with pytest.raises(SourceError, match="has inf"):
        meaning(tmp_path / "e.npz")


@pytest.mark.parametrize(
    "folder",
    ["@eaDir", "$RECYCLE.BIN", ".thumbnails", "__MACOSX", "lost+found", ".ipynb_checkpoints", "System Volume Information",
     "#recycle", ".dtrash", "CaptureOne", "[Originals]", "RECYCLER", "@Recycle", "Previews.lrdata"],
)  # fmt: skip
def test_folders_that_systems_make_are_no_classes(tmp_path, folder):
    """Thumbnails and wastebaskets are ignored, beside the classes and in them."""
    source = tree(tmp_path / "s", "cat", "dog", folder, f"cat/{folder}")
    with open_source(source) as opened:
        assert understood(opened) == {"/cat": 2, "/dog": 2}
        assert "hidden" not in " ".join(opened.notes)


def write_zip(path: Path, labels: list[str], encoding: str) -> Path:
    class Info(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):  # noqa: N802
            return self.filename.encode(encoding), 0

    with zipfile.ZipFile(path, "w") as archive:
        for k, text in enumerate(labels):
            for i in range(2):
                stream = io.BytesIO()
                Image.fromarray(np.random.default_rng(10 * k + i).integers(0, 256, (12, 12, 3), np.uint8)).save(stream, "PNG")
                info = Info(f"{text}/{i}.png")
                archive.writestr(info, stream.getvalue())
    return path


@pytest.mark.parametrize(
    ("labels", "encoding"),
    [
        (["りんご", "みかん"], "utf-8"), (["Äpfel", "Birnen"], "cp850"), (["りんご", "表示"], "cp932"), (["猫", "犬"], "cp932"),
        (["苹果", "香蕉"], "gbk"), (["Яблоко", "Груша"], "cp866"), (["고양이", "장미"], "cp949"), (["кошка", "собака"], "cp1251"),
        (["São", "maçã"], "cp850"),
        (["Äpfel", "Nüsse"], "cp1252"), (["cat", "dog"], "ascii"),
    ],
)  # fmt: skip
def test_names_in_a_zip_are_read_in_their_own_encoding(tmp_path, labels, encoding):
    """UTF-8 without its flag is UTF-8; a guessed code page gives the words, and is named in a warning."""
    with open_source(write_zip(tmp_path / "a.zip", labels, encoding)) as source:
        assert {file.label for file in source.files} == set(labels)
        assert bool(source.notes) == (encoding not in ("utf-8", "ascii"))


def test_a_zip_may_say_its_names_in_an_extra_field():
    """Info-ZIP's Unicode path goes before the code page, if its checksum is that of the name."""
    raw = "りんご".encode("cp932")
    info = zipfile.ZipInfo(raw.decode("cp437"))
    info.orig_filename = raw.decode("cp437")
    for checksum, expected in ((zlib.crc32(raw), "梨"), (1, "りんご")):
        field = struct.pack("<BL", 1, checksum) + "梨".encode()
        info.extra = struct.pack("<HH", 0x7075, len(field)) + field
        assert zip_names.read(Path("a.zip"), [info])[0] == [expected]


@pytest.mark.parametrize(
    "names",
    [
        ("گل\u200cها", "درخت"),
        ("赤\u3000りんご", "青りんご"),
        ("👩\u200d🌾", "🐱"),
        ("é", "è"),
        ("क्षि", "กำ"),
        ("🏴\U000e0067\U000e0062\U000e007f", "x"),
    ],
)
def test_names_that_people_write_are_accepted(tmp_path, names):
    """Joiners, wide spaces, emoji and combining marks are text; classes are in NFC."""
    labels = {name.split("/")[1] for name in meaning(tree(tmp_path / "s", *names))[0]}
    assert labels == {class_names.normalise(name) for name in names}


@pytest.mark.parametrize("name", ["a\u202eb", "a\nb", "a\x1b[31m", "\ufeffcat", "a\u2067b", "a\u2028b", "a\x85b"])
def test_names_that_command_the_screen_are_refused(tmp_path, name):
    """Control characters and those that reorder text are refused, and printed as escapes."""
    with pytest.raises(SourceError, match="cannot be shown") as error:
        meaning(tree(tmp_path / "s", name, "dog"))
    assert str(error.value).replace("\n", "").isprintable()


def test_label_fixes_are_compared_in_one_normal_form(tmp_path):
    """A fix in NFD names the class and the path that the source has in NFC, and the other way round."""
    source = tree(tmp_path / "s", "Äpfel", "Birne", count=30)
    draw(source / "Birne" / "ä.png", 77)
    (tmp_path / "fixes.csv").write_text("image,label\nBirne/a\u0308.png,A\u0308pfel\n", encoding="utf-8")
    data = read(source, fixes=label_fixes.read(tmp_path / "fixes.csv"))
    assert [row.path for row in data.rows if "label_fixed" in row.flags] == ["Birne/ä.png"]
    assert data.classes == ("Birne", "Äpfel")


ARRAYS = {
    "NaN": (lambda y: np.where(np.arange(40) < 3, np.nan, y), None, {"0", "1"}, 3),
    "whole floats": (lambda y: y.astype(float), ["cat", "dog"], {"cat", "dog"}, 0),
    "one-hot": (lambda y: np.eye(2)[y], ["cat", "dog"], {"cat", "dog"}, 0),
    "one-hot with an empty row": (lambda y: np.eye(2)[y] * (np.arange(40) > 1)[:, None], ["cat", "dog"], {"cat", "dog"}, 2),
    "a column": (lambda y: y[:, None], ["cat", "dog"], {"cat", "dog"}, 0),
    "text nan": (lambda y: np.where(np.arange(40) < 3, "nan", np.array(["cat", "dog"])[y]), None, {"cat", "dog"}, 3),
    "minus one": (lambda y: y * 2 - 1, None, {"-1", "1"}, 0),
}  # fmt: skip


@pytest.mark.parametrize("case", ARRAYS)
def test_labels_of_arrays_mean_what_they_say(tmp_path, case):
    """Whole floats are numbers, one-hot rows a class, NaN and empty rows no label."""
    make, names, expected, unlabelled = ARRAYS[case]
    images = np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), np.uint8)
    extra = {} if names is None else {"class_names": np.array(names)}
    np.savez(tmp_path / "a.npz", images=images, labels=make(np.arange(40) % 2), **extra)
    with open_source(tmp_path / "a.npz") as source:
        assert {file.label for file in source.files if not file.refused} == expected
        assert sum(file.refused == "unlabelled" for file in source.files) == unlabelled


@pytest.mark.parametrize("kind", ["float 0–255", "float 0–1", "int64", "float16 0–1"])
def test_images_of_other_types_are_scaled_where_one_scale_is_meant(tmp_path, kind):
    """Numbers from 0 to 255 and fractions from 0 to 1 give the bytes that they stand for, and it is said."""
    images = np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), np.uint8)
    other = {"float 0–255": images.astype(np.float32), "float 0–1": images / 255, "int64": images.astype(np.int64)}
    other["float16 0–1"] = (images / 255).astype(np.float16)
    np.savez(tmp_path / "a.npz", images=other[kind], labels=np.arange(40) % 2)
    with open_source(tmp_path / "a.npz") as source:
        assert np.abs(np.stack([source.read(file) for file in source.files]).astype(int) - images).max() == 0
        assert "taken as 0 to" in source.notes[0]


@pytest.mark.parametrize(
    ("images", "labels", "remedy"),
    [
        (lambda x: x / 127.5 - 1, None, r"\+ 1\) \* 127.5"),
        (lambda x: (x - 120) / 60.0, None, "std"),
        (lambda x: x / 16, None, "255 / "),
        (lambda x: x.astype(np.uint16) * 257, None, "255 / 6"),
        (lambda x: np.where(x == 0, np.nan, x), None, "nan_to_num"),
        (None, lambda y: y + 0.5, "class of each"),
        (None, lambda y: np.stack([y, y], 1), "argmax"),
    ],
)
def test_arrays_with_several_meanings_have_a_true_remedy(tmp_path, images, labels, remedy):
    """Other scales and fractions as labels are refused; following the remedy does not destroy the images."""
    x, y = np.random.default_rng(0).integers(0, 250, (40, 9, 9, 3)), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", images=images(x) if images else x.astype(np.uint8), labels=labels(y) if labels else y)
    with pytest.raises(SourceError) as error:
        meaning(tmp_path / "a.npz")
    assert re.search(remedy, error.value.remedy), error.value.remedy
