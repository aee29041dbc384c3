"""Chains of modules as blocks, which are frozen one by one: shared by the sources of backbones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def units(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the links of a chain: plain containers are opened, everything else is one link."""
    if type(module) in (nn.Sequential, nn.ModuleList):
        for child in module.children():
            yield from units(child)
    else:
        yield module


def blocks(links: list[nn.Module]) -> list[list[nn.Module]]:
    """Group a chain into blocks: single layers up to and with a pooling layer, or one composite module.

    A normalisation that has its activation as a child, as timm's have, is a single layer.
    """
    result: list[list[nn.Module]] = [[]]
    closed = False
    for unit in links:
        composite = next(unit.children(), None) is not None and not isinstance(unit, nn.modules.batchnorm._BatchNorm)
        weightless = next(unit.parameters(), None) is None
        if result[-1] and not weightless and (closed or composite):
            result.append([])
        result[-1].append(unit)
        closed = composite or isinstance(unit, _POOLS) or (closed and weightless)
    return result


def widen_stem(net: nn.Module) -> None:
    """Set the first strided convolution to stride 1."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            if module.stride == (2, 2):
                module.stride = (1, 1)
            return


def parts(net: nn.Module) -> list[list[nn.Module]]:
    """Return the parts of a network that runs whole, which fine-tuning unfreezes from the last one on."""
    children = [unit for child in net.children() for unit in units(child)]
    result = [[unit] for unit in children if next(unit.parameters(), None) is not None]
    own = dict(net.named_parameters(recurse=False))
    if own and result:
        result[0].append(_OwnParameters(own))
    return result


class _OwnParameters(nn.Module):
    """The parameters that a network owns itself, not by a layer: class tokens, embeddings of places."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)
