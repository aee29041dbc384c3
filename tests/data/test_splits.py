"""Splits: shares per class as exactly as groups allow, frozen images keep theirs, and what moves is named."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from darkroom.core.errors import SourceError
from darkroom.data import frozen_splits
from darkroom.data.frozen_splits import FrozenImage
from darkroom.data.source_row import SourceRow
from darkroom.data.split_warnings import describe_moves, find_moves, warnings
from darkroom.data.splits import SplitGroup, draw_splits, stratified
from tests.data.test_ingest import options

NONE: frozenset[str] = frozenset()


def groups_of(sizes: list[int], label: str = "cat") -> list[SplitGroup]:
    return [SplitGroup(f"{label}-{i}", {label: size}) for i, size in enumerate(sizes)]


def new_rows(sizes: list[int], label: str = "cat", first: int = 0) -> list[SourceRow]:
    """Return accepted rows of one class, a group of each size."""
    return [
        SourceRow(
            path=f"{label}/{g}-{i}.jpg", label=label, group=f"{label}{g}", pixel_hash=f"p{label}{g}-{i}", sha256=f"s{label}{g}-{i}"
        )
        for g, size in enumerate(sizes, start=first)
        for i in range(size)
    ]  # fmt: skip


def counts_of(groups: list[SplitGroup], splits: dict[str, str]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for group in groups:
        for label, count in group.counts.items():
            counts.setdefault(label, Counter())[splits[group.key]] += count
    return counts


def freeze(rows: list[SourceRow]) -> list[FrozenImage]:
    return frozen_splits.freeze(rows, [])[0]


@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=6), st.sampled_from([0.1, 0.15, 0.3]), st.sampled_from([0.1, 0.2]),
    st.integers(0, 100),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_shares_of_single_images_are_exact(counts, val, test, seed):
    """With groups of one, each class has its shares to the image, and at least one in every split."""
    groups = [group for label, count in enumerate(counts) for group in groups_of([1] * count, str(label))]
    splits = stratified(groups, test, val, seed)
    assert splits.keys() == {group.key for group in groups}
    for label, split_counts in counts_of(groups, splits).items():
        for name, share in (("test", test), ("val", val)):
            assert split_counts[name] == max(1, round(counts[int(label)] * share))
        assert split_counts["train"]


def test_a_large_group_beside_single_images_costs_no_share():
    """One group of 50 beside 50 single images: test and validation have exactly their 20 and 10 images, with any seed."""
    for seed in range(300):
        groups = groups_of([50] + [1] * 50, f"cat{seed}")
        (split_counts,) = counts_of(groups, stratified(groups, 0.2, 0.1, seed)).values()
        assert (split_counts["train"], split_counts["val"], split_counts["test"]) == (70, 10, 20), seed


@given(st.lists(st.integers(1, 60), min_size=3, max_size=25), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_three_groups_are_enough_for_every_split(sizes, seed):
    """A class with three groups or more has one in each split, whatever their sizes."""
    groups = groups_of(sizes)
    (split_counts,) = counts_of(groups, stratified(groups, 0.2, 0.1, seed)).values()
    assert all(split_counts[name] for name in ("train", "val", "test"))


@given(st.lists(st.sampled_from([1, 2, 5, 10, 20, 50]), min_size=3, max_size=6), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_few_groups_are_divided_nearly_as_well_as_they_can_be(sizes, seed):
    """The distance from the shares is at most a quarter of the images above the least that is possible."""
    total, best = sum(sizes), 10**9
    for assignment in product(range(3), repeat=len(sizes)):
        if len(set(assignment)) == 3:
            sums = [sum(size for size, split in zip(sizes, assignment, strict=True) if split == i) for i in range(3)]
            best = min(best, abs(sums[1] - round(total * 0.2)) + abs(sums[2] - round(total * 0.1)))
    groups = groups_of(sizes)
    (split_counts,) = counts_of(groups, stratified(groups, 0.2, 0.1, seed)).values()
    assert abs(split_counts["test"] - round(total * 0.2)) + abs(split_counts["val"] - round(total * 0.1)) <= best + 0.35 * total


mixed_groups = st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, 6), min_size=1), min_size=12, max_size=40)


@pytest.mark.slow
@given(mixed_groups, st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_groups_of_several_classes_count_for_each_of_them(counts, seed):
    """Where groups have images of several classes, every class is near its shares and in all splits."""
    groups = [SplitGroup(str(i), labels) for i, labels in enumerate(counts)]
    assume(all(sum(label in labels for labels in counts) >= 8 for label in {label for labels in counts for label in labels}))
    for split_counts in counts_of(groups, stratified(groups, 0.2, 0.1, seed)).values():
        assert all(split_counts[name] for name in ("train", "val", "test"))
        assert abs(split_counts["test"] - 0.2 * split_counts.total()) <= 6 + 1
        assert abs(split_counts["val"] - 0.1 * split_counts.total()) <= 6 + 1


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=30), st.lists(st.integers(1, 9), max_size=30), st.integers(0, 50),
    st.sampled_from(["hash", "stratified"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_frozen_images_never_move(before, added, seed, split_by):
    """Whatever is added, an image that is frozen stays, and so does the freeze of a freeze."""
    params = options(seed=seed, split_by=split_by)
    first = new_rows(before)
    draw_splits(first, params, NONE)
    frozen = freeze(first)
    second = new_rows(before) + new_rows(added, first=len(before))
    report = draw_splits(second, params, NONE, frozen)
    assert [row.split for row in second[: len(first)]] == [row.split for row in first]
    assert find_moves(first, second) == []
    assert (report.frozen, report.unused, report.overruled) == (len(first), [], [])
    assert frozen_splits.freeze(first, frozen) == (frozen, 0)


def test_new_images_are_drawn_so_that_the_counts_are_met():
    """Beside frozen images, new ones fill what the shares lack."""
    params = options(split_by="stratified", seed=3)
    first = new_rows([1] * 50)
    draw_splits(first, params, NONE)
    rows = new_rows([1] * 100)
    draw_splits(rows, params, NONE, freeze(first))
    assert Counter(row.split for row in rows) == {"train": 70, "val": 10, "test": 20}
    rows = new_rows([1] * 50) + new_rows([1] * 5, "dog")
    draw_splits(rows, params, NONE, freeze(first))
    assert Counter(row.split for row in rows if row.label == "dog") == {"train": 3, "val": 1, "test": 1}


def test_a_renamed_or_differently_decoded_image_keeps_its_split():
    """A frozen image is known by its bytes, else by its pixels or its path; a path that another file left names nobody."""
    frozen = [FrozenImage("a.jpg", "test", "s1"), FrozenImage("b.jpg", "val", "s2"), FrozenImage("c.jpg", "test", "s3")]
    rows = [
        SourceRow(path="moved.jpg", sha256="s1", pixel_hash="another decoder", group="1"),
        SourceRow(path="b.jpg", sha256="edited", pixel_hash="p2", group="2"),
        SourceRow(path="a.jpg", sha256="s3", pixel_hash="p3", group="3"),
        SourceRow(path="c.jpg", sha256="new", pixel_hash="p4", group="4"),
    ]
    matched, unused = frozen_splits.match(frozen, rows)
    assert matched == {"moved.jpg": "test", "b.jpg": "val", "a.jpg": "test"}
    assert unused == []
    by_hand = [
        FrozenImage("p2", "test"),
        FrozenImage("patient 7", "val"),
        FrozenImage("e\u0301.jpg", "test"),
        FrozenImage("x", "val"),
    ]
    rows = [
        SourceRow(path="b.jpg", pixel_hash="p2", group="2"), SourceRow(path="d.jpg", pixel_hash="p5", group="group patient 7"),
        SourceRow(path="\u00e9.jpg", pixel_hash="p6", group="6"),
    ]  # fmt: skip
    assert frozen_splits.match(by_hand, rows) == ({"b.jpg": "test", "d.jpg": "val", "\u00e9.jpg": "test"}, ["x"])


def test_of_several_frozen_splits_the_most_guarded_holds():
    """Copies that are frozen to different splits, and an image in the source's own test folder, are named."""
    rows = new_rows([2, 1, 1])
    frozen = [FrozenImage("cat/0-0.jpg", "train"), FrozenImage("cat/0-1.jpg", "test"), FrozenImage("cat/1-0.jpg", "train")]
    rows[2].split = "test"
    report = draw_splits(rows, options(), frozenset({"train", "test"}), frozen)
    assert [row.split for row in rows[:3]] == ["test", "test", "test"]
    assert [(row.path, split) for row, split in report.overruled] == [("cat/0-0.jpg", "train"), ("cat/1-0.jpg", "train")]
    (sentence,) = [text for text in warnings(report, {}, NONE, options()) if "more guarded" in text]
    assert "cat/0-0.jpg (frozen to train, now test)" in sentence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "path\n",
        "image,split\na\n",
        "image,split\na,dev\n",
        "image,split\na,\n",
        "image,split\na,train\na,test\n",
        "image;split\n",
    ],
)
def test_wrong_frozen_splits_are_refused(tmp_path, text):
    """A file without its first line, a line without a split, two splits for one image: an error with a remedy."""
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(SourceError) as error:
        frozen_splits.read(tmp_path / "splits.csv")
    assert error.value.remedy


@pytest.mark.slow
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1).map(str.strip).filter(bool), st.sampled_from(["train", "val"])
    )
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, splits):
    """Any name survives the file; no file has no lines."""
    path = tmp_path_factory.mktemp("splits") / "splits.csv"
    assert frozen_splits.read(path) == []
    lines = [FrozenImage(image, split, "0f") for image, split in splits.items()]
    frozen_splits.write(path, lines)
    assert sorted(frozen_splits.read(path), key=lambda line: line.image) == sorted(lines, key=lambda line: line.image)


def test_moves_are_named():
    """An image in another split than before is named, also renamed or decoded anew; one that stays, comes or goes is not."""

    def row(path: str, split: str, number: int, pixels: str = "") -> SourceRow:
        return SourceRow(path=path, split=split, sha256=f"s{number}", pixel_hash=pixels or f"p{number}")

    before = [row("a", "train", 1), row("b", "test", 2), row("c", "val", 3), row("gone", "val", 4)]
    after = [row("a", "test", 1, "another decoder"), row("new name", "train", 2), row("c", "val", 3), row("new", "val", 5)]
    moves = find_moves(before, after)
    assert [(move.path, move.before, move.after) for move in moves] == [("a", "train", "test"), ("new name", "test", "train")]
    assert describe_moves(moves) == (
        "2 images changed their split since the last ingest (1 test → train, 1 train → test): a, new name"
    )


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [([1, 1], "it has 2 images to divide, and 3 are needed"), ([4, 5], "it has 9 images in 2 groups of copies or of the table")],
)
def test_the_reason_for_a_missing_split_is_given(sizes, reason):
    """A class that cannot be in all splits is named, with what it lacks."""
    rows = new_rows(sizes) + new_rows([1] * 10, "dog")
    params = options(split_by="stratified")
    report = draw_splits(rows, params, NONE)
    classes = {label: Counter(row.split for row in rows if row.label == label) for label in ("cat", "dog")}
    (sentence,) = warnings(report, classes, NONE, params)
    assert sentence.startswith("cat has no image for ")
    assert reason in sentence


def test_frozen_lines_that_leave_a_split_empty_are_the_reason():
    """Where a person has frozen a class into train, the message names the file."""
    rows = new_rows([1] * 5) + new_rows([1] * 10, "dog")
    params = options(split_by="stratified")
    report = draw_splits(rows, params, NONE, [FrozenImage(row.path, "train") for row in rows[:5]])
    classes = {label: Counter(row.split for row in rows if row.label == label) for label in ("cat", "dog")}
    (sentence,) = warnings(report, classes, NONE, params)
    assert sentence.startswith("cat has no image for val and test: data/splits.csv freezes 5 of its 5 groups elsewhere")


def test_shares_that_groups_do_not_allow_are_named():
    """Three groups of 50 fill each split with 50: a warning says so, with the target and the reason."""
    rows = new_rows([50, 50, 50]) + new_rows([1] * 20, "dog")
    params = options(split_by="stratified")
    report = draw_splits(rows, params, NONE)
    classes = {label: Counter(row.split for row in rows if row.label == label) for label in ("cat", "dog")}
    messages = warnings(report, classes, NONE, params)
    assert messages[1] == ("cat has 50 images for val instead of 15: its 3 groups cannot be divided, and the largest has 50 images")
    assert len(messages) == 2
