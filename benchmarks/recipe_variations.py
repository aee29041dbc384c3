"""What `recipe_trials.py` compares with recipe `photos`: each variation returns the probabilities of the test images of a split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipe_cases import (
    ALL,
    CROPS,
    MIRROR,
    NETWORK,
    PLAIN,
    Case,
    Folder,
    Predict,
    network_of,
    predictor,
    read_images,
    train_head,
    tune,
    val_embeddings,
)
from torch import nn

from darkroom.augmentation.lean import albumentations as A
from darkroom.augmentation.policies import policy, standard
from darkroom.config.params import Training
from darkroom.evaluation import folds, selection
from darkroom.evaluation.pixel_baseline import Regression
from darkroom.evaluation.selection import Judged
from darkroom.evaluation.selection_bias import log_losses
from darkroom.models.base import Backbone, new_head
from darkroom.models.probabilities import softmax
from darkroom.training import freezing, temperature
from darkroom.training.batches import Examples, SomeViews
from darkroom.training.embedding import StandardizedHead, UpperPart
from darkroom.training.loop import fit

STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)  # of the likelihood of one view against the penalty of a logistic regression
FOLDS, FOLD_VIEWS = 5, 2  # of its cross-validation, and the views that it is fitted on there
LARGER, LATE = 192, 4  # pixels a side of larger images, and epochs at the end with them
TINY = 1e-12

Trial = Callable[[Case], np.ndarray]  # probabilities (M, C) of the test images


def randaugment(size: int) -> list[Any]:
    """Two of many changes after crop and mirror (Cubuk et al. 2020), with torchvision's default magnitude of 9 of 30."""
    level = (0.73, 1.27)
    return [
        *standard(size)[:2],
        A.SomeOf([
            A.NoOp(), A.Affine(shear={"x": (-5, 5), "y": (0, 0)}, p=1), A.Affine(shear={"x": (0, 0), "y": (-5, 5)}, p=1),
            A.Affine(translate_percent={"x": (-0.14, 0.14), "y": (0, 0)}, p=1), A.Affine(rotate=(-9, 9), p=1),
            A.Affine(translate_percent={"x": (0, 0), "y": (-0.14, 0.14)}, p=1),
            A.ColorJitter(brightness=level, contrast=(1, 1), saturation=(1, 1), hue=(0, 0), p=1),
            A.ColorJitter(brightness=(1, 1), contrast=level, saturation=(1, 1), hue=(0, 0), p=1),
            A.ColorJitter(brightness=(1, 1), contrast=(1, 1), saturation=level, hue=(0, 0), p=1),
            A.Sharpen(alpha=(0, 0.27), p=1), A.Posterize(num_bits=7, p=1), A.Solarize(threshold_range=(0.7, 0.7), p=1),
            A.AutoContrast(p=1), A.Equalize(p=1),
        ], n=2, p=1),
    ]  # fmt: skip


def of_head(case: Case, views: Sequence[int] = PLAIN, **changes: Any) -> np.ndarray:
    """Return what a head predicts for the test images: the recipe's, or one with other settings or examples."""
    head, result = train_head(case, **changes) if changes else case.head
    return case.average(predictor(head, result.temperature), views, case.test)


def of_heads(case: Case, count: int = 5) -> np.ndarray:
    """Return the mean of the probabilities of heads with other initial weights and orders of batches."""
    return np.mean([of_head(case, seed=1000 * number + case.seed) for number in range(1, count + 1)], 0)


def of_head_soup(case: Case) -> np.ndarray:
    """Return what the mean of the weights of heads predicts, of which each has learned one view of every image."""
    heads = [train_head(case, views=case.views[number : number + 1])[0] for number in range(len(case.views))]
    soup = copy.deepcopy(heads[0])
    soup.load_state_dict({key: torch.stack([head.state_dict()[key] for head in heads]).mean(0) for key in soup.state_dict()})
    return case.average(calibrated(case, soup), PLAIN, case.test)


def calibrated(case: Case, head: nn.Module) -> Predict:
    """Return what a head predicts, with the temperature of validation images."""
    val = val_embeddings(case)
    with torch.inference_mode():
        logits = head(torch.from_numpy(np.asarray(val.inputs)[0])).numpy()
    return predictor(head, temperature.fit(logits, val.labels))


def of_averaged_head(case: Case, weight: Callable[[int, int], float]) -> np.ndarray:
    """Return what a head predicts whose weights are averages over the steps of training, also where its epoch is chosen."""
    settings = case.settings
    head = StandardizedHead(new_head(case.views.shape[-1], case.folder.classes, case.seed), case.views)
    model = Averaged(head, partial(weight, steps(len(case.train), settings.transfer)))
    examples = Examples(case.views, case.labels(case.train))
    result = fit(model, examples, val_embeddings(case), settings.transfer, settings.compute, case.folder.classes)
    return case.average(predictor(model, result.temperature), PLAIN, case.test)


def of_mixed_head(case: Case, alpha: float) -> np.ndarray:
    """Return what a head predicts that was trained on mixtures of embeddings (Zhang et al. 2018), in each epoch others.

    A mixture with one label instead of two has the same expected loss where its own share is drawn from Beta(α + 1, α).
    """
    rng = np.random.default_rng(case.seed)
    mixed = []
    for epoch in range(case.settings.transfer.epochs):
        view, share = case.views[epoch % len(case.views)], rng.beta(alpha + 1, alpha, (len(case.train), 1)).astype(np.float32)
        mixed.append(share * view + (1 - share) * view[rng.permutation(len(view))])
    return of_head_on(case, np.stack(mixed))


def of_head_on(case: Case, views: np.ndarray) -> np.ndarray:
    """Return what a head predicts that was trained on other embeddings (K, n, D)."""
    head, result = train_head(case, views=views)
    return case.average(predictor(head, result.temperature), PLAIN, case.test)


def fit_regression(case: Case, rows: np.ndarray) -> tuple[Regression, float]:
    """Return logistic regression by L-BFGS on the views of images, and its temperature; cross-validation on these chooses the
    penalty, and its predictions the temperature.
    """
    labels, views = case.labels(rows), case.folder.of_policy()[0][:, rows]
    own = case.folder.unchanged[0][0][rows]
    fold_of = folds.deal(labels, [case.folder.groups[row] for row in rows], FOLDS, case.seed)

    def regression(chosen: np.ndarray, count: int, c: float) -> Regression:
        inputs = views[:count, chosen].reshape(-1, views.shape[-1])
        return Regression(inputs, np.tile(labels[chosen], count), case.folder.classes, c / count)

    out_of_fold = {}
    for c in STRENGTHS:
        out_of_fold[c] = np.zeros((len(rows), case.folder.classes))
        for fold in range(FOLDS):
            model = regression(np.flatnonzero(fold_of != fold), FOLD_VIEWS, c)
            out_of_fold[c][fold_of == fold] = model.probabilities(own[fold_of == fold])
    c = min(STRENGTHS, key=lambda c: float(log_losses(out_of_fold[c], labels).mean()))
    degree = temperature.fit(np.log(out_of_fold[c].clip(TINY)), labels)
    return regression(np.arange(len(rows)), len(views), c), degree


def of_regression(case: Case, rows: np.ndarray) -> np.ndarray:
    """Return what logistic regression on the views of images predicts."""
    model, degree = fit_regression(case, rows)
    return softmax(np.log(model.probabilities(case.folder.unchanged[0][0][case.test]).clip(TINY)), degree)


def steps(examples: int, hyper: Training) -> int:
    """Return the number of steps of a training that is not ended early."""
    return hyper.epochs * -(-examples // hyper.batch_size)


def moving(decay: float, total: int, step: int) -> float:
    """Return the weight of the newest weights in an exponential moving average, which follows faster at its beginning."""
    return max(1 - decay, 9 / (10 + step))


def last_half(total: int, step: int) -> float:
    """Return the same for the mean of the second half of all steps (Izmailov et al. 2018, with the recipe's schedule)."""
    return 1 / max(1, step - total // 2)


class Averaged(nn.Module):
    """A model that is trained as it is, and validated and used with an average of its weights.

    `weight` returns the share of the newest weights in the average after a step.
    """

    def __init__(self, model: nn.Module, weight: Callable[[int], float]) -> None:
        super().__init__()
        self.model, self.weight, self.step, self.is_stepping = model, weight, 0, False
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for number, parameter in enumerate(self.trained):
            self.register_buffer(f"average{number}", parameter.detach().clone())

    def train(self, mode: bool = True) -> Averaged:
        self._update()  # the last step of an epoch
        return super().train(mode)

    @torch.no_grad()
    def _update(self) -> None:
        if self.is_stepping:
            self.step, self.is_stepping = self.step + 1, False
            for number, parameter in enumerate(self.trained):
                self.get_buffer(f"average{number}").lerp_(parameter, self.weight(self.step))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self._update()
            self.is_stepping = True
            return self.model(inputs)
        with self._averages():
            return self.model(inputs)

    @contextmanager
    def _averages(self) -> Iterator[None]:
        newest = [parameter.data for parameter in self.trained]
        for number, parameter in enumerate(self.trained):
            parameter.data = self.get_buffer(f"average{number}")
        try:
            yield
        finally:
            for parameter, data in zip(self.trained, newest, strict=True):
                parameter.data = data


class ViewList:
    """Views of the same images that differ in size."""

    def __init__(self, *views: Any) -> None:
        self.views, self.shape = views, (len(views), *views[0].shape)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, number: int) -> Any:
        return self.views[number]


def of_maps(case: Case, predict: Predict, views: Sequence[int] = PLAIN) -> np.ndarray:
    return case.average(predict, views, case.test, 1)


def of_blocks_on_regression(case: Case) -> np.ndarray:
    """Return what the last blocks predict, trained from a head by L-BFGS."""
    network, (model, degree) = network_of(case), fit_regression(case, case.train)
    weight = model.weights[:-1] / model.std[:, None] / degree
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(weight.T))
        network.head.bias.copy_(torch.from_numpy(model.weights[-1] / degree - model.mean @ weight))
    return of_maps(case, tune(case, network=network))


def of_averaged_blocks(case: Case, weight: Callable[[int, int], float]) -> np.ndarray:
    total = steps(len(case.train), case.settings.finetune)
    return of_maps(case, tune(case, wrap=lambda model: Averaged(model, partial(weight, total))))


def of_soup(case: Case) -> np.ndarray:
    """Return what the mean of the weights before and after fine-tuning predicts (Wortsman et al. 2022)."""
    network, after = network_of(case), case.tuned_network[0].state_dict()
    network.load_state_dict({key: (value + after[key]) / 2 for key, value in network.state_dict().items()})
    assert isinstance(network.features, Backbone)
    model = UpperPart(network.features, network.head, case.folder.cut).eval()
    on_val = np.log(predictor(model, 1.0)(case.folder.unchanged[1][0][case.val]).clip(TINY))
    return of_maps(case, predictor(model, temperature.fit(on_val, case.labels(case.val))))


def of_choice(case: Case, views: Sequence[int]) -> np.ndarray:
    """Return what the model predicts that the leaderboard's rule selects, of the head and the tuned network, by the mean over
    views of validation images.
    """
    head = predictor(case.head[0], case.head[1].temperature)

    def both(rows: np.ndarray, chosen: Sequence[int]) -> dict[str, np.ndarray]:
        averages = {"transfer": case.average(head, chosen, rows), "finetune": case.average(case.tuned, chosen, rows, 1)}
        return {f"{kind}/{NETWORK}": values for kind, values in averages.items()}

    names = tuple(map(str, range(case.folder.classes)))
    groups = np.array([case.folder.groups[row] for row in case.val])
    best, _ = selection.select(case.settings.evaluate.select, Judged(case.labels(case.val), groups, both(case.val, views), names))
    return both(case.test, PLAIN)[best]


def of_policy_blocks(case: Case, name: str) -> np.ndarray:
    return of_maps(case, tune(case, SomeViews(case.folder.of_policy(name)[1], case.train)))


def of_randaugment(case: Case) -> np.ndarray:
    policy(randaugment)  # on call: to a process that only imports this, it would be a policy of Darkroom
    return of_policy_blocks(case, "randaugment")


def mixtures(case: Case, kind: str) -> np.ndarray:
    """Return views (K, n, S, S, 3) of the training images, each mixed with that of another one, for the label of the first.

    The share of the first has the distribution with which one label has the expected loss of two: Beta(α + 1, α), with α 0.2
    for mixup (Zhang et al. 2018) and 1 for CutMix (Yun et al. 2019).
    """
    rng, views = np.random.default_rng(case.seed), case.folder.views("standard", case.folder.images[case.train])
    size = views.shape[2]
    for view in views:
        others = view[rng.permutation(len(view))]
        if kind == "mixup":
            share = rng.beta(1.2, 0.2, (len(view), 1, 1, 1)).astype(np.float32)
            view[:] = (share * view + (1 - share) * others).round()
            continue
        for image, other, share in zip(view, others, rng.beta(2.0, 1.0, len(view)), strict=True):
            side = round(size * (1 - share) ** 0.5)
            top, left = rng.integers(0, size - side + 1, 2)
            image[top : top + side, left : left + side] = other[top : top + side, left : left + side]
    return views


def of_mixtures(case: Case, kind: str) -> np.ndarray:
    return of_maps(case, tune(case, case.folder.outputs(f"{kind} {case.seed}", partial(mixtures, case, kind))[1]))


def larger_images(folder: Folder, size: int) -> np.ndarray:
    """Return the images of a folder with another number of pixels."""
    images, _, _, _ = read_images(Path(folder.settings.ingest.source), folder.settings, [], size, len(folder.images), folder.place)
    return images


def of_larger_images(case: Case, size: int, late: int) -> np.ndarray:
    """Return what networks predict for larger images, trained on such in the last epochs, or not at all (Touvron et al. 2019)."""
    folder = case.folder
    _, own = folder.outputs(f"images of {size}", lambda: larger_images(folder, size)[None])
    predict = case.tuned
    if late:
        _, larger = folder.outputs(f"views of {size}", lambda: folder.views("standard", larger_images(folder, size), late))
        small, epochs = folder.of_policy()[1], case.settings.finetune.epochs
        views = [SomeViews(small, case.train)[epoch % len(small)] for epoch in range(epochs - late)]
        predict = tune(
            case, ViewList(*views, *(SomeViews(larger, case.train)[k] for k in range(late))), own[0][case.val], patience=epochs
        )
    return predict(own[0][case.test])


def of_more_blocks(case: Case, share: float) -> np.ndarray:
    """Return what a network predicts of which a larger share of the blocks is trained."""
    folder = case.folder
    cut = freezing.first_trained(folder.backbone, share)
    _, maps = folder.outputs(f"standard before block {cut}", partial(folder.views, "standard"), cut)
    _, own = folder.outputs(f"images before block {cut}", lambda: folder.images[None], cut)
    return tune(case, SomeViews(maps, case.train), own[0][case.val], unfreeze=share)(own[0][case.test])


def of_all_blocks(case: Case) -> np.ndarray:
    images, count = case.folder.images, case.folder.backbone.block_count
    views = case.folder.views("standard", images[case.train])
    return tune(case, views, images[case.val], unfreeze=count)(images[case.test])


RECIPE = "recipe"
HEADS: dict[str, Trial] = {
    RECIPE: of_head,
    "label smoothing 0": lambda case: of_head(case, label_smoothing=0.0),
    "label smoothing 0.1": lambda case: of_head(case, label_smoothing=0.1),
    "learning rate 0.0003": lambda case: of_head(case, lr=0.0003),
    "learning rate 0.003": lambda case: of_head(case, lr=0.003),
    "label smoothing 0, learning rate 0.003": lambda case: of_head(case, label_smoothing=0.0, lr=0.003),
    "60 epochs": lambda case: of_head(case, epochs=60, patience=60),
    "class weights": lambda case: of_head(case, class_weights="balanced"),
    "five heads": of_heads,
    "soup of a head for each view": of_head_soup,
    "moving average 0.9": lambda case: of_averaged_head(case, partial(moving, 0.9)),
    "moving average 0.99": lambda case: of_averaged_head(case, partial(moving, 0.99)),
    "mean of the last half": lambda case: of_averaged_head(case, last_half),
    "mixup of embeddings, 0.2": lambda case: of_mixed_head(case, 0.2),
    "mixup of embeddings, 1": lambda case: of_mixed_head(case, 1.0),
    "mirror in the choice": lambda case: of_head(case, val=val_embeddings(case, MIRROR)),
    "crops and mirror in the choice": lambda case: of_head(case, val=val_embeddings(case, ALL)),
    "mirror in the prediction": lambda case: of_head(case, MIRROR),
    "crops in the prediction": lambda case: of_head(case, CROPS),
    "crops and mirror in the prediction": lambda case: of_head(case, ALL),
    "L-BFGS": lambda case: of_regression(case, case.train),
    "L-BFGS, on train and val": lambda case: of_regression(case, np.sort(np.concatenate([case.train, case.val]))),
}
BLOCKS: dict[str, Trial] = {
    RECIPE: lambda case: of_maps(case, case.tuned),
    "the head alone": of_head,
    "the leaderboard's choice": lambda case: of_choice(case, PLAIN),
    "the mean of both": lambda case: (of_head(case) + of_maps(case, case.tuned)) / 2,
    "mirror in the choice": lambda case: of_choice(case, MIRROR),
    "crops and mirror in the choice": lambda case: of_choice(case, ALL),
    "mirror in the prediction": lambda case: of_maps(case, case.tuned, MIRROR),
    "crops and mirror in the prediction": lambda case: of_maps(case, case.tuned, ALL),
    "label smoothing 0": lambda case: of_maps(case, tune(case, label_smoothing=0.0)),
    "from a head by L-BFGS": of_blocks_on_regression,
    "moving average 0.9": lambda case: of_averaged_blocks(case, partial(moving, 0.9)),
    "mean of the last half": lambda case: of_averaged_blocks(case, last_half),
    "soup of before and after": of_soup,
    "mixup": lambda case: of_mixtures(case, "mixup"),
    "CutMix": lambda case: of_mixtures(case, "cutmix"),
    "RandAugment": of_randaugment,
    "larger test images": lambda case: of_larger_images(case, LARGER, 0),
    "larger images at the end": lambda case: of_larger_images(case, LARGER, LATE),
    "half of the blocks": lambda case: of_more_blocks(case, 0.5),
    "all blocks": of_all_blocks,
}
