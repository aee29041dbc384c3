"""The search of fine-tuning: steps, folds, what ends a trial, and what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkroom.config import params
from darkroom.core.errors import ParamsError
from darkroom.stages import finetune
from darkroom.tuning import fine_tuning, finetune_space, space
from darkroom.tuning.fine_tuning import EndedEarlyError, FineTuning
from darkroom.tuning.heads import Pool
from darkroom.tuning.search import Search
from darkroom.tuning.trials import FINETUNE, HEADS, timed

pytestmark = pytest.mark.slow
NAME, COUNT, SIZE = "squeezenet1_1", 40, 32
LABELS = np.arange(COUNT) % 2


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pool(values: dict, **changes: object) -> Pool:
    """Return images of two classes, one brighter than the other, and params of few epochs and random weights."""
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 150, (COUNT, SIZE, SIZE, 3)) + 60 * LABELS[:, None, None, None]).astype(np.uint8)
    values["backbones"] = [NAME]
    values["compute"]["threads"] = 1
    values["ingest"]["image_size"] = SIZE
    values["augment"] |= {"policy": "light", "views": 2}
    values["weights"]["source"] = "random"
    values["transfer"] |= {"epochs": 2, "warmup_epochs": 0}
    values["finetune"] |= {"epochs": 2, "warmup_epochs": 0, "unfreeze": 0.2, "lr": 0.001, **changes}
    return Pool(images, LABELS, np.array([f"group {i}" for i in range(COUNT)]), 2, params.parse(values), 0.2)


def larger(size: int) -> np.ndarray:
    return np.zeros((COUNT, size, size, 3), np.uint8)


def tuner(own: Pool, name: str = "scratch") -> FineTuning:
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    return FineTuning(own, larger, {NAME: "random"}, Path("weights"), folder)


def search_of(own: Pool, trials: int) -> Search:
    """Return a search of heads as in params.yaml, then of so many trials of fine-tuning."""
    search = Search(own, {NAME: own.embed(NAME, "random", Path("weights"))}, [NAME])
    search.run(lambda done: True)
    search.fine_tune(tuner(own), lambda done: len(done) >= trials)
    return search


def outline(search: Search) -> list[tuple]:
    return [(trial.phase, trial.values, trial.log_loss, trial.state) for trial in search.trials]


def test_a_search_goes_on_and_trains_nothing_twice(values, monkeypatch):
    """The same search again repeats its trials from what is kept, with the same losses, and goes on with the next one."""
    own = pool(values)
    first = search_of(own, 4)
    assert [trial.phase for trial in first.trials] == [HEADS] + 4 * [FINETUNE]
    assert [trial.is_recipe for trial in first.trials] == [True, True, False, False, False]
    trained, train = [], finetune.train_blocks
    monkeypatch.setattr(finetune, "train_blocks", lambda *args, **options: (trained.append(1), train(*args, **options))[1])
    assert repr(outline(search_of(pool(values), 4))) == repr(outline(first))
    assert not trained
    again = search_of(pool(values), 5)
    assert repr(outline(again)[:-1]) == repr(outline(first))
    assert trained


def test_it_fine_tunes_as_the_stage_does(values, monkeypatch):
    """A trial calls the function that the stage `finetune` calls, with the values that --write would put into params.yaml."""
    own, used = pool(values), []
    train = finetune.train_blocks

    def note(network, on_maps, train_part, val_part, settings, *rest):
        used.append((settings.finetune, settings.augment.policy, len(train_part.inputs), len(train_part) + len(val_part)))
        return train(network, on_maps, train_part, val_part, settings, *rest)

    monkeypatch.setattr(finetune, "train_blocks", note)
    recipe = finetune_space.recipe(own.settings, NAME)
    changed = recipe | {"finetune.lr": 0.002, "finetune.epochs": 3, "augment.policy": "strong"}
    requested = space.requested(changed, recipe, is_backbone_kept=True)
    assert requested == {"finetune.lr": 0.002, "finetune.epochs": 3, "augment.policy": "strong"}
    for key, value in requested.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    written = params.parse(values)
    fold = own.folds[0]
    predicted = tuner(own).predict(changed, fold, False)
    assert used == [(written.finetune, "strong", 2, COUNT - len(fold.held_out))]
    assert predicted.shape == (len(fold.held_out), 2)
    assert np.allclose(predicted.sum(1), 1)


def test_steps_change_one_thing_of_the_best_so_far(values):
    """Each step changes one value, within the range that the sampler has; larger images come first."""
    own = pool(values, unfreeze=2, epochs=8)
    best = finetune_space.recipe(own.settings, NAME)
    varied = finetune_space.space(own.settings, [NAME], [SIZE, 64], LABELS)
    differences = []
    for step in finetune_space.steps(own.settings, [NAME], [SIZE, 64]):
        values_of_step = step(best)
        (key,) = [name for name in best if values_of_step[name] != best[name]]
        assert space.within(values_of_step, varied)[key] == values_of_step[key]
        differences.append((key, values_of_step[key]))
    assert differences[:2] == [("ingest.image_size", 64), ("finetune.unfreeze", 4)]
    assert ("augment.policy", "strong") in differences
    assert ("finetune.epochs", 12) in differences


@pytest.mark.parametrize(("policy", "mirrored"), [("standard", True), ("characters", False), ("none", False), ("shifted", False)])
def test_no_policy_mirrors_where_that_of_params_does_not(policy, mirrored):
    """Signs and writing are never mirrored by a search."""
    choices = finetune_space.policy_choices(policy)
    assert choices[0] == policy
    assert all(finetune_space.policies.mirrors(name) == mirrored for name in choices)


def test_a_trial_that_is_behind_ends_within_its_first_fold(values, monkeypatch):
    """Half way through the first fold a trial whose loss is above most others' ends, and does so again from what is kept; one with
    the values of params.yaml never does."""
    own = pool(values, epochs=4)
    trial = finetune_space.recipe(own.settings, NAME)
    seen, train = [], finetune.train_blocks
    monkeypatch.setattr(finetune, "train_blocks", lambda *args: (seen.append(1), train(*args))[1])
    one = tuner(own)
    one.halves.extend([0.0] * fine_tuning.SURE)
    one.predict(trial, own.folds[0], False)
    for _ in range(2):
        one.halves[:] = [0.0] * fine_tuning.SURE
        with pytest.raises(EndedEarlyError):
            one.predict(trial, own.folds[0], True)
    assert len(seen) == 2
    assert len(one.predict(trial, own.folds[1], True))


def test_time_stops_a_trial_between_folds(values):
    """A trial that is late stops after a fold, is listed as stopped, and is never the best; without params.yaml's own fine-tuning
    nothing else is tried, and the gain is that of heads."""
    own = pool(values)
    search = Search(own, {NAME: own.embed(NAME, "random", Path("weights"))}, [NAME])
    search.run(lambda done: True)
    search.fine_tune(tuner(own), timed(60), is_late=lambda: True)
    states = [(trial.phase, trial.state, trial.folds) for trial in search.trials]
    assert states == [(HEADS, "complete", 5), (FINETUNE, "stopped", 1)]
    assert search.best().phase == HEADS
    assert search.gain().accuracy.difference == 0


@pytest.mark.parametrize(("seconds", "size"), [(np.inf, 64), (0.0, SIZE)])
def test_larger_images_are_tried_where_there_is_time(values, seconds, size):
    """The first step has the size with which heads were best, unless such a trial would take more than half of the time."""
    own = pool(values)
    search = Search(own, {NAME: own.embed(NAME, "random", Path("weights"))}, [NAME])
    search.run(lambda done: True)
    search.resized[NAME, 64], search.sizes[NAME] = search.embedded[NAME], 64
    search.fine_tune(tuner(own), lambda done: len(done) >= 2, seconds=seconds)
    assert [trial.values["ingest.image_size"] for trial in search.trials[1:]] == [SIZE, size]


def test_the_reference_is_the_better_of_both_models_of_params(values, monkeypatch):
    """What is gained is measured against the better of params.yaml's head and fine-tuned network, not against the head alone."""
    own = pool(values)
    search = search_of(own, 1)
    head, tuned = search.trials
    assert search.reference() is min((head, tuned), key=lambda trial: trial.log_loss)
    assert search.gain().log_loss.difference == 0


def test_a_trial_that_diverges_does_not_end_the_search(values, monkeypatch):
    """A trial whose loss becomes NaN is listed as diverged, and the search goes on."""
    own, predict = pool(values), FineTuning.predict

    def diverge(self, trial, fold, may_end):
        if trial["finetune.unfreeze"] != own.settings.finetune.unfreeze:
            raise ParamsError("the loss is nan", "lower lr")
        return predict(self, trial, fold, may_end)

    monkeypatch.setattr(FineTuning, "predict", diverge)
    search = search_of(own, 3)
    assert [trial.state for trial in search.trials] == ["complete", "complete", "diverged", "complete"]


def test_maps_of_few_networks_are_on_disk_at_a_time(values):
    """What frozen blocks make of all views is removed when newer ones need the place, and views that maps replace at once."""
    own = pool(values, unfreeze=2, epochs=1)
    one = tuner(own)
    trial = finetune_space.recipe(own.settings, NAME)
    for amount in (1, 2, 3, 4, 5):
        one.predict(trial | {"finetune.unfreeze": amount}, own.folds[0], False)
    assert len(one.frozen) == fine_tuning.MOST_FROZEN == len(list(one.scratch.iterdir()))
    assert not list(one.scratch.rglob("views.npy"))
