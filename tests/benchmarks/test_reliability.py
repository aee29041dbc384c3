"""The table of `make reliability` has the figures of the run that it is about."""

from __future__ import annotations

import ast
import importlib
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT

FIGURES: dict[str, Any] = {
    "fuzz": [{"target": "image", "inputs": 10, "kinds": {"KeyError in x.py:1": 3}}], "kills": {"moments": [{}] * 5, "lost": []},
    "power_loss": {"moments": [{}] * 4, "lost": [], "refused": ""}, "full_disk": {"stops": [{"fault": ""}] * 6, "lost": []},
    "serving": {"rows": [{"sent": 7, "faults": 0}, {"sent": 8, "faults": 1}]}, "soak": {"rows": [{"flows": 9}], "faults": []},
}  # fmt: skip


def count_targets() -> int:
    """Return how many kinds of files `fuzz.py` damages; an import of what reads them takes seconds."""
    for node in ast.parse((ROOT / "benchmarks/fuzz_targets.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TARGETS" and isinstance(node.value, ast.Dict):
            return len(node.value.keys)
    raise AssertionError


@pytest.fixture
def reliability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("reliability")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "can_cut_power", lambda: True)
    return module


@pytest.fixture
def table(reliability: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, dict[str, Mapping[str, Any]]]]:
    """Return a function that runs the parts, each of which writes its figures and ends with a code, and returns code and rows."""

    def run_parts(codes: Mapping[str, int], *options: str, crashed: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
        started: dict[str, tuple[str, ...]] = {}

        def run(script: str, *arguments: str) -> int:
            name = script.removesuffix(".py")
            started[name] = arguments
            if name not in crashed:
                path = reliability.FUZZ if name == "fuzz" else reliability.REPORTS / f"{name}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(FIGURES[name]))
            return codes.get(name, 0)

        monkeypatch.setattr(reliability, "run", run)
        monkeypatch.setattr(sys, "argv", ["reliability.py", "photos", *options])
        code = reliability.main()
        rows = json.loads((reliability.REPORTS / "reliability.json").read_text())["rows"]
        return code, {name: row | {"arguments": started[name]} for name, row in zip(started, rows, strict=True)}

    return run_parts


def test_a_part_that_crashes_has_lost_and_not_the_figures_of_the_run_before(table):
    """Figures of an earlier run never stand for a part that did not end: its row says so, and counts as lost."""
    _, before = table({"fuzz": 1})
    assert [before["kills"][name] for name in ("tried", "survived", "lost")] == [5, 5, 0]
    assert [before["fuzz"][name] for name in ("tried", "survived", "lost")] == [10, 7, 3]

    code, rows = table({"fuzz": -9, "kills": 1}, "--only", "fuzz", "kills", "soak", crashed=("fuzz", "kills"))
    assert code == 1
    for name, ended in (("fuzz", -9), ("kills", 1)):
        assert rows[name]["part"] == f"{name}.py did not end: exit code {ended}"
        assert (rows[name]["survived"], rows[name]["lost"]) == (0, 1)
    assert (rows["soak"]["survived"], rows["soak"]["lost"]) == (9, 0)


def test_a_part_that_ends_with_an_error_has_lost_one(table):
    """What a part finds beside its figures, as a process that is left over, is lost, too."""
    code, rows = table({"full_disk": 1}, "--only", "full_disk", "kills")
    assert (code, rows["full_disk"]["lost"], rows["kills"]["lost"]) == (1, 1, 0)


def test_all_parts_draw_from_the_seed_and_damage_200_000_files(table):
    """By default every kind of file that is read is damaged so often that there are 200,000 inputs; whatever draws has the seed."""
    _, rows = table({}, "--seed", "7")
    assert list(rows) == list(FIGURES)
    for name in ("fuzz", "kills", "power_loss", "serving", "soak"):
        assert rows[name]["arguments"][-2:] == ("--seed", "7"), name
    inputs = rows["fuzz"]["arguments"][rows["fuzz"]["arguments"].index("--inputs") + 1]
    assert int(inputs) * count_targets() > 200_000


def test_power_fails_only_where_a_disk_can_be_mounted(table, reliability, monkeypatch, capsys):
    """Without root or the FUSE package the other parts run, and the reason is said; who asks for it is refused."""
    monkeypatch.setattr(reliability, "can_cut_power", lambda: False)
    _, rows = table({})
    assert "power_loss" not in rows
    assert "power_loss takes root and `pip install mfusepy`: left out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        table({}, "--only", "power_loss")


def test_moments_are_drawn_within_the_stages_that_had_the_fewest(tmp_path, monkeypatch):
    """Of kills and power failures alike, half are drawn within a stage, for its whole time, and none is left out; the others have
    the more time the more often it was too short."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    kills, power_loss = importlib.import_module("kills"), importlib.import_module("power_loss")
    assert power_loss.draw_moment is kills.draw_moment
    durations = {"names": 1.0, "ingest": 2.0, "baseline": 60.0}
    draw, rows, others = random.Random(0), [], []
    for _ in range(60):
        seconds, within = kills.draw_moment(draw, rows, tmp_path, durations, 0)
        if within:
            assert 0 <= seconds <= durations[within]
            rows.append({"stage": within})
        else:
            others.append(seconds)
    counts = Counter(row["stage"] for row in rows)
    assert 15 < len(rows) < 45
    assert max(counts.values()) - min(counts[stage] for stage in durations) <= 1
    assert max(others) <= kills.LONGEST
    assert max(kills.draw_moment(draw, rows, tmp_path, {}, 6)[0] for _ in range(20)) > kills.LONGEST
