"""From an image to its split, the runs and the models that saw it; from a run or a model version to the images it is made of."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.config import params
from darkroom.core.errors import WorkspaceError, printable

if TYPE_CHECKING:
    from darkroom.tracking.lineage import Memory, Row, Sighting
    from darkroom.tracking.queries import Run
    from darkroom.tracking.registry import Version

SAW = {"train": "trained on it", "val": "chosen on it", "test": "tested on it"}
SHOWN = 12  # files of a run that are listed, unless all are asked for


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom lineage", description=__doc__)
    parser.add_argument(
        "what", metavar="X", help="an image file, the beginning of its hash, a run's id, a version's number or alias"
    )
    parser.add_argument("--images", action="store_true", help="list every image of a run or version, with its split")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(arguments)
    from darkroom.tracking import lineage, queries, registry

    name, given.what = registry.address(given.what) or (params.read().register_.name, given.what)
    versions = registry.versions(name)
    memory = lineage.Memory(queries.runs(), versions, queries.manifest)
    file = Path(given.what)
    version = next((item for item in versions if given.what == item.version or given.what in item.aliases), None)
    runs = [run for run in memory.runs.values() if _is_hash(given.what) and run.id.startswith(given.what.lower())]
    if file.is_file():
        found = _image(memory, _hashes(file), str(file))
    elif version is not None:
        found = _version(memory, version, name)
    elif len(runs) == 1:
        found = _run(memory, runs[0])
    elif _is_hash(given.what):
        found = _image(memory, [given.what.lower()], "")
    else:
        raise WorkspaceError(
            f"{given.what} is no file here, and no version or run that MLflow knows",
            f"name an image file, {lineage.SHORTEST} digits or more of its hash or of a run's id, or a version (`darkroom models`)",
        )
    if given.json:
        print(json.dumps(found, indent=2))
    elif "sightings" in found:
        _show_image(found)
    else:
        _show_made(found, given.images)
    return 0


def _is_hash(text: str) -> bool:
    from darkroom.tracking.lineage import SHORTEST

    return len(text) >= SHORTEST and re.fullmatch(r"[0-9a-fA-F]+", text) is not None


def _hashes(file: Path) -> list[str]:
    """Return what identifies an image file: its bytes, and its picture whatever the bytes."""
    from darkroom.data.decoding import decode

    content = file.read_bytes()
    seen = decode(content, 8, "stretch", (0, 0, 0))
    return [hashlib.sha256(content).hexdigest(), *([seen.pixel_hash] if seen.pixel_hash else [])]


def _image(memory: Memory, hashes: list[str], name: str) -> dict[str, Any]:
    found = memory.sightings(hashes)
    if not name and found:
        row = found[0].rows[0]
        name, hashes = row["path"], [row["sha256"], row["pixel_hash"]]
    return {"image": name, "hashes": hashes, "sightings": [_sighting(memory, item) for item in found]}


def _sighting(memory: Memory, found: Sighting) -> dict[str, Any]:
    return {
        "ingest": found.ingest.id, "time": found.ingest.started, "splits": found.splits,
        "rows": [{key: row[key] for key in ("path", "label", "split", "status", "reason")} for row in found.rows],
        "pipelines": [run.name for run in found.pipelines],
        "runs": [{"id": run.id, "stage": run.stage, "pipeline": _pipeline_name(memory, run)} for run in found.learned],
        "versions": [_named(version) for version in found.versions],
    }  # fmt: skip


def _run(memory: Memory, run: Run) -> dict[str, Any]:
    if run.reused in memory.runs:
        run = memory.runs[run.reused]
    made = [_named(version) for version in memory.versions if memory.maker(version) is run]
    return _made(memory, run, run.stage or run.name, made)


def _version(memory: Memory, version: Version, name: str) -> dict[str, Any]:
    maker = memory.maker(version)
    title = f"version {version.version} of {name}, {version.model}" + "".join(f", {alias}" for alias in sorted(version.aliases))
    if maker is None:
        raise WorkspaceError(
            f"the run that trained {title} is not in MLflow" + (f"; it was trained on {version.tags['darkroom.data']}"
                                                               if "darkroom.data" in version.tags else ""),
            "`darkroom sync` delivers runs that are not; versions of an older Darkroom have none",
        )  # fmt: skip
    return _made(memory, maker, title, [_named(version)]) | {"checkpoint_sha256": version.sha256, "checks": version.verdict}


def _made(memory: Memory, run: Run, title: str, versions: list[str]) -> dict[str, Any]:
    ingest = memory.ingest(run)
    rows = (memory.images(ingest) if ingest else None) or []
    parent = memory.parent(run)
    return {
        "what": title, "run": run.id, "stage": run.stage, "status": run.status, "time": run.started,
        "commit": run.tags.get("mlflow.source.git.commit", ""), "dirty": run.tags.get("darkroom.dirty") == "true",
        "pipeline": parent.name if parent else "",
        "stages": [
            {"stage": item.stage, "run": item.reused or item.id, "reused": bool(item.reused)}
            for item in memory.members(run.pipeline) if item.stage != "pipeline"
        ],
        "reused_in": [item.name for item in memory.reusing(run)],
        "inputs": {key.removeprefix("input."): value for key, value in run.tags.items() if key.startswith("input.")},
        "ingest": ingest.id if ingest else "",
        "images": [{key: row[key] for key in ("path", "label", "split", "sha256")} for row in rows if row["status"] == "accepted"],
        "versions": versions,
    }  # fmt: skip


def _named(version: Version) -> str:
    return f"{version.version} ({', '.join([version.model, *sorted(version.aliases)])})"


def _pipeline_name(memory: Memory, run: Run) -> str:
    parent = memory.parent(run)
    return parent.name if parent else ""


def _show_image(found: dict[str, Any]) -> None:
    print(printable(found["image"]) or found["hashes"][0])
    for kind, digest in zip(("sha256", "pixels"), found["hashes"], strict=False):
        print(f"  {kind}  {digest}")
    if not found["sightings"]:
        print("no run that MLflow knows has met this image")
    for item in found["sightings"]:
        print(f"\n{_when(item['time'])}  ingest, run {item['ingest']}")
        for row in item["rows"][:SHOWN]:
            became = row["split"] if row["status"] == "accepted" else f"{row['status']}: {row['reason']}"
            print(f"  {became}, {printable(row['label'])}, as {printable(row['path'])}")
        said = [SAW[split] for split in item["splits"] if split in SAW]
        if not said:
            print("  no model saw it")
            continue
        for pipeline in dict.fromkeys(run["pipeline"] for run in item["runs"]):
            stages = ", ".join(run["stage"] for run in item["runs"] if run["pipeline"] == pipeline)
            print(f"  {' and '.join(said)}: {stages}" + (f"  ({pipeline})" if pipeline else ""))
        if item["versions"]:
            print(f"  among them: version {', '.join(item['versions'])}")


def _show_made(found: dict[str, Any], every: bool) -> None:
    print(found["what"])
    print(f"  run       {found['run']}  {found['stage']}, {found['status'].lower()}, {_when(found['time'])}")
    if found["commit"]:
        print(f"  commit    {found['commit'][:12]}" + (", with changes that were not committed" if found["dirty"] else ""))
    if found["pipeline"]:
        print(f"  pipeline  {found['pipeline']}")
        for stage in found["stages"]:
            print(f"            {stage['stage']:<28} run {stage['run']}" + ("  reused" if stage["reused"] else ""))
    for name in found["reused_in"]:
        print(f"  reused in {name}")
    for path, digest in found["inputs"].items():
        print(f"  read      {path}  md5 {digest}")
    for version in found["versions"]:
        print(f"  version   {version}")
    if found.get("checkpoint_sha256"):
        print(f"  sha256    {found['checkpoint_sha256']}")
    if not found["images"]:
        print("  images    not known: no ingest run with a manifest belongs to its pipeline")
        return
    splits = [row["split"] for row in found["images"]]
    counts = ", ".join(f"{splits.count(name):,} {name}" for name in ("train", "val", "test"))
    print(f"  images    {counts}, from ingest run {found['ingest']}" + ("" if every else "; --images lists them"))
    if every:
        _show_rows(found["images"])


def _show_rows(rows: list[Row]) -> None:
    for row in rows:
        print(f"    {row['split']:<5}  {row['sha256'][:16]}  {printable(row['label'])}  {printable(row['path'])}")


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
