"""Readers at once: a read that had not returned is no short wait, and unequal shares are told by Jain's index."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plots import made_lab
from toolkit.analysis.waits import fairness, jain, shares, waits
from toolkit.tables import TABLES

SECOND = 10**9


def reader(
    waits_s: list[float], *, waiting: int = 0, guest: str = "g", repeat: int = 0, guests: int = 1, came: int = 64
) -> pd.DataFrame:
    """Reads of one reader one after the other, the last few of which had not returned."""
    n = len(waits_s)
    wait_ns = [round(wait * SECOND) for wait in waits_s]
    open_ones = [place >= n - waiting for place in range(n)]
    same = {
        "run_id": "r", "host": "h", "guest": guest, "boot_id": f"{guest}{repeat}", "scenario": "fairness", "reader": "one",
        "source": "/dev/hwrng", "guests_at_once": guests, "readers_at_once": 1, "repeat": repeat, "block_bytes": 64,
    }  # fmt: skip
    return TABLES["drain_reads"].frame(
        {
            **{name: [value] * n for name, value in same.items()},
            "t_ns": np.cumsum([0, *wait_ns[:-1]]),
            "wait_ns": wait_ns,
            "wait_censored": open_ones,
            "read_bytes": [None if each else 64 for each in open_ones],
        }
    )


def test_the_part_of_its_time_that_a_reader_waited_tells_its_own_pace_from_its_source_s() -> None:
    busy = reader([0.001] * 9)
    assert waits(busy)["waiting_fraction"].item() == pytest.approx(1.0)
    # The same reads, ten times as far apart: the reader rests between them.
    resting = busy.assign(t_ns=busy["t_ns"].iloc[0] + (busy["t_ns"] - busy["t_ns"].iloc[0]) * 10)
    assert waits(resting)["waiting_fraction"].item() == pytest.approx(9 / 81)


def test_a_reader_has_its_bytes_by_its_time_and_its_waits() -> None:
    (row,) = waits(reader([1.0] * 8 + [2.0])).to_dict("records")
    assert row["bytes_per_second"] == pytest.approx(9 * 64 / 10)
    assert (row["wait_median_s"], row["wait_p99_s"], row["longest_wait_s"]) == (1.0, 2.0, 2.0)
    assert (row["reads"], row["waiting"], row["failed"], row["repeats"]) == (9, 0, 0, 1)
    assert not row["longest_open"]


def test_a_read_that_had_not_returned_counts_as_longer_and_brings_nothing() -> None:
    (row,) = waits(reader([1.0, 1.0, 1.0, 7.0], waiting=1)).to_dict("records")
    assert row["bytes_per_second"] == pytest.approx(3 * 64 / 10)
    assert row["wait_median_s"] == 1.0
    assert math.isnan(row["wait_p99_s"])
    assert row["longest_open"]
    assert row["wait"] == "1 s; 99 %: not seen; longest > 7 s"


def test_a_reader_that_never_had_a_byte_has_no_median_wait() -> None:
    (row,) = waits(reader([10.0], waiting=1)).to_dict("records")
    assert math.isnan(row["wait_median_s"])
    assert (row["bytes_per_second"], row["longest_wait_s"]) == (0.0, 10.0)


def test_failed_reads_are_counted_and_have_no_wait() -> None:
    frame = reader([1.0, 5.0])
    frame.loc[1, "errno"] = 11
    (row,) = waits(frame).to_dict("records")
    assert (row["failed"], row["longest_wait_s"], row["read_bytes"]) == (1, 1.0, 64)


def test_repeats_give_an_interval() -> None:
    frame = pd.concat([reader([1.0 + repeat] * 5, repeat=repeat) for repeat in range(3)])
    (row,) = waits(frame, by="source").to_dict("records")
    assert (row["repeats"], row["bytes_per_second"], row["low"], row["high"]) == (3, 32.0, pytest.approx(64 / 3), 64.0)


def test_readers_of_one_guest_are_rows_of_their_own() -> None:
    found = waits(made_lab.drain_reads())
    assert found["source"].tolist() == ["/dev/hwrng", "/dev/random", "getrandom"]
    assert found["repeats"].tolist() == [3, 3, 3]
    assert found["waiting"].tolist()[0] > 0


def test_equal_guests_are_fair_and_a_starved_one_is_told() -> None:
    equal = pd.concat([reader([1.0] * 5, guest=guest, guests=2, repeat=repeat) for guest in "ab" for repeat in range(3)])
    (row,) = fairness(equal).to_dict("records")
    assert (row["repeats"], row["jain"], row["jain_low"], row["jain_high"]) == (3, 1.0, 1.0, 1.0)
    assert (row["smallest_share"], row["greatest_share"], row["all_bytes_per_second"]) == (0.5, 0.5, 128.0)
    starved = pd.concat([reader([1.0] * 10, guests=2), reader([10.0], waiting=1, guest="b", guests=2)])
    (row,) = fairness(starved).to_dict("records")
    assert (row["jain"], row["smallest_share"], row["greatest_share"]) == (0.5, 0.0, 1.0)


def test_the_index_is_over_guests_whatever_readers_they_have() -> None:
    two = pd.concat([reader([1.0] * 5), reader([1.0] * 5).assign(reader="two")]).assign(guests_at_once=2)
    (row,) = fairness(pd.concat([two, reader([1.0] * 5, guest="b", guests=2)])).to_dict("records")
    assert row["jain"] == pytest.approx(0.9)  # 2 against 1


def test_a_repeat_in_which_a_guest_is_missing_is_left_out_and_counted() -> None:
    (row,) = fairness(reader([1.0] * 5, guests=2)).to_dict("records")
    assert (row["repeats"], row["incomplete"]) == (0, 1)
    assert math.isnan(row["jain"])


def test_where_nobody_got_a_byte_nothing_is_fair_or_unfair() -> None:
    silent = pd.concat([reader([10.0], waiting=1, guest=guest, guests=2) for guest in "ab"])
    assert math.isnan(fairness(silent)["jain"].item())
    assert shares(silent)["share"].isna().all()


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=8))
def test_jains_index_lies_between_one_by_n_and_one(values: list[float]) -> None:
    assert 1 / len(values) - 1e-9 <= jain(values) <= 1 + 1e-9
    assert jain([7.0 * value for value in values]) == pytest.approx(jain(values))


def test_empty_tables_have_empty_answers() -> None:
    empty = TABLES["drain_reads"].empty()
    assert waits(empty).empty
    assert fairness(empty).empty
    assert "jain" in fairness(empty).columns
