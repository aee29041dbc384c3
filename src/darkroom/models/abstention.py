"""Abstention: which images are refused as unlike the data, at a stated share of images like the data.

The distances of validation images (`mahalanobis`) calibrate it. With 1 / share − 1 of them or more the threshold is one of
them, by rank: a new image of the same kind is refused with the stated probability at most, whatever the network is (split
conformal prediction with one score for all classes, Vovk et al. 2005). With fewer, no rank is as rare, and the threshold is
the prediction limit of a normal distribution of their logarithms: it holds as far as that distribution does.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports

with lazy_imports():  # where validation images are few
    from scipy import stats

REFUSE = 0.02  # share of images like the data, where params.yaml has none
FEWEST = 5  # validation images below which there is no abstention
MAX_DISTANCES = 1_000  # that are kept: more thresholds than a share can be told apart by
DIGITS = 5  # of a distance
MARGIN = 1e-9  # of a product of floats that should be a whole number

Distance = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Threshold:
    """The largest distance that is answered, the share of images like the data beyond it, and what it rests on.

    `is_fitted` tells that the validation images are too few for this share, so that a distribution was fitted to them.
    """

    refuse: float
    distance: float
    images: int
    is_fitted: bool

    def is_unknown(self, distance: float) -> bool:
        """Tell whether an image is refused, by its distance; one that is no number is."""
        return not distance <= self.distance

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class CalibrationDistances:
    """The distances of validation images, ascending, and the steps of the network to the feature map that they take beside the
    embedding; 0 where they take the embedding alone, as those of earlier versions do."""

    distances: tuple[Distance, ...]
    steps: Annotated[int, Field(ge=0)] = 0

    @classmethod
    def of(cls, distances: np.ndarray, steps: int = 0) -> CalibrationDistances:
        """Keep distances (N,); of very many evenly drawn ones, of too few or of some that are no numbers none."""
        ordered = np.sort(distances.astype(np.float64))
        if len(ordered) < FEWEST or not np.isfinite(ordered).all():
            return cls((), steps)
        if len(ordered) > MAX_DISTANCES:
            ordered = ordered[np.linspace(0, len(ordered) - 1, MAX_DISTANCES).round().astype(int)]
        rounded = (math.ceil(value * 10**DIGITS) / 10**DIGITS for value in ordered.tolist())  # up, which refuses no more
        return cls(tuple(rounded), steps)

    def threshold(self, refuse: float) -> Threshold | None:
        """Return the threshold for a share of images; None for the share 0, which refuses none.

        Raises ParamsError for a share that cannot be had, or a model that was trained before there was abstention.
        """
        if not 0 <= refuse < 1:
            raise ParamsError(f"a share of {refuse} cannot be refused", "choose one from 0 to below 1, such as 0.02")
        if refuse == 0:
            return None
        if not self.distances:
            raise ParamsError(
                f"the model has no abstention: it was trained before there was any, or on fewer than {FEWEST} validation images",
                "train it again: `dvc repro`, or refuse 0",
            )
        count = len(self.distances)
        place = math.ceil((count + 1) * (1 - refuse) - MARGIN)
        if place <= count:
            return Threshold(refuse, self.distances[max(place, 1) - 1], count, False)
        logs = np.log(np.maximum(self.distances, 10**-DIGITS))
        reach = float(stats.t.ppf(1 - refuse, count - 1)) * math.sqrt(1 + 1 / count)
        limit = math.exp(float(logs.mean()) + reach * float(logs.std(ddof=1)))
        return Threshold(refuse, max(limit, self.distances[-1]), count, True)

    def default(self, refuse: float) -> Threshold | None:
        """Return the same; None where the model has no abstention."""
        return self.threshold(refuse) if self.distances else None


NO_DISTANCES = CalibrationDistances(())  # of models that were trained before there were any


def needed(refuse: float) -> int:
    """Return how many validation images a share needs, so that its threshold is a rank among them."""
    return math.ceil(1 / refuse - 1 - MARGIN)
