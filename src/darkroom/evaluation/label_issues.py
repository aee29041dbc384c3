"""Labels that may be wrong: out-of-fold predictions, calibrated together with the share of wrong labels."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from darkroom.core import atomic, csv_cells, large_arrays
from darkroom.evaluation import folds
from darkroom.evaluation.pixel_baseline import Regression

FOLDS = 5
MOST_FITTED = 5_000  # images that the regression of a fold is fitted on, at most
MOST_PREDICTED = 8_000  # images whose labels are predicted together
MOST_TUNED = 1_000  # images on which each of `STRENGTHS` is tried, at most
STRENGTHS = (0.001, 0.01, 0.1)  # of the likelihood against the penalty
DRAWS = 2  # ways to deal the folds, over which predictions are averaged
FITS = len(STRENGTHS) + DRAWS * FOLDS
TINY = float(np.finfo(np.float32).tiny)
MOST_CALIBRATED = 5_000  # images on which the temperature and the share of wrong labels are fitted, at most
TEMPERATURES = np.geomspace(0.1, 10, 47)  # the middle one is 1
SHARES = np.linspace(0, 0.5**0.5, 101) ** 2  # of wrong labels, denser towards 0: equally weighted, as Jeffreys' prior is
NEGLIGIBLE = 1e-6  # weight of a temperature that is left out
SMOOTHING = 30  # labels, without which the rare pairs of few images are believed
DISCOUNT = 0.5  # of the odds that a label is wrong: on photographs, hard images are half of the evidence (benchmarks/labels.py)
DOUBTFUL = 0.25  # probability of being wrong from which on a label is a candidate


@dataclass(frozen=True)
class LabelIssue:
    """An image whose label may be wrong, with the probability that it is.

    `confidence` is the calibrated probability of the suggested class, `quality` that of the label, both as if no label
    were wrong.
    """

    path: str
    sha256: str
    split: str
    label: str
    suggested: str
    confidence: float
    quality: float
    error_probability: float


class LabelNoise(NamedTuple):
    """How probable each of `TEMPERATURES` and of `SHARES` of wrong labels are, together: (T, S).

    `log_loss` is that of the labels, on average over both.
    """

    weights: np.ndarray
    log_loss: float

    @property
    def temperature(self) -> float:
        """Return the most probable temperature."""
        return float(TEMPERATURES[self.weights.sum(1).argmax()])

    @property
    def share(self) -> float:
        """Return the expected share of wrong labels."""
        return float(self.weights.sum(0) @ SHARES)


_UNCALIBRATED = (np.arange(len(TEMPERATURES)) == len(TEMPERATURES) // 2)[:, None]
NO_NOISE = LabelNoise(np.where(_UNCALIBRATED & (SHARES == 0), 1.0, 0.0), 0.0)


def out_of_fold(
    inputs: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    classes: int,
    seed: int,
    advance: Callable[[int], None] = lambda fits: None,
) -> tuple[float, np.ndarray]:
    """Return `c`, and probabilities (N, classes) float32 by regression on inputs (N, D) of the other folds alone.

    They are means over `DRAWS` ways to deal the folds. `c` is the one of `STRENGTHS` which, fitted on `MOST_TUNED`
    images, has the lowest log loss on the first fold, whose labels are as doubtful as any, with the temperature and the
    share of wrong labels that suit it best. `advance` is called after each of `FITS` fits. A class that the other folds
    do not hold has probability 0, and no other has: softmax in float32 would give 0 to the most confident mistakes.
    """
    probabilities = large_arrays.zeros((len(labels), classes), np.float32)

    def fit(fold_of: np.ndarray, fold: int, c: float, most: int = MOST_FITTED) -> Regression:
        chosen = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(fold_of != fold))[:most])
        advance(1)
        return Regression(inputs[chosen], labels[chosen], classes, c)

    def log_loss(c: float, fold_of: np.ndarray, fold: int) -> float:
        places = _some(np.flatnonzero(fold_of == fold))
        return fit_noise(_predict(fit(fold_of, fold, c, MOST_TUNED), inputs[places]), labels[places]).log_loss

    c = 0.0
    with threadpool_limits(1):  # two threads are no faster for such small products, and slower on a busy machine
        for draw in range(DRAWS):
            fold_of = folds.deal(labels, groups, FOLDS, draw)
            used = [fold for fold in range(FOLDS) if 0 < (fold_of == fold).sum() < len(labels)]
            if not used:
                advance(FITS)
                return STRENGTHS[0], probabilities
            advance(FOLDS - len(used))
            if not c:
                c = min(STRENGTHS, key=partial(log_loss, fold_of=fold_of, fold=used[0]))
            for fold in used:
                model, own = fit(fold_of, fold, c), np.flatnonzero(fold_of == fold)
                for start in range(0, len(own), MOST_PREDICTED):
                    places = own[start : start + MOST_PREDICTED]
                    probabilities[places] += (_predict(model, inputs[places]) / DRAWS).astype(np.float32)
    return c, probabilities


def find(
    probabilities: np.ndarray, labels: np.ndarray, images: Sequence[Mapping[str, Any]], classes: tuple[str, ...]
) -> tuple[list[LabelIssue], LabelNoise]:
    """Return images whose label is wrong with probability `DOUBTFUL` or more, the worst first, and the noise of all labels.

    `probabilities` (N, C) are out of fold. Images whose label has probability 0, since no other fold holds its class,
    are left out. A share of wrong labels is estimated from all, so that the probabilities, summed, are the number of
    wrong labels to be expected among the candidates.
    """
    judged = np.flatnonzero(probabilities[np.arange(len(labels)), labels] > 0)
    present, numbers = np.unique(labels[judged], return_inverse=True)
    if len(present) < 2:
        return [], NO_NOISE
    if len(judged) < len(labels) or len(present) < probabilities.shape[1]:
        all_probabilities, probabilities = probabilities, large_arrays.zeros((len(judged), len(present)), probabilities.dtype)
        for rows in large_arrays.row_blocks(len(judged), 8 * len(present)):
            probabilities[rows] = all_probabilities[np.ix_(judged[rows], present)]
    noise = fit_noise(probabilities, numbers)
    wrong = discount(error_probabilities(probabilities, numbers, noise))
    doubtful = np.flatnonzero(wrong >= DOUBTFUL)
    issues = []
    for rows in large_arrays.row_blocks(len(doubtful), 8 * len(present)):
        own = calibrate(probabilities[doubtful[rows]], noise.temperature)
        for i, values in zip(doubtful[rows].tolist(), own, strict=True):
            image, quality = images[judged[i]], float(values[numbers[i]])
            values[numbers[i]] = -1  # the suggestion is another class
            best = int(values.argmax())
            issues.append(
                LabelIssue(
                    path=image["path"], sha256=image["sha256"], split=image["split"], label=classes[present[numbers[i]]],
                    suggested=classes[present[best]], confidence=round(float(values[best]), 4), quality=round(quality, 4),
                    error_probability=round(float(wrong[i]), 4),
                )
            )  # fmt: skip
    return sorted(issues, key=lambda issue: (-issue.error_probability, issue.quality, issue.path)), noise


def _predict(model: Regression, inputs: np.ndarray) -> np.ndarray:
    predicted = model.probabilities(inputs)
    predicted[:, model.present] = predicted[:, model.present].clip(TINY)
    return predicted


def _some(places: np.ndarray) -> np.ndarray:
    """Return at most `MOST_CALIBRATED` of places (N,), evenly spread."""
    few = min(len(places), MOST_CALIBRATED)
    return places[np.linspace(0, len(places) - 1, few).astype(int)] if few < len(places) else places


def fit_noise(probabilities: np.ndarray, labels: np.ndarray) -> LabelNoise:
    """Return how probable temperatures and shares of wrong labels are, given labels (N,) and probabilities (N, C).

    A label is that of the true class, or, in the share, of another one: which one depends on the true class (Natarajan
    et al. 2013). Predictions that are merely overconfident are mended by the temperature; wrong labels are less likely
    than any temperature allows. Before labels are seen, the temperatures are equally probable, and so are the shares.
    """
    some = _some(np.arange(len(labels)))
    probabilities, labels = probabilities[some], labels[some]
    fits = np.stack([_log_likelihood(*_explain(probabilities, labels, temperature)) for temperature in TEMPERATURES.tolist()])
    weights = np.exp(fits - fits.max())
    return LabelNoise(weights / weights.sum(), -float(fits.max() + np.log(weights.mean())) / len(labels))


def error_probabilities(probabilities: np.ndarray, labels: np.ndarray, noise: LabelNoise) -> np.ndarray:
    """Return the probability (N,) that a label is wrong, by Bayes' rule, averaged over temperatures and shares."""
    right = np.zeros(len(labels))
    for temperature, weights in zip(TEMPERATURES.tolist(), noise.weights, strict=True):
        if weights.sum() > NEGLIGIBLE:
            quality, mistaken = _explain(probabilities, labels, temperature)
            for rows in large_arrays.row_blocks(len(labels), 8 * len(SHARES)):
                own = quality[rows]
                right[rows] += (own[:, None] * (1 - SHARES) / _likelihood(own, mistaken[rows])) @ weights
    return (1 - right / noise.weights.sum()).clip(0, 1)


def discount(wrong: np.ndarray) -> np.ndarray:
    """Return the probabilities (N,) that labels are wrong with odds multiplied by `DISCOUNT`.

    By predictions alone, an image that is harder than all others cannot be told from a wrong label, and is taken for one.
    """
    return DISCOUNT * wrong / (1 - wrong + DISCOUNT * wrong)


def calibrate(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities (N, C) whose logits are divided by a temperature."""
    logits = np.log(probabilities.astype(np.float64).clip(TINY)) / temperature
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def _explain(probabilities: np.ndarray, labels: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the likelihood (N,) of each label if it is right, and if it is wrong.

    Of an image of class k a wrong label is l as often as images labelled l seem to be of class k, all others of
    class k considered, the own label left out, and `SMOOTHING` labels added that are spread evenly.
    """
    images, classes = probabilities.shape
    quality, mistaken = np.empty(images), np.empty(images)
    confused = np.zeros((classes, classes))  # by label, and by the class that the images seem to be of
    evenly = SMOOTHING / (classes - 1)

    def others(rows: slice) -> np.ndarray:
        own, places = calibrate(probabilities[rows], temperature), (np.arange(rows.stop - rows.start), labels[rows])
        quality[rows] = own[places]
        own[places] = 0
        return own

    for rows in (blocks := list(large_arrays.row_blocks(images, 8 * classes))):
        own = others(rows)
        labelled = sparse.csr_array((np.ones(len(own)), (np.arange(len(own)), labels[rows])), shape=own.shape)
        confused += labelled.T @ own
    total = confused.sum(0)
    for rows in blocks:
        own = own if len(blocks) == 1 else others(rows)
        mistaken[rows] = (own * ((confused[labels[rows]] - own + evenly) / (total - own + SMOOTHING))).sum(1)
    return quality, mistaken


def _likelihood(quality: np.ndarray, mistaken: np.ndarray) -> np.ndarray:
    """Return the likelihood (N, S) of labels, right or wrong, for each of `SHARES`."""
    return (quality[:, None] * (1 - SHARES) + mistaken[:, None] * SHARES).clip(TINY)


def _log_likelihood(quality: np.ndarray, mistaken: np.ndarray) -> np.ndarray:
    return np.log(_likelihood(quality, mistaken)).sum(0)


def expected_precision(issues: Sequence[LabelIssue]) -> float | None:
    """Return the expected share of wrong labels among candidates; None where there are none."""
    return sum(issue.error_probability for issue in issues) / len(issues) if issues else None


def write(path: Path, issues: Iterable[LabelIssue]) -> None:
    """Write the issues as CSV, a column per field of `LabelIssue`."""
    with atomic.new_file(path) as working, working.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(LabelIssue)])
        writer.writerows(csv_cells.escaped(asdict(issue).values()) for issue in issues)
