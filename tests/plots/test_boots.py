"""Boots as they are drawn: each boot at its time, medians at the analysis', and what was never ready as an open triangle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tests.plots import drawn, made_lab
from toolkit import plots
from toolkit.analysis.boots import boots
from toolkit.plots.boots import MOST_LINES


def test_every_boot_is_drawn_at_its_time_and_those_never_ready_at_their_budget() -> None:
    frame = made_lab.boots()
    [axes] = plots.boots(frame).axes
    ready = frame.loc[frame["outcome"] == "ready", "crng_ready_s"]
    assert sorted(x for x, _ in drawn.points(axes, "boot")) == pytest.approx(sorted(ready))
    assert [x for x, _ in drawn.points(axes, "beyond")] == [90.0] * 4
    assert all(line.get_marker() == ">" and line.get_markerfacecolor() == "white" for line in drawn.lines(axes, "beyond"))


def test_medians_stand_in_order_at_those_of_the_analysis_and_beyond_has_none() -> None:
    frame = made_lab.boots()
    table = boots(frame)
    [axes] = plots.boots(frame).axes
    assert [x for x, _ in drawn.points(axes, "median")] == pytest.approx(sorted(table["median_s"].dropna()))
    closed = table.dropna(subset=["low_s", "high_s"]).sort_values("median_s")
    assert drawn.spans(axes) == list(zip(closed["low_s"], closed["high_s"], strict=True))
    arrows = [text for text in axes.texts if text.get_gid() == "open interval"]
    assert len(arrows) == int(table["high_open"].sum()) == 2
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == ["RDRAND, credited", "virtio-rng", "no source", "virtio-rng, 1 KiB a second", "virtio-rng, 4 B in 4 s"]


def test_beside_each_row_stand_its_median_and_how_many_were_ready() -> None:
    said = drawn.texts(plots.boots(made_lab.boots()))
    assert "26.9 s  (4 of 5)" in said
    assert "> 90 s  (2 of 5)" in said
    assert "90 s  (5 of 5)" not in said


def test_failed_boots_and_those_left_out_are_said() -> None:
    frame = made_lab.boots()
    frame.loc[0, "outcome"], frame.loc[1, "outcome"] = "failed", "left out"
    said = drawn.texts(plots.boots(frame)).replace("\n", " ")
    assert "1 boot failed. 1 boot was left out: not to be had here." in said
    alone = plots.boots(frame.head(2))
    assert "No boot in this selection tells" in plots.alt(alone)
    assert "1 boot failed." in plots.alt(alone)


def test_where_none_was_ready_the_title_says_so() -> None:
    figure = plots.boots(made_lab.boots((("never", (None,) * 4, {}),)))
    assert plots.alt(figure).startswith("Kernel 6.1.0-44-amd64: where getrandom waits, never within 90 s.")


def test_a_curve_ends_where_its_boots_were_no_longer_watched() -> None:
    figure = plots.boots_curve(made_lab.boots())
    [axes] = figure.axes
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in drawn.lines(axes, "curve")]
    assert np.array(ends) == pytest.approx(np.array([(0.03, 1.0), (5.3, 1.0), (8.9, 1.0), (90.0, 0.8), (90.0, 0.4)]))
    assert np.array(sorted(drawn.points(axes, "beyond"))) == pytest.approx(np.array([(90.0, 0.4), (90.0, 0.8)]))
    assert all(line.get_ydata()[0] == 0.0 for line in drawn.lines(axes, "curve"))


def test_more_configurations_than_can_be_told_apart_are_said_to_be_left_out() -> None:
    frame = made_lab.boots([(f"cell {place}", (1.0 + place,), {}) for place in range(MOST_LINES + 2)])
    figure = plots.boots_curve(frame)
    assert len(drawn.lines(figure.axes[0], "curve")) == MOST_LINES
    assert "2 more configurations are not drawn" in drawn.texts(figure).replace("\n", " ")


def test_each_thing_asked_has_a_panel_on_one_axis_and_the_title_says_what_differs() -> None:
    figure = plots.boots(made_lab.matrix())
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "getrandom waits",
        "urandom read first, then getrandom",
        "nothing asks",
    ]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert [len(axes.get_yticks()) for axes in figure.axes] == [6, 1, 6]
    title = plots.alt(figure).split(". Median")[0]
    assert "where getrandom waits, ready after 110 ms to 4.35 s (RDRAND, not credited)" in title
    assert title.endswith("where nothing asks, after 2.2 s to 67 s (virtio-rng, 4 B in 4 s), never within 90 s (no source)")


def longest() -> pd.DataFrame:
    """The matrix, one of its configurations with the longest name that a plan can make."""
    frame = made_lab.matrix()
    one = frame["cell"] == "egd, nothing"
    limit = {"virtio_rng_max_bytes": 2000, "virtio_rng_period_ms": 60000, "virtio_rng_backend": "/dev/urandom"}
    for name, value in {"remedy": "jitterentropy-rngd", "rdrand": "untrusted", **limit}.items():
        frame.loc[one, name] = value
    return frame


@pytest.mark.parametrize("figure", [plots.boots, plots.boots_curve])
def test_no_name_is_cut_or_leaves_the_page(figure: Callable[[pd.DataFrame], plots.AltFigure]) -> None:
    made = figure(longest())
    said = drawn.texts(made)
    assert "…" not in said
    assert "jitterentropy-rngd + RDRAND, not credited + virtio-rng, 1.95 KiB in 60 s" in said.replace("\n", " ")
    assert drawn.outside(made) == []
    assert drawn.overlaps(made) == []


def test_boots_at_one_time_are_seen_apart_and_beside_the_median() -> None:
    axes = plots.boots(made_lab.matrix()).axes[0]
    [place] = [each for each, label in enumerate(axes.get_yticklabels()) if label.get_text() == "virtio-rng from /dev/urandom"]
    heights = [y for x, y in drawn.points(axes, "boot") if x == 2.0]
    assert len(set(heights)) == 5
    assert all(0.15 < abs(height - place) < 0.5 for height in heights)


def test_one_boot_is_a_point_and_no_median() -> None:
    frame = made_lab.matrix()
    figure = plots.boots(frame[frame["repeat"] == 0])
    assert sum(len(drawn.points(axes, "boot")) for axes in figure.axes) == 12
    assert not any(drawn.points(axes, "median") for axes in figure.axes)
    assert "interval" not in drawn.texts(figure)


def test_an_axis_is_linear_unless_times_are_far_apart() -> None:
    assert plots.boots(made_lab.boots((("a", (2.0, 30.0), {}),))).axes[0].get_xscale() == "linear"
    assert plots.boots(made_lab.boots((("a", (1.0, 30.0), {}),))).axes[0].get_xscale() == "log"


def test_within_a_panel_no_two_curves_share_a_colour_and_each_keeps_its_own_in_all() -> None:
    figure = plots.boots_curve(made_lab.matrix())
    found: dict[str, set[tuple[str, str]]] = {}
    for axes in figure.axes:
        looks = {text.get_text(): line for text, line in zip(axes.get_legend().texts, axes.get_legend().get_lines(), strict=True)}
        assert len({line.get_color() for line in looks.values()}) == len(looks)
        for name, line in looks.items():
            found.setdefault(name, set()).add((str(line.get_color()), str(line.get_marker())))
    assert all(len(seen) == 1 for seen in found.values())
    assert len(set.union(*found.values())) == len(found) == 8


def test_a_boot_ready_before_the_clock_ran_is_seen_at_the_edge_of_decades() -> None:
    figure = plots.boots(made_lab.boots((("a", (0.0, 0.0, 0.1, 0.1, 40.0), {}),)))
    [axes] = figure.axes
    assert [x for x, _ in drawn.points(axes, "boot at 0")] == [axes.get_xlim()[0]] * 2
    assert "before the kernel's clock ran" in drawn.texts(figure)
    assert "clock ran" not in drawn.texts(plots.boots(made_lab.matrix()))
