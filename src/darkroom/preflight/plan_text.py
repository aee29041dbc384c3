"""The plan of a run in words, and as plain values."""

from __future__ import annotations

import os
from typing import Any

from darkroom.config.params import SPLITS
from darkroom.core.errors import printable
from darkroom.evaluation import significance
from darkroom.preflight import durations
from darkroom.preflight.plan import Content, Plan, join_some

BUSY = 1.5  # times longer a run takes than alone, from which it is said


def lines(plan: Plan) -> list[str]:
    """Return the plan in six lines, and one for each warning."""
    content = plan.content
    left_out = {"ignored": content.ignored, "unusable": content.refused, "named by the table and missing": content.missing}
    rest = "".join(f", {count:,} {why}" for why, count in left_out.items() if count)
    files = f"{content.files:,} file{'s' * (content.files != 1)}, {_bytes(content.bytes)}{rest}"
    here = "" if content.kind != "data set" else " (written by the stage fetch)"
    text = [f"source    {printable(plan.source)}: {content.kind}, {files}{here}"]
    if content.unread:
        text += [f"images    not known: {content.unread}", *(f"{name:<9} not known before ingest" for name in ("splits", "test"))]
    else:
        text += [
            f"images    {_describe_classes(content)}",
            f"splits    {_describe_splits(plan)}",
            f"test      {_describe_test(plan)}",
        ]
    networks = [f"{plan.baseline} from scratch", *(f"{name} ({start})" for name, start in plan.backbones.items())]
    text.append(f"networks  {'; '.join(networks)}")
    after = f", after {plan.download_mib:,.0f} MiB of downloads" if plan.download_mib else ""
    if plan.seconds:
        used = ", which others use now" if plan.busy > BUSY else ""
        used += " (less on the GPU)" if plan.has_gpu else ""
        duration = f"{durations.as_range(sum(plan.seconds.values()), plan.busy)} here with {plan.threads} threads{used}{after}"
        text.append(f"run       {duration}; up to {_bytes(sum(plan.bytes.values()))} written, {_bytes(plan.free)} free")
    else:
        text.append(f"run       duration and size not known before ingest{after}; {_bytes(plan.free)} free")
    notes = [f"note      {printable(note)}" for note in content.notes]
    return text + notes + _warnings(plan)


def _warnings(plan: Plan) -> list[str]:
    return [f"warning: {warning}" for warning in plan.warnings]


def stages(plan: Plan) -> list[list[str]]:
    """Return a row of stage, time alone on the machine, memory and bytes written for each stage, and one for all of them."""
    rows = []
    for stage, seconds in plan.seconds.items():
        rows.append(
            [stage, _time(seconds), _mib(plan.memory.get(stage, 0.0)), _bytes(sum(plan.stage_bytes.get(stage, {}).values()))]
        )
    total = _time(sum(plan.seconds.values()))
    return [*rows, ["all", total, _mib(max(plan.memory.values())), _bytes(sum(plan.bytes.values()))]]


def notes(plan: Plan) -> list[str]:
    """Return what the rows do not say, and the warnings."""
    lines = [f"with {plan.threads} threads; memory without the files that a stage maps; {_bytes(plan.free)} of the disk are free"]
    if plan.busy > BUSY:
        lines.append(f"others use the machine: as it is now, up to {plan.busy:.1f} times the time")
    if plan.download_mib:
        lines.append(f"{plan.download_mib:,.0f} MiB are downloaded, which is not in the time")
    if plan.has_gpu:
        lines.append("on the GPU it takes less time; the GPU's memory is not in the table")
    return lines + [printable(note) for note in plan.content.notes] + _warnings(plan)


def stages_as_json(plan: Plan) -> list[dict[str, Any]]:
    """Return the estimate of each stage: `seconds` with `low` and `high`, and bytes of `memory` and `written`."""
    rows = []
    for stage, seconds in plan.seconds.items():
        low, high = durations.bounds(seconds, plan.busy)
        memory, size = plan.memory.get(stage, 0.0), sum(plan.stage_bytes.get(stage, {}).values())
        rows.append({
            "stage": stage, "seconds": round(seconds, 2), "low": round(low, 2), "high": round(high, 2),
            "memory": round(memory), "written": round(size),
        })  # fmt: skip
    return rows


def _describe_classes(content: Content) -> str:
    totals = content.totals
    size = f"{sum(totals.values()):,} in {len(totals):,} classes"
    if content.kind == "data set":
        return size
    return f"{size}: {join_some([f'{label} {count:,}' for label, count in totals.items()])}"


def _describe_splits(plan: Plan) -> str:
    parts = []
    for name in SPLITS:
        is_drawn = name in plan.drawn or (name == "train" and bool(plan.drawn))
        labels = {label for label, split in plan.content.images if split == name}
        lacking = sorted(set(plan.content.totals) - labels) if labels else []
        lack = f" (without {join_some(lacking)})" if lacking and not is_drawn else ""
        parts.append(f"{'about ' * is_drawn}{plan.splits[name]:,} {name}{lack}")
    if len(plan.drawn) == 2:
        how = "drawn by hash" if plan.split_by == "hash" else "drawn, stratified by class"
        return f"{how}: about {', '.join(parts).replace('about ', '')}"
    origin = f"; {' and '.join(plan.drawn)} drawn from train" if plan.drawn else ""
    return f"the source's own: {', '.join(parts)}{origin}"


def _describe_test(plan: Plan) -> str:
    """Say what the test images can tell apart: what the gate and the report can call significant."""
    count = plan.splits["test"]
    images = f"{count:,} image{'s' * (count != 1)}"
    if plan.detectable is None:
        return f"{images} cannot tell two models apart: no difference of accuracy is significant"
    points, power, unequal = 100 * plan.detectable, 100 * significance.POWER, 100 * significance.DISAGREEMENT
    return (
        f"{images} tell{'s' * (count == 1)} accuracies apart from about {points:.2g} points on "
        f"(if one model alone is right on {unequal:.0f}%; power {power:.0f}%)"
    )


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 100 else f"{seconds / 60:,.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _bytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 10**9 else f"{size / 1e9:,.1f} GB" if size < 1e11 else f"{size / 1e9:,.0f} GB"


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain values, with the seconds and bytes of each part."""
    content = plan.content
    classes: dict[str, dict[str, int]] = {}
    for (label, split), count in sorted(content.images.items()):
        classes.setdefault(label, {})[split or "drawn"] = count
    low, high = durations.bounds(sum(plan.seconds.values()), plan.busy)
    return {
        "source": os.fsencode(plan.source).decode("utf-8", "backslashreplace"), "kind": content.kind, "files": content.files,
        "bytes": content.bytes, "ignored": content.ignored, "unusable": content.refused, "missing": content.missing,
        "unread": content.unread, "notes": list(content.notes), "classes": classes,
        "splits": dict(plan.splits), "drawn": list(plan.drawn),
        "detectable_difference": plan.detectable and round(plan.detectable, 4),
        "baseline": plan.baseline, "backbones": dict(plan.backbones), "download_mib": round(plan.download_mib, 1),
        "seconds": {
            "low": round(low), "high": round(high),
            "stages": {name: round(seconds, 1) for name, seconds in plan.seconds.items()},
        } if plan.seconds else None,
        "bytes_written": {name: round(size) for name, size in plan.bytes.items()} or None,
        "bytes_free": plan.free, "warnings": list(plan.warnings),
    }  # fmt: skip
