"""Rank frozen backbones on the images of a project, without training one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from darkroom.commands.param_types import KNOWN_BACKBONE, WEIGHTS
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import DarkroomError, ParamsError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import numpy as np

    from darkroom.commands import check
    from darkroom.config import backbone_names, params, recipes
    from darkroom.core import progress, tables
    from darkroom.data import seen_images
    from darkroom.evaluation import backbone_ranking
    from darkroom.lab import backbone_embeddings, backbone_plot
    from darkroom.models import pretrained

INGESTED, PICTURE = Path("data/ingested"), Path("reports/backbones.png")


@click.command(cls=Command)
@click.argument("names", nargs=-1, type=KNOWN_BACKBONE, metavar="[NAME]…")
@click.option(
    "--weights", type=WEIGHTS, metavar="SOURCE", help="imagenet, package, random, or a folder", show_default="as in params.yaml"
)
@click.option(
    "--max-ms", type=click.FloatRange(min=0, min_open=True), metavar="MS", help="of those that take at most so long an image"
)
@click.option("--top", type=click.IntRange(min=1), default=1, metavar="K", help="how many --write takes")
@click.option("--write", is_flag=True, help="write the best K under --max-ms into params.yaml, comments kept")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=PICTURE, metavar="FILE.png", help="the picture")
@json_option
def command(
    names: tuple[str, ...], weights: str | None, max_ms: float | None, top: int, write: bool, out: Path, as_json: bool
) -> None:
    """Rank frozen backbones on the training and validation images of the last `ingest`: the accuracy of a linear head that is
    cross-validated on their embeddings, its difference from the best with an interval, and what an image costs.

    Without names the backbones of params.yaml. Test images have no part in it. Embeddings are kept in .darkroom/backbones. A
    backbone whose weights cannot be had is listed with the reason.

    \b
    darkroom backbones rank mobilenet_v2 timm/efficientnet_lite0 timm/vit_small_patch14_dinov2.lvd142m
    darkroom backbones rank --max-ms 20 --write
    """
    settings = params.read()
    chosen = list(dict.fromkeys(names or settings.backbones))
    if not chosen:
        raise ParamsError("no backbone is named", "name some: `darkroom backbones rank mobilenet_v2 timm/efficientnet_lite0`")
    source, folder = recipes.weights_of(settings, weights)
    if source == "pretrain":
        raise ParamsError(
            "`weights.source` is pretrain: a ranking would train each backbone first", "name other weights: --weights imagenet"
        )
    loaded = seen_images.load(INGESTED, settings.compute.seed)
    images, labels, groups, classes = loaded.images, loaded.labels, loaded.groups, loaded.classes
    embedded: dict[str, backbone_embeddings.Embedded] = {}
    heads: dict[str, backbone_ranking.Heads] = {}
    refused: dict[str, str] = {}
    for name in chosen:
        try:
            embedded[name] = _embed(name, images, settings, source, folder)
        except DarkroomError as error:
            if len(chosen) == 1:
                raise
            refused[name] = error.problem.splitlines()[0]
            continue
        with progress.Progress(f"cross-validating {name}", backbone_ranking.FITS, "fits") as bar:
            heads[name] = backbone_ranking.cross_validate(
                embedded[name].values, labels, groups.tolist(), classes, settings.compute.seed, bar.advance
            )
    if not heads:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ParamsError(f"no backbone can be ranked: {reasons}", "name others, or other weights: --weights SOURCE")
    evidence = {name: backbone_ranking.logme(item.values, labels) for name, item in embedded.items()}
    ranked = backbone_ranking.rank(heads, evidence, groups, settings.compute.seed)
    milliseconds = {name: item.milliseconds for name, item in embedded.items()}
    best = backbone_ranking.choose(ranked, milliseconds, max_ms, top)
    _draw(ranked, milliseconds, best, max_ms, len(labels), out)
    agreement = backbone_ranking.agreement(ranked)
    if as_json:
        rows = [asdict(item) | _cost(embedded[item.name]) for item in ranked]
        tables.print_json({
            "images": len(labels), "classes": classes, "weights": source, "ranked": rows, "refused": refused, "chosen": best,
            "kendall_tau_of_logme": agreement, "picture": str(out),
        })  # fmt: skip
    else:
        _show(ranked, embedded, refused, agreement, len(labels), out)
    if write:
        _write(best, max_ms, source, folder, settings, as_json)


def _embed(
    name: str, images: np.ndarray, settings: params.Params, source: str, folder: Path
) -> backbone_embeddings.Embedded:  # fmt: skip
    backbone_names.check(name)
    head = settings.transfer.head
    place = backbone_embeddings.place(name, images, source, folder, head, settings.compute)
    kept = backbone_embeddings.load(place)
    if kept is None:
        backbone, origin = pretrained.load(name, images.shape[1], head, source, folder, settings.compute.seed)
        kept = backbone_embeddings.compute(name, backbone, origin, images, settings.compute)
        backbone_embeddings.save(place, kept)
    return kept


def _cost(item: backbone_embeddings.Embedded) -> dict[str, Any]:
    return {
        "milliseconds": item.milliseconds, "parameters": item.parameters, "multiply_adds": item.multiply_adds,
        "dim": item.values.shape[1], "license": item.license,
    }  # fmt: skip


def _draw(
    ranked: list[backbone_ranking.Ranked],
    milliseconds: dict[str, float],
    best: list[str],
    most: float | None,
    images: int,
    out: Path,
) -> None:
    top = ranked[0].accuracy
    marks = [
        backbone_plot.Mark(item.name, item.accuracy, top + item.low, top + item.high, milliseconds[item.name], item.name in best)
        for item in ranked
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    backbone_plot.draw(marks, f"{images:,} images, bars: 95% intervals of the differences from {ranked[0].name}", out, most)


def _show(
    ranked: list[backbone_ranking.Ranked], embedded: dict[str, backbone_embeddings.Embedded], refused: dict[str, str],
    agreement: float | None, images: int, out: Path,
) -> None:  # fmt: skip
    rows = []
    for item in ranked:
        cost = embedded[item.name]
        behind = "" if item is ranked[0] else f"{item.difference:+.4f} ({item.low:+.4f}, {item.high:+.4f})"
        figures = (f"{item.accuracy:.4f}", behind, f"{item.log_loss:.4f}", f"{item.logme:.4f}", f"{cost.milliseconds:.1f}")
        rows.append((item.name, *figures, f"{cost.parameters / 1e6:.1f}", f"{cost.multiply_adds / 1e6:,.0f}"))
    header = ("backbone", "accuracy", "difference, 95% interval", "log loss", "LogME", "ms", "parameters, M", "multiply-adds, M")
    tables.show(header, rows, right=header[1:])
    click.echo(f"\n{images:,} training and validation images, {backbone_ranking.FOLDS} folds; ms: embedding one image here")
    if agreement is not None:
        click.echo(f"LogME orders them alike where Kendall's τ is 1: {agreement:.2f}")
    for name, reason in refused.items():
        click.echo(f"not ranked: {name}: {reason}")
    click.echo(f"picture: {out}")


def _write(best: list[str], most: float | None, source: str, folder: Path, settings: params.Params, quiet: bool) -> None:
    if not best:
        raise ParamsError(f"no backbone takes at most {most:g} ms an image; params.yaml is as it was", "raise --max-ms")
    requested: dict[str, Any] = {"backbones": best}
    if (source, str(folder)) != (settings.weights.source, settings.weights.folder):
        requested |= {"weights.source": source, "weights.folder": str(folder)}
    changed = recipes.apply(Path("params.yaml"), requested, check.check_params)
    for key, (before, after) in changed.items():
        click.echo(f"{key}: {before} → {after}", err=quiet)
    if not changed:
        click.echo("params.yaml: unchanged", err=quiet)
