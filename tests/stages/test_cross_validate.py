"""The stage `cross_validate`: models of the other folds predict every training and validation image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from darkroom.core import kept_results
from darkroom.core.errors import ParamsError, WorkspaceError
from darkroom.data import manifest
from darkroom.data.manifest import Row
from darkroom.evaluation import cross_validation, folds
from darkroom.models import checkpoint
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.specs import BackboneSpec
from darkroom.stages import cross_validate, fold_models

BACKBONE, SIZE, OUT = "squeezenet1_1", 32, Path("reports/cross_validation")


def workspace(values: dict, groups: list[str], train: int, flipped: int = -1, **changes: object) -> np.ndarray:
    """Write params and images, bright ones of class b, into the working directory; return the labels."""
    values["backbones"] = [BACKBONE]
    values["ingest"] |= {"image_size": SIZE}
    values["augment"] |= {"policy": "light", "views": 2}
    values["compute"] |= {"threads": 1}
    for section in ("baseline", "transfer", "finetune"):
        values[section] |= {"epochs": 3, "batch_size": 8}
    values["baseline"] |= {"width": 4}
    Path("params.yaml").write_text(yaml.safe_dump(values | changes))
    rng, count = np.random.default_rng(0), len(groups)
    labels = np.arange(count) % 2
    images = (rng.integers(0, 100, (count, SIZE, SIZE, 3)) + 120 * labels[:, None, None, None]).astype(np.uint8)
    if flipped >= 0:
        labels[flipped] = 1 - labels[flipped]
    ingested, rows = Path("data/ingested"), []
    for split, part in (("train", slice(train)), ("val", slice(train, None))):
        (ingested / split).mkdir(parents=True, exist_ok=True)
        np.save(ingested / split / "images.npy", images[part])
        np.save(ingested / split / "labels.npy", labels[part])
        for i in range(count)[part]:
            rows.append(Row(path=f"{i}.png", label="ab"[labels[i]], split=split, sha256=str(i), pixel_hash=str(i), group=groups[i]))
    manifest.write(ingested / "manifest.parquet", rows)
    (ingested / "classes.json").write_text('["a", "b"]')
    if not Path("models/transfer").exists():
        shown, spec = Preprocessing(SIZE, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3), BackboneSpec(BACKBONE, SIZE)
        network = Network(TorchvisionBackbone(spec, 0), shown, 2, 0)
        folder = Path("models/transfer", BACKBONE)
        folder.mkdir(parents=True)
        described = Checkpoint(f"transfer/{BACKBONE}", spec, shown, ("a", "b"), {}, {})
        history = [{"epoch": 1, "train_loss": 0.7, "val_loss": 0.7, "val_accuracy": 0.5}]
        checkpoint.save(folder, described, network.state_dict(), network.parameter_count(), history)
    return labels


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    monkeypatch.chdir(tmp_path)


def run() -> None:
    cross_validate.run(Path("data/ingested"), Path("models"), OUT)


def test_without_folds_nothing_is_trained(values, capsys):
    """With 0, the default, the results say so, there are no predictions, and the param is named."""
    workspace(values, [str(i) for i in range(8)], 6)
    run()
    results = cross_validation.read(OUT)
    assert (results.folds, results.models) == (0, {})
    assert not (OUT / cross_validation.PREDICTIONS).exists()
    assert "cross_validation: 5" in capsys.readouterr().out


@pytest.mark.slow
def test_every_image_is_predicted_by_models_that_did_not_see_it(values, capsys):
    """Each model predicts each image once, in the fold of its group, and an image's own label changes nothing of it.

    The source's folds are taken as they are. The printed and written figures are those of the predictions.
    """
    groups = [f"group fold {i // 8}" for i in range(24)]
    tables = []
    for flipped in (-1, 2):
        labels = workspace(values, groups, 16, flipped, cross_validation=5)
        run()
        tables.append(pq.read_table(OUT / cross_validation.PREDICTIONS).to_pylist())
    names = ["baseline", f"transfer/{BACKBONE}", f"finetune/{BACKBONE}"]
    for name in names:
        before, after = ([row for row in table if row["model"] == name] for table in tables)
        assert [row["path"] for row in before] == [f"{i}.png" for i in range(24)]
        assert [row["fold"] for row in before] == [i // 8 for i in range(24)]
        assert [row["probabilities"] for row in before[:8]] == [row["probabilities"] for row in after[:8]]
        assert [row["probabilities"] for row in before[8:]] != [row["probabilities"] for row in after[8:]]
    results = cross_validation.read(OUT)
    assert (results.folds, results.images, results.groups, set(results.models)) == (3, 24, 3, set(names))
    shown = capsys.readouterr().out
    judged = cross_validation.read_predictions(OUT, names, ("a", "b"))
    assert np.array_equal(judged.labels, labels)
    for name, model in results.models.items():
        correct = judged.probabilities[name].argmax(1) == labels
        assert model.figures["accuracy"] == pytest.approx(correct.mean())
        assert model.accuracy_by_fold == pytest.approx([correct[i : i + 8].mean() for i in (0, 8, 16)])
        low, high = model.intervals["accuracy"]
        assert 0 <= low <= model.figures["accuracy"] <= high <= 1
        assert [name, f"{model.figures['accuracy']:.4f}"] in [line.split()[:2] for line in shown.splitlines()]
    assert not list(Path(".darkroom/scratch").iterdir())


def test_groups_are_never_divided():
    """A group is in one of training, validation and the fold that is held out; each image is held out once."""
    labels = np.arange(60) % 3
    groups = [str(i // 4) for i in range(60)]
    dealt = fold_models.deal(labels, groups, 5, 0.15, 0)
    assert len(dealt) == 5
    assert sorted(np.concatenate([fold.held_out for fold in dealt]).tolist()) == list(range(60))
    for fold in dealt:
        parts = [{groups[i] for i in part.tolist()} for part in (fold.train, fold.val, fold.held_out)]
        assert all(parts)
        assert not set.intersection(parts[0], parts[1] | parts[2])
        assert not parts[1] & parts[2]
        assert sum(map(len, (fold.train, fold.val, fold.held_out))) == 60


def test_folds_that_cannot_be_made_are_refused(values):
    """More folds than groups, and a number that is none, are an error that names the param and its remedy."""
    with pytest.raises(ParamsError, match=r"cross_validation.*\n.*near_duplicates"):
        fold_models.deal(np.arange(8) % 2, ["a"] * 4 + ["b"] * 4, 5, 0.2, 0)
    workspace(values, [str(i) for i in range(8)], 6, cross_validation=1)
    with pytest.raises(ParamsError, match="cross_validation"):
        run()


def test_predictions_of_other_models_are_refused(values):
    """Models or classes that the predictions lack are an error with the command that makes them."""
    with pytest.raises(WorkspaceError, match=r"\n.*dvc repro cross_validate"):
        cross_validation.read(OUT)
    workspace(values, [f"group fold {i // 8}" for i in range(24)], 16, cross_validation=3, backbones=[])
    run()
    for names, classes in ((["baseline", "transfer/x"], ("a", "b")), (["baseline"], ("a", "c"))):
        with pytest.raises(WorkspaceError, match=r"other models or classes.*\n.*dvc repro cross_validate"):
            cross_validation.read_predictions(OUT, names, classes)


def test_folds_of_the_source_need_every_image_to_have_one():
    """Only where each group is a fold are they the folds."""
    assert folds.of_source(["group fold a", "group fold b", "group fold a"]).tolist() == [0, 1, 0]
    assert folds.of_source(["group fold a", "g"]) is None
    assert folds.of_source([]) is None


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [1, 2, 3])
def test_a_stage_that_was_killed_trains_what_it_had_not(values, monkeypatch, kill_at):
    """Folds and models that were finished are not trained again, and the outputs have the bytes of an undisturbed run."""
    workspace(values, [str(i) for i in range(16)], 12, cross_validation=2)
    trained: list[str] = []

    def counting(module, name):
        train = getattr(module, name)

        def count(*arguments, **options):
            if len(trained) == kill_at:
                raise KeyboardInterrupt
            trained.append(name)
            return train(*arguments, **options)

        monkeypatch.setattr(module, name, count)

    with monkeypatch.context():
        counting(fold_models.baseline, "train_baseline")
        counting(fold_models.transfer, "train_head")
        with pytest.raises(KeyboardInterrupt):
            run()
        kill_at = 1000
        run()
    assert sorted(trained) == ["train_baseline"] * 2 + ["train_head"] * 2
    outputs = {path.name: path.read_bytes() for path in OUT.iterdir()}
    kept_results.clear()
    run()
    assert {path.name: path.read_bytes() for path in OUT.iterdir()} == outputs
