"""The optimizers of params.yaml by name, as classes of `torch.optim`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import optim


def _without_compiler(optimizer: type[optim.Optimizer]) -> Callable[..., optim.Optimizer]:
    """Return an optimizer class whose methods have no hooks for torch's compiler.

    The first call of such a hook imports `torch._dynamo`, which takes as long as importing torch
    (`benchmarks/startup.py`). Only `torch.compile` needs it.
    """
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in ("add_param_group", "state_dict", "load_state_dict")}
    methods |= {"zero_grad": inspect.unwrap(optimizer.zero_grad), "step": torch.no_grad()(inspect.unwrap(optimizer.step))}
    return partial(type(optimizer.__name__, (optimizer,), methods), fused=True)


_SGD = _without_compiler(optim.SGD)

# each takes parameter groups, [{"params": [parameters], "lr": learning rate}], and `weight_decay`
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adamw": _without_compiler(optim.AdamW),  # Loshchilov and Hutter 2019
    "sgd": partial(_SGD, momentum=0.9, nesterov=True),  # Sutskever et al. 2013
    "adam": _without_compiler(optim.Adam),  # Kingma and Ba 2015: weight decay is part of the gradient
    "heavy_ball": partial(_SGD, momentum=0.9),  # Polyak 1964
    "plain_sgd": _SGD,
}
