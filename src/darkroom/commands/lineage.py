"""Trace an image to the runs and models that used it, or a run or model version to its images."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import click

from darkroom.commands.param_types import VERSION
from darkroom.config import params
from darkroom.core import user_paths
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import WorkspaceError, printable
from darkroom.core.lazy import lazy_imports
from darkroom.tracking import entities, queries, registry

with lazy_imports():
    from darkroom.core import tables
    from darkroom.data import decoding
    from darkroom.tracking import lineage

USES = {"train": "trained on it", "val": "chosen on it", "test": "tested on it"}
NOT_TESTED = "not tested on it"  # where no evaluation has ended
SHOWN = 12  # rows of an image that are printed


@click.command(cls=Command)
@click.argument("name", type=VERSION, metavar="IMAGE|HASH|RUN|VERSION")
@click.option("--images", is_flag=True, help="list every image of a run or version, with its split")
@json_option
def command(name: str, images: bool, as_json: bool) -> None:
    """Trace an image to the runs and models that used it, or a run or model version to its images.

    The argument is an image file, the beginning of its hash, a run's id, or a version's number or alias.
    """
    model, name = registry.address(name) or (params.read().register_.name, name)
    graph = lineage.Lineage(queries.runs(), registry.versions(model), queries.manifest)
    version = next((item for item in graph.versions if name == item.version or name in item.aliases), None)
    is_hash = len(name) >= lineage.SHORTEST and re.fullmatch(r"[0-9a-fA-F]+", name) is not None
    runs = [run for run in graph.runs.values() if is_hash and run.id.startswith(name.lower())]
    if Path(name).is_file():
        trace = _trace_image(graph, _hashes(Path(name)), name)
    elif version is not None:
        trace = _trace_version(graph, version, model)
    elif len(runs) == 1:
        trace = _trace_run(graph, runs[0])
    elif is_hash:
        trace = _trace_image(graph, [name.lower()], "")
    else:
        raise WorkspaceError(
            f"there is no file {name}, and MLflow has no such version or run",
            f"name an image file, {lineage.SHORTEST} digits or more of its hash or of a run's id, or a version (`darkroom models`)",
        )
    if as_json:
        tables.print_json(trace)
    elif "sightings" in trace:
        _show_image(trace)
    else:
        _show_run(trace, images)


def _hashes(file: Path) -> list[str]:
    """Return the hashes that identify an image file: of its bytes, and of its pixels."""
    content = user_paths.read_file(file)
    image = decoding.decode(content, 8, "stretch", (0, 0, 0))
    return [hashlib.sha256(content).hexdigest(), *([image.pixel_hash] if image.pixel_hash else [])]


def _trace_image(graph: lineage.Lineage, hashes: list[str], name: str) -> dict[str, Any]:
    sightings = graph.sightings(hashes)
    if not name and sightings:
        row = sightings[0].rows[0]
        name, hashes = row.path, [row.sha256, row.pixel_hash]
    return {
        "image": name, "hashes": hashes, "sightings": [_sighting(graph, item) for item in sightings],
        "ingests_without_manifest": [run.id for run in graph.without_manifest()],
    }  # fmt: skip


def _sighting(graph: lineage.Lineage, sighting: lineage.Sighting) -> dict[str, Any]:
    runs = [(run, graph.parent(run)) for run in sighting.training]
    return {
        "ingest": sighting.ingest.id, "time": sighting.ingest.started, "splits": sighting.splits,
        "rows": [{key: getattr(row, key) for key in ("path", "label", "split", "status", "reason")} for row in sighting.rows],
        "pipelines": [run.title for run in sighting.pipelines],
        "runs": [
            {"id": run.id, "stage": run.stage, "pipeline": parent.title if parent else "", "tested": graph.is_tested(run)}
            for run, parent in runs
        ],
        "versions": list(map(_title, sighting.versions)),
    }  # fmt: skip


def _trace_version(graph: lineage.Lineage, version: entities.Version, name: str) -> dict[str, Any]:
    maker = graph.maker(version)
    title = f"version {version.version} of {name}, {version.model}" + "".join(f", {alias}" for alias in sorted(version.aliases))
    if maker is None:
        data = f"; it was trained on {version.tags[entities.DATA]}" if entities.DATA in version.tags else ""
        raise WorkspaceError(
            f"the run that trained {title} is not in MLflow{data}",
            "`darkroom sync` uploads recorded runs; versions of an older Darkroom have none",
        )
    trace = _trace_run(graph, maker) | {"title": title, "versions": [_title(version)]}
    return trace | {"checkpoint_sha256": version.sha256, "checks": version.verdict}


def _trace_run(graph: lineage.Lineage, run: entities.Run) -> dict[str, Any]:
    run = graph.runs.get(run.reused, run)
    ingest, parent = graph.ingest(run), graph.parent(run)
    rows = (graph.images(ingest) if ingest else None) or []
    return {
        "title": run.stage or run.name, "run": run.id, "stage": run.stage, "status": run.status, "time": run.started,
        "commit": run.tags.get("mlflow.source.git.commit", ""), "dirty": run.tags.get("darkroom.dirty") == "true",
        "pipeline": parent.title if parent else "",
        "stages": [
            {"stage": item.stage, "run": item.reused or item.id, "reused": bool(item.reused)}
            for item in graph.members(run.pipeline) if item.stage != "pipeline"
        ],
        "reused_in": [item.title for item in graph.reusing(run)],
        "inputs": {key.removeprefix("input."): value for key, value in run.tags.items() if key.startswith("input.")},
        "ingest": ingest.id if ingest else "",
        "images": [
            {key: getattr(row, key) for key in ("path", "label", "split", "sha256")}
            for row in rows if row.status == "accepted"
        ],
        "versions": [_title(version) for version in graph.versions if graph.maker(version) is run],
    }  # fmt: skip


def _title(version: entities.Version) -> str:
    return f"{version.version} ({', '.join([version.model, *sorted(version.aliases)])})"


def _show_image(trace: dict[str, Any]) -> None:
    click.echo(printable(trace["image"]) or trace["hashes"][0])
    for kind, digest in zip(("sha256", "pixels"), trace["hashes"], strict=False):
        click.echo(f"  {kind}  {digest}")
    if not trace["sightings"]:
        click.echo("no ingest run in MLflow has read this image, as far as it has their manifests")
    if trace["ingests_without_manifest"]:
        click.echo(f"not known: the images of {len(trace['ingests_without_manifest'])} ingest runs, whose manifest MLflow lacks")
    for sighting in trace["sightings"]:
        click.echo(f"\n{entities.local_time(sighting['time'])}  ingest, run {sighting['ingest']}")
        for row in sighting["rows"][:SHOWN]:
            result = row["split"] if row["status"] == "accepted" else f"{row['status']}: {row['reason']}"
            click.echo(f"  {result}, {printable(row['label'])}, as {printable(row['path'])}")
        splits = [split for split in sighting["splits"] if split in USES]
        if not splits:
            click.echo("  no model was trained, chosen or tested on it")
            continue
        if not sighting["runs"]:
            click.echo("  no training run of this data has ended")
        for pipeline in dict.fromkeys(run["pipeline"] for run in sighting["runs"]):
            stages: dict[str, list[str]] = {}
            for run in sighting["runs"]:
                if run["pipeline"] == pipeline:
                    stages.setdefault(_use(splits, run["tested"]), []).append(run["stage"])
            for use, names in stages.items():
                click.echo(f"  {use}: {', '.join(names)}" + (f"  ({pipeline})" if pipeline else ""))
        if sighting["versions"]:
            click.echo(f"  among them: version {', '.join(sighting['versions'])}")


def _use(splits: list[str], is_tested: bool) -> str:
    """Say how a model used an image that is in these splits."""
    return " and ".join(NOT_TESTED if split == "test" and not is_tested else USES[split] for split in splits)


def _show_run(trace: dict[str, Any], list_images: bool) -> None:
    click.echo(trace["title"])
    lines = [("run", f"{trace['run']}  {trace['stage']}, {trace['status'].lower()}, {entities.local_time(trace['time'])}")]
    if trace["commit"]:
        lines.append(("commit", trace["commit"][:12] + (", with uncommitted changes" if trace["dirty"] else "")))
    if trace["pipeline"]:
        lines.append(("pipeline", trace["pipeline"]))
        lines += [("", f"{item['stage']:<28} run {item['run']}{'  reused' * item['reused']}") for item in trace["stages"]]
    lines += [("reused in", name) for name in trace["reused_in"]]
    lines += [("read", f"{path}  md5 {digest}") for path, digest in trace["inputs"].items()]
    lines += [("version", version) for version in trace["versions"]]
    lines += [("sha256", trace["checkpoint_sha256"])] if trace.get("checkpoint_sha256") else []
    splits = [row["split"] for row in trace["images"]]
    counts = ", ".join(f"{splits.count(split):,} {split}" for split in params.SPLITS)
    hint = "" if list_images else "; --images lists them"
    unknown = "not known: no ingest run with a manifest belongs to its pipeline"
    lines.append(("images", f"{counts}, from ingest run {trace['ingest']}{hint}" if splits else unknown))
    for name, value in lines:
        click.echo(f"  {name:<9} {value}")
    for row in trace["images"] if list_images else []:
        click.echo(f"    {row['split']:<5}  {row['sha256'][:16]}  {printable(row['label'])}  {printable(row['path'])}")
