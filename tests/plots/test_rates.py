"""Rates behind limits as they are drawn: the analysis' figures, the 5 % they may be off, and steps that add up to all bytes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.plots import drawn, made_lab
from toolkit import plots
from toolkit.analysis.rates import rates
from toolkit.plots.rates import MOST_SERIES


def several() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Holds, is 10 % slow, cannot be told, and has no limit."""
    reads = [
        made_lab.limited_reads(16, 1000, 1, 6, guest="a"),
        made_lab.limited_reads(1024, 1000, 64, 8, guest="b", speed=0.875),
        made_lab.limited_reads(100, 1000, 64, 6, guest="c"),
        made_lab.steady_reads(guest="d"),
    ]
    limits = made_lab.limits(("a", 16, 1000), ("b", 1024, 1000), ("c", 100, 1000), ("d", None, None))
    return pd.concat(reads, ignore_index=True), limits


def test_measured_stands_against_configured_as_the_analysis_has_it() -> None:
    reads, states = several()
    table = rates(reads, states).dropna(subset=["configured_bytes_per_second"])
    above, below = plots.limits(reads, states).axes
    wanted = sorted(zip(table["configured_bytes_per_second"], table["bytes_per_second"], strict=True))
    assert np.array(sorted(drawn.points(above, "rate"))) == pytest.approx(np.array(wanted))
    assert sorted(y for _, y in drawn.points(below, "rate")) == pytest.approx(sorted(table["ratio"]))
    assert (above.get_xscale(), above.get_yscale(), below.get_yscale()) == ("log", "log", "linear")
    [identity] = drawn.lines(above, "identity")
    assert list(identity.get_xdata()) == list(identity.get_ydata())
    [band] = [patch for patch in below.patches if patch.get_gid() == "band"]
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.95, 1.05))


def test_what_holds_what_does_not_and_what_cannot_be_told_differ_by_their_marks() -> None:
    reads, states = several()
    figure = plots.limits(reads, states)
    assert [line.get_marker() for line in drawn.lines(figure.axes[1], "rate") if len(line.get_xdata())] == ["o", "X", "s"]
    assert {"within 5 %", "off by more", "cannot be told"} <= set(drawn.texts(figure).split("\n"))
    assert "1 of 3 limits from 16 B/s to 1.02 kB/s hold within 5 %" in plots.alt(figure)


def test_a_rate_far_off_is_drawn_at_the_edge_with_its_factor() -> None:
    reads = made_lab.limited_reads(1000, 1000, 1, 6, speed=0.5)
    figure = plots.limits(reads, made_lab.limits(("limited", 1000, 1000)))
    assert [y for _, y in drawn.points(figure.axes[1], "rate")] == [0.8]
    assert "× 0.5" in drawn.texts(figure)


def test_repeats_of_one_limit_do_not_hide_each_other() -> None:
    reads = pd.concat([made_lab.limited_reads(guest=name) for name in "ab"], ignore_index=True)
    figure = plots.limits(reads, made_lab.limits(("a", 1024, 1000), ("b", 1024, 1000)))
    (first, _), (second, _) = drawn.points(figure.axes[0], "rate")
    assert first != second


def test_a_limit_without_a_rate_is_named_with_its_reason() -> None:
    reads = made_lab.limited_reads(periods=2)
    said = plots.alt(plots.limits(reads, made_lab.limits(("limited", 1024, 1000))))
    assert "No rate behind a known limit was measured" in said
    assert "at least 3 whole periods of 1 s are needed" in said


def test_steps_rise_by_a_burst_a_period_beside_the_line_of_the_limit() -> None:
    reads = made_lab.limited_reads(1024, 1000, 64, 5)
    [axes] = plots.bursts(reads, made_lab.limits(("limited", 1024, 1000))).axes
    [line] = drawn.lines(axes, "given")
    assert line.get_ydata()[-1] == reads["read_bytes"].sum()
    assert sorted(set(line.get_ydata())) == [1024.0 * place for place in range(6)]
    [limit] = drawn.lines(axes, "limit")
    (x0, x1), (y0, y1) = limit.get_xdata(), limit.get_ydata()
    assert (y1 - y0) / (x1 - x0) == pytest.approx(1024)


def test_without_a_limit_no_line_is_drawn() -> None:
    figure = plots.bursts(made_lab.steady_reads(), made_lab.limits(("unlimited", None, None)))
    assert drawn.lines(figure.axes[0], "limit") == []
    assert "no limit" in drawn.texts(figure)


def test_more_series_than_fit_are_said_to_be_left_out() -> None:
    names = [f"g{place}" for place in range(MOST_SERIES + 1)]
    reads = pd.concat([made_lab.limited_reads(guest=name, periods=4) for name in names], ignore_index=True)
    figure = plots.bursts(reads, made_lab.limits(*((name, 1024, 1000) for name in names)))
    assert "1 more series are not drawn" in drawn.texts(figure).replace("\n", " ")
