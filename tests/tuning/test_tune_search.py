"""The search for a head's settings: proposals, folds, what is kept, and how it ends."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from darkroom.config import params
from darkroom.core import kept_results
from darkroom.core.errors import ParamsError
from darkroom.tuning import space
from darkroom.tuning.heads import CACHE, Embedded, Pool
from darkroom.tuning.search import Search
from darkroom.tuning.trials import timed

pytestmark = pytest.mark.slow
NAME = "mobilenet_v2"
LABELS = np.arange(60) % 2
GROUPS = np.array([f"group {i}" for i in range(60)])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pool(values: dict, groups: np.ndarray = GROUPS, **transfer: object) -> Pool:
    """Return 60 images of two classes, and the settings of params.yaml with few epochs."""
    values["backbones"] = [NAME]
    values["compute"]["threads"] = 1
    values["transfer"] |= {"epochs": 4, "warmup_epochs": 0, **transfer}
    return Pool(np.zeros((60, 8, 8, 3), np.uint8), LABELS, groups, 2, params.parse(values), 0.2)


def embedded(separation: float = 1.0, views: int = 4) -> dict[str, Embedded]:
    """Return embeddings of two classes, and of their views, with noise of deviation 1."""
    rng = np.random.default_rng(0)
    centres = separation * np.stack([LABELS, -LABELS, *np.zeros((6, 60))], 1)
    noisy = [(centres + rng.normal(size=centres.shape)).astype(np.float32) for _ in range(views)]
    return {NAME: Embedded(noisy[0], np.stack(noisy), 1.0, "synthetic")}


def after(count: int):
    return lambda trials: len(trials) >= count


def outline(search: Search) -> list[tuple]:
    return [(trial.values, trial.log_loss, trial.state) for trial in search.trials]


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(values, monkeypatch, tmp_path):
    """After a kill the proposals are repeated without training, and the rest is that of a search that was not stopped."""
    uninterrupted = Search(pool(values), embedded(), [NAME])
    uninterrupted.run(after(14))
    assert {"pruned", "complete"} == {trial.state for trial in uninterrupted.trials}
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    Search(pool(values), embedded(), [NAME]).run(after(12))
    kept = set(CACHE.rglob(kept_results.DIGEST))
    again = Search(pool(values), embedded(), [NAME])
    again.run(after(14))
    assert outline(again) == outline(uninterrupted)
    repeated = sum(trial.folds for trial in uninterrupted.trials[:12])
    assert len(kept) == repeated
    assert len(set(CACHE.rglob(kept_results.DIGEST))) == sum(trial.folds for trial in uninterrupted.trials)


def test_an_interrupt_keeps_what_is_done(values):
    """Ctrl-C in a trial leaves those before it, of which the best and its gain can be told."""
    search, count = Search(pool(values), embedded(), [NAME]), itertools.count()

    def interrupt(fold):
        if next(count) == 12:
            raise KeyboardInterrupt

    predict = search.pool.predict
    object.__setattr__(search.pool, "predict", lambda *arguments: (interrupt(arguments[2]), predict(*arguments))[1])
    with pytest.raises(KeyboardInterrupt):
        search.run(after(20))
    assert len(search.trials) == 2
    assert search.best() in search.trials
    assert search.gain().accuracy.low <= search.gain().accuracy.high


def test_no_image_is_predicted_by_a_head_that_saw_it_or_a_copy(values):
    """Embeddings that hold an image's identity alone are at chance, also where each image is there twice, in one group."""
    one, groups = np.tile(np.eye(30, dtype=np.float32), (2, 1)), np.tile(GROUPS[:30], 2)
    own = {NAME: Embedded(one, one[None], 1.0, "identities")}
    search = Search(pool(values, groups, epochs=30, patience=30, lr=0.05), own, [NAME])
    search.run(after(1))
    (trial,) = search.trials
    assert (trial.probabilities.argmax(1) == LABELS).mean() < 0.65
    leaking = Search(pool(values, epochs=30, patience=30, lr=0.05), own, [NAME])
    leaking.run(after(1))
    assert (leaking.trials[0].probabilities.argmax(1) == LABELS).mean() > 0.65


def test_what_is_tried_can_be_written(values):
    """A trial trains with the values that --write would put into params.yaml: numbers of two digits, and valid ones."""
    own = pool(values)
    search = Search(own, embedded(), [NAME], sampler="random")
    search.run(after(6))
    for trial in search.trials[1:]:
        changed = space.requested(trial.values, space.recipe(own.settings, NAME), is_backbone_kept=True)
        assert set(changed) <= set(space.recipe(own.settings, NAME))
        assert all(value == float(f"{value:.2g}") for value in trial.values.values() if isinstance(value, float))
        for key, value in changed.items():
            section, _, name = key.partition(".")
            values[section][name] = value
        assert params.parse(values).transfer == space.hyper_of(trial.values, own.settings)


def test_a_trial_that_diverges_does_not_end_the_search(values, monkeypatch):
    """A trial whose loss becomes NaN is listed as diverged and is never the best; where params.yaml diverges, a remedy is named."""
    predict = Pool.predict

    def diverge(self, trial, own, fold):
        if trial["transfer.lr"] != self.settings.transfer.lr:
            raise ParamsError("the loss is nan", "lower lr")
        return predict(self, trial, own, fold)

    monkeypatch.setattr(Pool, "predict", diverge)
    search = Search(pool(values), embedded(), [NAME])
    search.run(after(5))
    assert "diverged" in {trial.state for trial in search.trials}
    assert search.best().is_recipe
    monkeypatch.setattr(Pool, "predict", lambda *_: (_ for _ in ()).throw(ParamsError("the loss is nan", "lower lr")))
    with pytest.raises(ParamsError, match=r"params\.yaml diverges"):
        Search(pool(values), embedded(), [NAME]).run(after(5))


def test_a_slow_backbone_is_compared_but_not_chosen(values):
    """A backbone that is no candidate is the reference where params.yaml has it, and never the best."""
    own = embedded(3.0) | {"squeezenet1_1": replace(embedded(0.0)[NAME], key="other")}
    search = Search(pool(values), own, ["squeezenet1_1"])
    search.run(after(4))
    assert search.reference().values["backbone"] == NAME
    assert search.best().values["backbone"] == "squeezenet1_1"
    assert search.gain().log_loss.difference > 0


def test_a_candidate_is_judged_at_its_own_size_first(values):
    """Each candidate is tried with the values of params.yaml before any is tried at a larger size, and the best are so first."""
    values["weights"]["source"] = "random"
    search, asked = (
        Search(pool(values), embedded(0.5) | {"squeezenet1_1": replace(embedded(3.0)[NAME], key="other")}, [NAME, "squeezenet1_1"]),
        [],
    )
    search.run(after(3), resize=lambda name, size: asked.append(name))
    assert [(trial.values["backbone"], trial.is_recipe) for trial in search.trials[:2]] == [(NAME, True), ("squeezenet1_1", False)]
    assert {trial.values["ingest.image_size"] for trial in search.trials} == {32}
    assert asked == ["squeezenet1_1", NAME]


def test_too_few_images_name_a_remedy(values):
    """Fewer groups than folds are refused."""
    with pytest.raises(ParamsError, match="do not make 5 folds") as error:
        _ = pool(values, np.array(["a", "b"] * 30)).folds
    assert "add images" in error.value.remedy


def test_time_ends_a_search_before_a_trial_that_would_end_later(values):
    """A search stops where the mean trial no longer fits, and at a number of trials."""
    search = Search(pool(values), embedded(), [NAME])
    search.run(after(3))
    now = [0.0]
    is_over = timed(10.0, 5, lambda: now[0])
    assert not is_over(search.trials)
    now[0] = 10.0
    assert is_over(search.trials)
    assert timed(10.0, 3, lambda: 0.0)(search.trials)


def test_class_weights_are_varied_where_classes_differ(values):
    """Class weights are tried where one class has over one and a half times the images of another; views up to those there are."""
    settings = pool(values).settings
    assert space.CLASS_WEIGHTS not in space.space(settings, [NAME], LABELS)
    varied = space.space(settings, [NAME], np.repeat([0, 1], [40, 20]))
    assert varied[space.CLASS_WEIGHTS].choices == ("none", "balanced")
    assert varied[space.VIEWS].choices == (1, 2, 4)
    assert space.BACKBONE not in varied
