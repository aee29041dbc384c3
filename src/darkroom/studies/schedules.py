"""Learning-rate schedules: a factor of the learning rate for each step, with a linear warm-up."""

from __future__ import annotations

from collections.abc import Callable

from darkroom.core.errors import ParamsError, nearest
from darkroom.training.loop import lr_factor

Schedule = Callable[[int, int, int], float]  # (step, steps, warm-up steps) to a factor
DROPS = ((0.5, 0.1), (0.75, 0.01))  # (share of the steps, factor from there on), as in He et al. 2016
RISE = 0.3  # share of the steps in which `one_cycle` rises


def constant(step: int, steps: int, warmup: int) -> float:
    """A constant rate after the warm-up."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def stepwise(step: int, steps: int, warmup: int) -> float:
    """A tenth after half of the steps, a hundredth after three quarters (He et al. 2016)."""
    return constant(step, steps, warmup) * min([1.0, *(factor for share, factor in DROPS if step >= share * steps)])


def linear(step: int, steps: int, warmup: int) -> float:
    """A straight line to zero."""
    return (step + 1) / warmup if step < warmup else 1 - (step - warmup) / max(steps - warmup, 1)


def one_cycle(step: int, steps: int, warmup: int) -> float:
    """A linear rise for three tenths, then a cosine to zero (Smith and Topin 2019), at constant momentum."""
    return lr_factor(step, steps, max(warmup, round(RISE * steps)))


SCHEDULES: dict[str, Schedule] = {
    "cosine": lr_factor, "constant": constant, "step": stepwise, "linear": linear, "one_cycle": one_cycle,
}  # fmt: skip


def schedule(name: str) -> Schedule:
    """Return a schedule. Raises ParamsError, with the nearest name, if there is no such schedule."""
    if name not in SCHEDULES:
        raise ParamsError(f'there is no schedule "{name}"{nearest(name, SCHEDULES)}', f"choose from {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
