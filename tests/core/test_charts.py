"""Charts: readable axes for any values, and valid SVG."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest

from darkroom.core import axes, charts


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.93, 0.97), (-3, 17), (0.5, 0.5), (1, 30), (0, 1e-5), (990, 1010)])
def test_ticks_are_few_round_and_inside(low, high):
    """There are at most seven ticks, all within the range, equally far apart."""
    ticks = axes.ticks(low, high)
    assert len(ticks) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert len({round(b - a, 9) for a, b in itertools.pairwise(ticks)}) <= 1


def test_logarithmic_ticks_cover_a_wide_range():
    """Over three decades the ticks are 1, 2 and 5 times powers of ten; within one of them there are still
    two."""
    assert axes.log_ticks(0.004, 3) == pytest.approx([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2])
    assert len(axes.log_ticks(0.31, 0.34)) >= 2


@pytest.mark.parametrize("epochs", [1, 2, 40])
@pytest.mark.parametrize("log", [True, False])
def test_every_series_has_a_line_inside_the_chart(epochs, log):
    """The chart is valid XML with a line for every series, whatever its name, values or length; shares and
    losses alike."""
    names = ["<baseline> & co", *(f"finetune/net{i}" for i in range(12))]
    points = [(i + 1.0, 0.0 if i else (2.5 if log else 1.0)) for i in range(epochs)]
    colours = {name: i for i, name in enumerate(names)}
    svg = ET.fromstring(charts.lines("loss", dict.fromkeys(names, points), "epoch", colours, shares=not log, log=log))
    lines = svg.findall(".//polyline")
    assert [line.find("title").text for line in lines] == names
    for line in lines:
        places = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        assert len(places) == epochs
        assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in places)


@pytest.mark.parametrize("decades", [3, 6, 16])
def test_logarithmic_ticks_are_few_over_any_number_of_decades(decades):
    """There are at most as many ticks as asked for, all powers of ten where 1, 2 and 5 times them would be too many."""
    ticks = axes.log_ticks(3e-10, 3e-10 * 10**decades, 6)
    assert 2 <= len(ticks) <= 6
    assert all(f"{tick:e}".startswith("1.000000e") for tick in ticks)


def boxes(svg):
    """Return the edges of the names beside points: left, top, right and bottom."""
    names = [text for text in svg.findall("text") if text.get("class") is None and text.get("text-anchor") is None]
    places = [(float(text.get("x")), float(text.get("y")), len(text.text) * charts.CHARACTER) for text in names]
    return [(x, y - charts.LINE, x + width, y) for x, y, width in places]


@pytest.mark.parametrize(("count", "step"), [(9, 0.0), (9, 0.02), (4, 0.5)])
def test_names_beside_dots_do_not_overlap(count, step):
    """Names of single dots are inside the chart and cover no other name, however close the dots are; each dot has its name as
    a hint."""
    series = [charts.Series(f"network {i}", [(10.0 ** (i * step), 0.9 + i * step / 50)], i, "dots") for i in range(count)]
    chart = charts.Chart("accuracy", axes.Axis("cost", log=True), axes.Axis(shares=True), series)
    svg = ET.fromstring(charts.draw(chart))
    assert [circle.find("title").text.split(":")[0] for circle in svg.findall("circle")] == [item.name for item in series]
    named = boxes(svg)
    assert len(named) >= (count if step == 0.5 else 1)
    assert all(left >= 0 and right <= charts.WIDTH and top >= 0 for left, top, right, _ in named)
    for (a, b, c, d), (e, f, g, h) in itertools.combinations(named, 2):
        assert c <= e or g <= a or d <= f or h <= b


def test_points_of_a_scatter_plot_are_inside_it():
    """Each point with a cost is drawn inside the chart, the highlighted one last; without a cost there is no
    point, or no chart."""
    points = [charts.Point(str(i), f"<{i}>", 10.0**i, i / 5, chosen=i == 1) for i in range(5)]
    svg = ET.fromstring(charts.scatter("cost", "seconds", [*points, charts.Point("x", "free", 0.0, 0.5)]))
    marks = svg.findall(".//g")
    assert [mark.find("text").text for mark in marks] == ["0", "2", "3", "4", "1"]
    circles = [mark.find("circle") for mark in marks]
    assert all(0 < float(c.get("cx")) < charts.WIDTH and 0 < float(c.get("cy")) < charts.HEIGHT for c in circles)
    assert charts.scatter("cost", "seconds", [charts.Point("x", "free", 0.0, 0.5)]) == ""


def test_a_very_wide_interval_leaves_room_for_the_others():
    """Dots stay apart beside an interval that is a hundred times as wide as their differences, and all places
    are on the axis."""
    rows = [charts.Dot("a", 0.90, 0.1, 1.7), charts.Dot("b", 0.95), charts.Dot("c", 0.93, 0.92, 0.94)]
    plot = charts.dots(rows, "means", shares=False)
    a, b, _ = plot["lines"]
    assert b["at"] - a["at"] > 8
    assert all(0 <= line["left"] <= line["left"] + line["width"] <= 100.01 for line in plot["lines"])
    assert [line["text"] for line in plot["lines"]] == ["0.9", "0.95", "0.93"]


def test_the_palette_has_a_dark_colour_for_each_light_one():
    """Both palettes have as many colours, all different."""
    assert len(charts.PALETTE) == len(charts.PALETTE_DARK) == len(set(charts.PALETTE)) == len(set(charts.PALETTE_DARK))


@pytest.mark.parametrize(
    ("title", "squeezed"), [("finetune/mobilenet_v3_small", False), ("finetune/timm/vit_small_patch14_dinov2.lvd142m", True)]
)
def test_a_long_title_fits_the_chart(title, squeezed):
    """A title that is wider than the chart, as the name of a network can be, is squeezed into it; others keep their letters."""
    drawn = charts.lines(title, {"a": [(1, 0.5), (2, 0.6)]}, "epoch", {"a": 0})
    text = next(text for text in ET.fromstring(drawn).findall(".//text") if text.text == title)
    assert text.get("textLength") == (str(charts.WIDTH - charts.LEFT) if squeezed else None)
