"""Boots as they are drawn: each boot at its time, medians at the analysis', and what was never ready as an open triangle."""

from __future__ import annotations

import numpy as np
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
    assert (rows[0], rows[-1]) == ("6.1 · rdrand trusted", "6.1 · virtio-rng 4 B / 4000 ms")


def test_beside_each_row_stand_its_median_and_how_many_were_ready() -> None:
    said = drawn.texts(plots.boots(made_lab.boots()))
    assert "26.9 s  (4 of 5)" in said
    assert "> 90 s  (2 of 5)" in said
    assert "90 s  (5 of 5)" not in said


def test_failed_boots_and_those_left_out_are_said() -> None:
    frame = made_lab.boots()
    frame.loc[0, "outcome"], frame.loc[1, "outcome"] = "failed", "left out"
    said = drawn.texts(plots.boots(frame)).replace("\n", " ")
    assert "1 boots failed. 1 were left out: they cannot be had here." in said
    alone = plots.boots(frame.head(2))
    assert "No boot in this selection tells" in plots.alt(alone)
    assert "1 boots failed." in plots.alt(alone)


def test_where_none_was_ready_the_title_says_so() -> None:
    figure = plots.boots(made_lab.boots((("never", (None,) * 4, {}),)))
    assert plots.alt(figure).startswith("No configuration was ready within 90 s in more than half of its boots")


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
