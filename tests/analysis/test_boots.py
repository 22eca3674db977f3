"""Boots by cell: each outcome counted, censored boots beyond their budget, remedies against none within one plan and kernel."""

from __future__ import annotations

import math

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tests.plots import made_lab
from toolkit.analysis.boots import QUANTITIES, boots, remedies, times_of
from toolkit.errors import TableError, UsageError


def row(found: pd.DataFrame, **where: str) -> pd.Series:
    for name, value in where.items():
        found = found[found[name] == value]
    (place,) = found.index
    return found.loc[place]


def with_outcomes() -> pd.DataFrame:
    frame = made_lab.boots((("a", (10.0, 20.0, 30.0, None, None, 1.0, 1.0), {}),))
    frame.loc[5:, "outcome"] = ["failed", "left out"]
    frame.loc[5:, "crng_ready_s"] = None
    return frame


def test_every_outcome_is_counted_and_a_censored_boot_is_beyond_its_budget() -> None:
    found = row(boots(with_outcomes()), cell="a")
    assert found[["boots", "ready", "censored", "failed", "left_out", "n", "beyond"]].tolist() == [6, 3, 2, 1, 1, 5, 2]
    assert found["median_s"] == 30.0  # 20 if the censored were left out; 48 if their budgets were averaged
    assert found["median"] == "30 s (10 s to > 90 s)"
    assert (found["low_s"], found["high_open"]) == (10.0, True)
    assert math.isnan(found["high_s"])


def test_a_cell_that_is_never_ready_says_beyond_its_budget_and_no_time() -> None:
    found = row(boots(made_lab.boots((("never", (None,) * 5, {}),))), cell="never")
    assert math.isnan(found["median_s"])
    assert (found["beyond_s"], found["median"]) == (90.0, "> 90 s")


def test_boots_that_only_failed_tell_nothing_and_are_there() -> None:
    frame = with_outcomes().query("outcome in ('failed', 'left out')")
    found = row(boots(frame), cell="a")
    assert found[["boots", "failed", "left_out", "n"]].tolist() == [1, 1, 1, 0]
    assert found["median"] == "not known"
    assert pd.isna(found["high_open"])


def test_a_wait_that_had_not_returned_is_censored_like_a_boot() -> None:
    frame = made_lab.boots((("a", (10.0, 20.0, None, None, None), {}),))
    found = row(boots(frame, quantity="longest_wait_s"), cell="a")
    assert (found["n"], found["beyond"], found["beyond_s"]) == (5, 3, 87.5)
    assert times_of(frame, "longest_wait_s")["seconds"].tolist() == [7.5, 17.5, 87.5, 87.5, 87.5]


def test_a_boot_that_asked_for_nothing_has_no_wait() -> None:
    frame = made_lab.boots((("a", (10.0, 20.0), {"longest_wait_ns": None, "wait_censored": None}),))
    assert row(boots(frame, quantity="longest_wait_s"), cell="a")["n"] == 0


def test_costs_are_medians_of_what_was_measured() -> None:
    frame = made_lab.remedies()
    found = row(boots(frame, "remedy", "feeder_cpu_s"), remedy="haveged")
    assert (found["n"], found["median_s"]) == (5, 1.4)
    assert row(boots(frame, "remedy", "feeder_cpu_s"), remedy="none")["n"] == 0


def test_a_remedy_is_set_against_none() -> None:
    found = remedies(made_lab.remedies())
    helped = row(found, remedy="virtio-rng", quantity="crng_ready_s")
    assert helped["baseline_median"].startswith("> 90 s")
    assert helped["at_most_s"] == pytest.approx(5.1 - 90)
    assert math.isnan(helped["difference_s"])
    assert helped["difference_high_s"] < 0
    assert helped["differs"]
    cost = row(found, remedy="haveged", quantity="guest_cpu_s")
    assert math.isfinite(cost["difference_s"])
    own = row(found, remedy="none", quantity="crng_ready_s")
    assert pd.isna(own["baseline_median"])
    assert pd.isna(own["differs"])
    assert set(found["quantity"]) == set(QUANTITIES)


def test_a_remedy_is_never_set_against_another_plans_or_kernels_boots() -> None:
    slow, quick = made_lab.remedies(), made_lab.remedies()
    quick["kernel"] = "5.10"
    none = (quick["remedy"] == "none").to_numpy()
    quick.loc[none, "crng_ready_s"] = [1.0, 2.0, 3.0, 4.0, 5.0]
    quick.loc[none, "outcome"] = "ready"
    found = remedies(pd.concat([slow, quick], ignore_index=True), quantities=["crng_ready_s"])
    assert row(found, kernel="5.10", remedy="haveged")["difference_s"] == pytest.approx(11.8 - 3.0)
    assert row(found, kernel="6.1.0-44-amd64", remedy="haveged")["at_most_s"] == pytest.approx(11.8 - 90)
    lone = remedies(quick[~none], quantities=["crng_ready_s"])
    assert lone["baseline_median"].isna().all()
    assert lone["differs"].isna().all()


def test_boots_that_asked_for_different_things_are_not_counted_together() -> None:
    quiet = made_lab.remedies().assign(asked="nothing", outcome="censored", crng_ready_s=np.nan)
    found = remedies(pd.concat([made_lab.remedies(), quiet], ignore_index=True), quantities=["crng_ready_s"])
    assert set(found["n"]) == {5}
    assert row(found, remedy="haveged", asked="getrandom")["median_s"] == 11.8
    assert row(found, remedy="haveged", asked="nothing")["median"] == "> 90 s"
    assert row(found, remedy="haveged", asked="nothing")["baseline_median"] == "> 90 s"


def test_costs_of_unlike_times_are_not_compared() -> None:
    frame = made_lab.remedies()
    frame.loc[frame["remedy"] == "none", ["watched_s", "guest_cpu_s"]] = [60.0, 40.0]  # as all were recorded that never were ready
    found = remedies(frame)
    for quantity in ("guest_cpu_s", "qemu_cpu_s"):
        cost = row(found, remedy="haveged", quantity=quantity)
        assert cost[["difference_s", "at_most_s", "at_least_s", "difference_low_s", "difference_high_s", "ratio"]].isna().all()
        assert pd.isna(cost["differs"])
        assert math.isfinite(cost["median_s"])
        assert not pd.isna(cost["baseline_median"])
    assert row(found, remedy="haveged", quantity="crng_ready_s")["at_most_s"] < 0
    frame["watched_s"] = np.where(frame["remedy"] == "none", 21.0, 20.0)
    assert row(remedies(frame), remedy="haveged", quantity="guest_cpu_s")["differs"]
    frame["watched_s"] = np.nan
    assert pd.isna(row(remedies(frame), remedy="haveged", quantity="guest_cpu_s")["differs"])


def test_equal_boots_are_not_said_to_differ() -> None:
    ready = (5.0, 6.0, 7.0, 8.0, 9.0)
    frame = made_lab.boots((("none", ready, {"remedy": "none"}), ("haveged", ready, {"remedy": "haveged"})))
    found = row(remedies(frame), remedy="haveged", quantity="crng_ready_s")
    assert (found["difference_s"], found["ratio"], found["differs"]) == (0.0, 1.0, False)


def test_the_same_from_dask() -> None:
    frame = made_lab.boots()
    assert_frame_equal(boots(dd.from_pandas(frame, npartitions=3)), boots(frame), check_dtype=False)


def test_an_empty_table_has_an_empty_answer() -> None:
    frame = made_lab.boots().head(0)
    assert boots(frame).empty
    assert remedies(frame).empty
    assert "median_s" in boots(frame).columns


def test_what_boots_do_not_tell_is_refused() -> None:
    with pytest.raises(UsageError, match="They tell: crng_ready_s"):
        boots(made_lab.boots(), quantity="colour")
    with pytest.raises(TableError, match="outcome"):
        boots(made_lab.boots().drop(columns="outcome"))
    with pytest.raises(UsageError, match="remedy"):
        remedies(made_lab.boots(), by="cell")


def test_a_censored_boot_without_a_budget_was_watched_at_least() -> None:
    frame = made_lab.boots((("a", (None,), {}),)).assign(budget_s=np.nan, watched_s=33.0)
    assert times_of(frame)["seconds"].tolist() == [33.0]
