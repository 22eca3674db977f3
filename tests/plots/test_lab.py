"""Readers at once, remedies and audits as they are drawn: the analysis' figures, and no judgement by colour alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.plots import drawn, made_lab
from toolkit import plots
from toolkit.analysis.boots import remedies
from toolkit.analysis.waits import fairness, shares
from toolkit.plots.audits import MOST_GUESTS, VERDICTS


def shared() -> pd.DataFrame:
    parts = [made_lab.drain_reads(n, 1, scenario="fairness", skew=0.3 * (n == 4)) for n in (1, 2, 4)]
    return pd.concat(parts, ignore_index=True)


def test_every_read_is_drawn_at_its_call_with_its_wait() -> None:
    reads = made_lab.drain_reads(repeats=1)
    figure = plots.drain(reads)
    assert len(figure.axes) == 3
    hwrng = reads[(reads["source"] == "/dev/hwrng") & ~reads["wait_censored"].astype(bool)]
    wanted = np.column_stack(((hwrng["t_ns"] - reads["t_ns"].min()) / 1e9, hwrng["wait_ns"].astype(float) / 1e9))
    assert np.array(drawn.points(figure.axes[2], "read")) == pytest.approx(wanted)


def test_a_read_that_had_not_returned_is_an_open_triangle() -> None:
    reads = made_lab.drain_reads(repeats=1)
    figure = plots.drain(reads)
    [(_, wait)] = drawn.points(figure.axes[2], "beyond")
    assert wait == pytest.approx(reads.loc[reads["wait_censored"].fillna(value=False).astype(bool), "wait_ns"].item() / 1e9)
    assert "had not returned at the end" in drawn.texts(figure)


def test_of_very_many_reads_the_longest_are_kept() -> None:
    reads = made_lab.drain_reads(readers=1, repeats=20)
    longest = int(reads["wait_ns"].idxmax())
    reads.loc[longest, "wait_ns"] = 10**9
    [axes] = plots.drain(reads).axes
    assert max(wait for _, wait in drawn.points(axes, "read")) == pytest.approx(1.0)
    assert len(drawn.points(axes, "read")) < len(reads)


def test_readers_of_one_source_differ_by_their_marks() -> None:
    reads = made_lab.drain_reads(readers=6, repeats=1)
    figure = plots.drain(reads)
    assert [len({line.get_marker() for line in drawn.lines(axes, "read")}) for axes in figure.axes] == [2, 2, 2]


def test_every_guests_rate_and_the_index_of_the_analysis_are_drawn() -> None:
    rows = shared()
    left, right = plots.fairness(rows).axes
    assert sorted(y for _, y in drawn.points(left, "guest")) == pytest.approx(sorted(shares(rows)["bytes_per_second"]))
    assert [y for _, y in drawn.points(right, "jain")] == pytest.approx(fairness(rows, "guests_at_once")["jain"].tolist())
    assert drawn.points(right, "worst") == [(1.0, 0.5), (2.0, 0.25)]
    alone = fairness(rows)["all_bytes_per_second"].iloc[0]
    equal = [each.get_segments()[0][0][1] for each in left.collections if each.get_gid() == "equal"]
    assert equal == pytest.approx([alone, alone / 2, alone / 4])


def test_an_unfair_share_is_the_title_and_a_fair_one_too() -> None:
    assert "Of 4 guests at once one gets" in plots.alt(plots.fairness(shared()))
    fair = made_lab.drain_reads(2, 1, scenario="fairness")
    assert plots.alt(plots.fairness(fair)).startswith("Guests that share a source get equal parts of it")
    alone = made_lab.drain_reads(1, 1, scenario="fairness")
    assert "cannot be told: none read it at once" in plots.alt(plots.fairness(alone))


def test_remedies_stand_side_by_side_with_their_cost() -> None:
    frame = made_lab.remedies()
    table = remedies(frame)
    left, right = plots.remedies(frame).axes
    ready, cost = (table[table["quantity"] == name] for name in ("crng_ready_s", "guest_cpu_s"))
    assert [x for x, _ in drawn.points(left, "median")] == pytest.approx(sorted(ready["median_s"].dropna()))
    assert sorted(x for x, _ in drawn.points(right, "median")) == pytest.approx(sorted(cost["median_s"]))
    assert [x for x, _ in drawn.points(left, "beyond")] == [90.0] * 3
    assert len(drawn.points(left, "boot")) == 22
    assert [label.get_text().split("\n")[0] for label in left.get_yticklabels()][-1] == "none"


def test_the_time_that_costs_are_of_is_said_and_unlike_times_too() -> None:
    frame = made_lab.remedies()
    assert "Costs of the first 20 s after boot." in drawn.texts(plots.remedies(frame)).replace("\n", " ")
    frame.loc[frame["remedy"] == "none", "watched_s"] = 60.0
    assert "Costs are of unlike times" in drawn.texts(plots.remedies(frame)).replace("\n", " ")


def test_a_remedy_says_what_it_changed_and_none_says_that_it_is_the_baseline() -> None:
    figure = plots.remedies(made_lab.remedies())
    said = drawn.texts(figure)
    assert "haveged\nat least 78.2 s sooner" in said
    assert "none\n(the others against it)" in said
    assert "> 90 s" in said


def test_a_remedy_of_0_s_is_drawn_at_the_edge_of_an_axis_of_decades() -> None:
    frame = made_lab.remedies()
    frame.loc[frame["remedy"] == "rdrand", "crng_ready_s"] = [0.0, 0.0, 0.0, 0.1, 0.1]
    figure = plots.remedies(frame)
    left, right = figure.axes
    edge = left.get_xlim()[0]
    assert [x for x, _ in drawn.points(left, "boot at 0")] == [edge] * 3
    assert drawn.points(left, "median at 0") == [(edge, 0.0)]
    assert drawn.points(right, "boot at 0") == []
    assert "At the left edge, pointing left: 0" in drawn.texts(figure).replace("\n", " ")


def test_remedies_can_be_set_against_each_other_by_how_long_getrandom_waited() -> None:
    frame = made_lab.remedies()
    table = remedies(frame, quantities=["longest_wait_s"])
    figure = plots.remedies(frame, time="longest_wait_s")
    assert [x for x, _ in drawn.points(figure.axes[0], "median")] == pytest.approx(sorted(table["median_s"].dropna()))
    assert "haveged\nat least 78.2 s shorter" in drawn.texts(figure)
    assert plots.alt(figure).startswith("Where getrandom waits, waits least with rdrand: 10 µs, with none more than 87.5 s.")


def test_a_change_that_its_interval_does_not_tell_from_none_says_so() -> None:
    cells = [("none", (5.0, 6.0, 7.0, 8.0, 9.0), {}), ("haveged", (4.0, 6.0, 6.5, 8.0, 9.5), {"remedy": "haveged"})]
    said = drawn.texts(plots.remedies(made_lab.boots(cells, "remedies")))
    assert "haveged\n500 ms sooner (unclear)" in said
    assert "Unclear: its 95 % interval" in said.replace("\n", " ")


def test_a_remedy_without_a_feeder_has_no_cost_of_one() -> None:
    said = drawn.texts(plots.remedies(made_lab.remedies(), cost="feeder_cpu_s"))
    assert said.count("none of its own") == 3


def test_a_verdict_is_a_mark_and_a_word_the_worst_first() -> None:
    figure = plots.audits(made_lab.audits())
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts if text.get_gid() == "word"] == ["starving", "at risk", "cannot tell", "sound"]
    marks = [line.get_marker() for line in drawn.lines(axes, "verdict")]
    assert len(set(marks)) == len(VERDICTS) == 4
    assert plots.alt(figure).startswith("Of 4 guests: 1 starving, 1 at risk, 1 cannot tell, 1 sound.")


def test_more_guests_than_fit_are_counted() -> None:
    many = pd.concat([made_lab.audits().assign(domain_uuid=f"{place}-" + made_lab.audits()["domain_uuid"]) for place in range(8)])
    figure = plots.audits(many)
    assert len(drawn.lines(figure.axes[0], "verdict")) == MOST_GUESTS
    assert f"{32 - MOST_GUESTS} more guests are not drawn" in drawn.texts(figure).replace("\n", " ")
