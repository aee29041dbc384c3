"""How accuracy grows while people label, and that nobody waits for it."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from darkroom.core.errors import WorkspaceError
from darkroom.data import label_fixes, manifest
from darkroom.labelling import growth, meter
from darkroom.labelling.growth import Growth, Measured, SourceImages
from darkroom.labelling.meter import Meter
from darkroom.models.base import IMAGENET, Preprocessing

SIZE = 8
SETTINGS = Preprocessing(SIZE, "stretch", (0, 0, 0), *IMAGENET)
POINT = Measured(0, 0.8, (0.7, 0.9), 0.0, None, 0, 0.0, (0.0, 1.0))


def classifier() -> SimpleNamespace:
    """Return what embeds an image as its mean colour."""
    return SimpleNamespace(
        checkpoint=SimpleNamespace(preprocessing=SETTINGS), embed=lambda images: (images.mean((1, 2), dtype=np.float32), None)
    )


def coloured(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return images (N, S, S, 3) uint8, the red of which tells classes 0 and 1, and the blue class 2."""
    rng = np.random.default_rng(seed)
    means = np.array([[90, 128, 90], [160, 128, 90], [128, 128, 250]])[labels] + rng.normal(0, 22, (len(labels), 3))
    return np.repeat(np.repeat(means.clip(0, 255).astype(np.uint8)[:, None, None], SIZE, 1), SIZE, 2)


def source(count: int = 60) -> tuple[SourceImages, list[str]]:
    labels = np.arange(count) % 2
    rows = [manifest.Row(path=f"{i}.png", group=str(i), source_label="ab"[label]) for i, label in enumerate(labels)]
    return SourceImages(coloured(labels, 0), rows), ["ab"[label] for label in labels]


def test_corrected_labels_raise_the_accuracy_and_the_gain_has_its_interval():
    """The images are the same at each moment, so that a gain is one of labels; wrong labels are seen as wrong."""
    images, true = source(200)
    wrong = ["b" if label == "a" and i % 5 < 2 else label for i, label in enumerate(true)]
    growing = Growth(classifier(), images)
    first, second = growing.measure(0, wrong, {}), growing.measure(40, true, {})
    assert first
    assert second
    assert first.gain_interval is None
    assert second.accuracy == pytest.approx(first.accuracy + second.gain)
    assert second.gain_interval
    assert 0 < second.gain_interval[0] < second.gain < second.gain_interval[1]
    assert growing.measured == [first, second]
    assert "may be chance" not in " ".join(growth.describe(growing.measured, 200))
    assert growth.draw(growing.measured).count("<polyline") == 3


def test_labelled_new_images_train_the_heads_and_are_judged_without_themselves(tmp_path):
    """A class of the inbox that the source lacks is learned; files that cannot be read count nowhere."""
    images, labels = source()
    growing = Growth(classifier(), images)
    before = growing.measure(0, labels, {})
    new = {}
    for i, pixels in enumerate(coloured(np.full(20, 2), 1)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        new[tmp_path / f"{i}.png"] = "c"
    (tmp_path / "x.png").write_text("no image")
    measured = growing.measure(20, labels, new | {tmp_path / "x.png": "c", tmp_path / "gone.png": "a"})
    assert before
    assert measured
    assert (before.inbox, measured.inbox) == (0, 20)
    assert measured.inbox_accuracy > 0.9
    assert growing.measure(21, labels, dict.fromkeys(list(new)[:1], "c")).inbox_accuracy == 0  # no other head knows the class
    assert "20 labelled new images" in " ".join(growth.describe([measured], 60))


def test_new_images_are_seen_by_a_head_of_all_labels(tmp_path):
    """It knows a class that the inbox alone has, and corrections; it has no file that cannot be read."""
    images, labels = source()
    growing = Growth(classifier(), images)
    files = [tmp_path / f"{i}.png" for i in range(40)]
    for file, pixels in zip(files, coloured(np.arange(40) % 3, 1), strict=True):
        Image.fromarray(pixels).save(file)
    (tmp_path / "x.png").write_text("no image")
    labelled = {file: "abc"[i % 3] for i, file in enumerate(files[:15])}
    before, after = (growing.predict([*files, tmp_path / "x.png"], labels, new) for new in ({}, labelled))
    assert before
    assert after
    assert (before.classes, after.classes, before.files, after.files) == (["a", "b"], ["a", "b", "c"], files, files)
    assert np.array_equal(before.embeddings, np.concatenate([growing._embed(np.asarray(Image.open(file))[None]) for file in files]))
    kinds = np.arange(15, 40) % 3  # of those without a label
    assert after.probabilities[15:][kinds == 2, 2].mean() > 2 * after.probabilities[15:][kinds != 2, 2].mean()
    assert (before.probabilities[15:][kinds < 2].argmax(1) == kinds[kinds < 2]).mean() > 0.8
    wrong = growing.predict(files, ["ab"[label == "a"] for label in labels], {})
    assert (wrong.probabilities.argmax(1) != before.probabilities.argmax(1)).mean() > 0.9


def test_too_few_labels_are_not_measured():
    """Nor those of one class; then nothing is drawn or said, and no head is trained."""
    images, labels = source(10)
    growing = Growth(classifier(), images)
    assert growing.measure(0, labels, {}) is None
    assert growing.predict([], labels, {}) is None
    assert Growth(classifier(), source()[0]).measure(0, ["a"] * 60, {}) is None
    assert (growth.draw(growing.measured), growth.describe(growing.measured, 10)) == ("", [])


def test_the_images_are_those_of_training_and_validation_with_the_corrections(tmp_path, monkeypatch):
    """Test images are left out; images of another size than the model's are refused with the remedy."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for number, split in enumerate(("test", "train", "val")):
        labels = np.arange(4) % 2
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "images.npy", np.full((4, SIZE, SIZE, 3), number, np.uint8))
        np.save(tmp_path / split / "labels.npy", labels)
        names = ["ab"[label] for label in labels]
        rows += [manifest.Row(path=f"{split}{i}.png", split=split, label=name, source_label=name) for i, name in enumerate(names)]
    manifest.write(tmp_path / "manifest.parquet", rows)
    source_images = SourceImages.read(tmp_path, SIZE)
    assert [row.path for row in source_images.rows] == [f"{split}{i}.png" for split in ("train", "val") for i in range(4)]
    assert source_images.images[:, 0, 0, 0].tolist() == [1] * 4 + [2] * 4
    fixes = tmp_path / "fixes.csv"
    label_fixes.write(fixes, {"val1.png": "a"})
    assert source_images.labels(fixes) == ["a", "b", "a", "b", "a", "a", "a", "b"]
    with pytest.raises(WorkspaceError, match="not trained on the images") as caught:
        SourceImages.read(tmp_path, SIZE + 1)
    assert "dvc repro" in caught.value.remedy


class Slow:
    """Measures when it is let."""

    def __init__(self) -> None:
        self.let, self.began, self.measured, self.counts = threading.Semaphore(0), threading.Semaphore(0), [], []

    def measure(self, count, labels, new):
        self.began.release()
        assert self.let.acquire(timeout=30)
        self.counts.append(count)
        self.measured.append(POINT)


def until(measuring: Meter, revision: int) -> dict:
    deadline = time.monotonic() + 30
    while measuring.state()["revision"] < revision:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return measuring.state()


def test_no_decision_waits_for_a_measurement():
    """While one runs decisions are counted, and one follows after `EVERY` labels or at the end, not after each."""
    slow = Slow()
    measuring = Meter(lambda check: (slow, lambda: (["a"], {})))
    assert slow.began.acquire(timeout=30)
    for count in range(1, 4):
        measuring.notify(count, 100)
        assert measuring.state() | {"text": []} == {"revision": 0, "busy": True, "chart": "", "text": [], "problem": ""}
    slow.let.release()
    assert not until(measuring, 1)["busy"]
    measuring.notify(meter.EVERY - 1, 100)
    assert not measuring.state()["busy"]
    measuring.notify(meter.EVERY, 100)
    assert measuring.state()["busy"]  # before the thread has begun
    slow.let.release()
    assert not until(measuring, 2)["busy"]
    measuring.notify(meter.EVERY + 1, 0)  # nothing is left
    slow.let.release()
    assert until(measuring, 3)["text"]
    measuring.close()
    assert slow.counts == [0, meter.EVERY, meter.EVERY + 1]


def test_new_images_are_ordered_again_before_each_figure():
    """With the labels of that moment, once there are `EVERY`, however few there are at the first figure; the thread goes on to
    measure."""
    slow, calls = Slow(), []
    labels = {"new": {}}
    measuring = Meter(
        lambda check: (slow, lambda: (["a"], dict(labels["new"]))),
        reorder=lambda growing, source_labels, new: calls.append((growing, new)),
    )
    assert slow.began.acquire(timeout=30)
    assert calls == []
    slow.let.release()
    until(measuring, 1)
    measuring.notify(meter.EVERY - 1, 0)  # nothing is left
    slow.let.release()
    until(measuring, 2)
    assert calls == []
    labels["new"] = {"1.png": "a"}
    measuring.notify(2 * meter.EVERY, 100)
    assert slow.began.acquire(timeout=30)
    assert slow.began.acquire(timeout=30)  # the measurement has begun, and who labels does not wait for it
    assert calls == [(slow, {"1.png": "a"})]
    slow.let.release()
    until(measuring, 3)
    measuring.close()


def test_what_cannot_be_measured_says_why(tmp_path):
    """Also where the model cannot be loaded; closing ends the thread at the next part of the work."""

    def fail(check):
        raise WorkspaceError("there is no model", "train one")

    measuring = Meter(fail)
    assert until(measuring, 1)["problem"] == "there is no model; train one"
    measuring.notify(100, 0)
    measuring.close()

    def go_on(check):
        while True:
            check()

    Meter(go_on).close()
