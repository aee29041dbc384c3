"""How the learning rate changes over the steps: a factor of the rate, after a linear warm-up."""

from __future__ import annotations

from collections.abc import Callable

from darkroom.core.errors import ParamsError, nearest
from darkroom.training.loop import rate

Schedule = Callable[[int, int, int], float]
DROPS = ((0.5, 0.1), (0.75, 0.01))  # from which share of the steps on, and to what (He et al. 2016)
RISE = 0.3  # share of the steps in which `one_cycle` rises


def constant(step: int, steps: int, warmup: int) -> float:
    """The same rate from the warm-up to the end."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def stepwise(step: int, steps: int, warmup: int) -> float:
    """A tenth after half of the steps, a hundredth after three quarters (He et al. 2016)."""
    return constant(step, steps, warmup) * min([1.0, *(factor for share, factor in DROPS if step >= share * steps)])


def linear(step: int, steps: int, warmup: int) -> float:
    """A straight line to zero."""
    return (step + 1) / warmup if step < warmup else 1 - (step - warmup) / max(steps - warmup, 1)


def one_cycle(step: int, steps: int, warmup: int) -> float:
    """Up for three tenths of the steps, then a cosine to zero (Smith and Topin 2019), without their change of momentum."""
    return rate(step, steps, max(warmup, round(RISE * steps)))


SCHEDULES: dict[str, Schedule] = {
    "cosine": rate, "constant": constant, "step": stepwise, "linear": linear, "one_cycle": one_cycle,
}  # fmt: skip


def schedule(name: str) -> Schedule:
    """Return a schedule; ParamsError with the nearest name where there is none."""
    if name not in SCHEDULES:
        raise ParamsError(f'there is no schedule "{name}"{nearest(name, SCHEDULES)}', f"there are {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
