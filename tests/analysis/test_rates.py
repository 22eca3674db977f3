"""Rates behind a limit: recovered from 16 B/s to 1 MB/s whatever the reads are, and too slow, too fast and stalled are told."""

from __future__ import annotations

import math

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from tests.plots import made_lab
from toolkit.analysis.rates import bursts, rates
from toolkit.tables import TABLES

SECOND = 10**9


def measured(reads: pd.DataFrame, max_bytes: int | None, period_ms: int | None) -> pd.Series:
    found = rates(reads, made_lab.limits(("limited", max_bytes, period_ms)))
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize(
    ("max_bytes", "period_ms", "block", "read_us"),
    [
        (16, 1000, 1, 30.0),
        (64, 4000, 16, 30.0),
        (1024, 1000, 64, 30.0),
        (2048, 1000, 2048, 30.0),
        (100_000, 100, 64, 30.0),  # 1562 reads take half the period
        (100_000, 100, 64, 55.0),  # and nearly all of it
        (1_000_000, 1000, 64, 40.0),
        (4, 4000, 64, 30.0),  # a read takes sixteen periods
    ],
)
def test_a_limit_is_recovered_within_a_percent(max_bytes: int, period_ms: int, block: int, read_us: float) -> None:
    periods = 6 * max(1, block // max_bytes)
    found = measured(made_lab.limited_reads(max_bytes, period_ms, block, periods, read_us=read_us), max_bytes, period_ms)
    assert found["ratio"] == pytest.approx(1.0, abs=0.01)
    assert found["configured_bytes_per_second"] == max_bytes / period_ms * 1000
    assert found["holds"]
    assert pd.isna(found["why"])
    assert found["low"] <= found["bytes_per_second"] <= found["high"]


@settings(max_examples=80, deadline=None)
@given(
    max_bytes=st.integers(1, 4096),
    period_ms=st.sampled_from([50, 100, 500, 1000, 4000]),
    block=st.integers(1, 512),
    periods=st.integers(4, 12),
    jitter=st.floats(0, 0.002),
    stock=st.sampled_from([0, 0, 64]),
    seed=st.integers(0, 99),
)
@example(max_bytes=1, period_ms=50, block=52, periods=5, jitter=0.0, stock=64, seed=0)
@example(max_bytes=1, period_ms=50, block=29, periods=4, jitter=0.0, stock=64, seed=0)
@example(max_bytes=33, period_ms=50, block=33, periods=4, jitter=0.0, stock=64, seed=0)
@example(max_bytes=254, period_ms=50, block=27, periods=4, jitter=0.0, stock=64, seed=0)
@example(max_bytes=2, period_ms=50, block=55, periods=4, jitter=0.0, stock=64, seed=0)
def test_any_limit_is_recovered_as_far_as_whole_reads_can_tell(
    max_bytes: int, period_ms: int, block: int, periods: int, jitter: float, stock: int, seed: int
) -> None:
    assume(max_bytes / block * 40e-6 < 0.8 * period_ms / 1000)
    steps = periods * max(1, math.ceil(block / max_bytes)) + 1
    reads = made_lab.limited_reads(max_bytes, period_ms, block, steps, read_us=30.0, jitter=jitter, stock=stock, seed=seed)
    assume(len(reads))
    found = measured(reads, max_bytes, period_ms)
    if pd.isna(found["ratio"]):
        assert "needed" in found["why"]
    else:
        # What it says is open is a share of what it counted.
        assert found["ratio"] * (1 - found["resolution_fraction"]) <= 1.01
        assert found["ratio"] * (1 + found["resolution_fraction"]) >= 0.99
        assert found["holds"] is not False
        assert pd.isna(found["holds"]) or found["holds"]


@pytest.mark.parametrize(("speed", "word"), [(0.94, "slower"), (1.06, "faster"), (0.5, "slower"), (2.0, "faster")])
@pytest.mark.parametrize(("max_bytes", "period_ms", "block"), [(1000, 1000, 1), (100_000, 100, 64)])
def test_a_source_off_by_six_percent_is_told_both_ways(speed: float, word: str, max_bytes: int, period_ms: int, block: int) -> None:
    reads = made_lab.limited_reads(max_bytes, period_ms, block, 6, speed=speed, read_us=20.0)
    found = measured(reads, max_bytes, period_ms)
    assert found["ratio"] == pytest.approx(speed, rel=0.01)
    assert found["holds"] is np.False_ or found["holds"] is False
    assert f"{word} than its limit" in found["why"]


def test_a_reader_too_slow_to_reach_the_limit_tells_nothing_of_it() -> None:
    found = measured(made_lab.limited_reads(100_000, 100, 64, 6, read_us=90.0), 100_000, 100)
    assert found["ratio"] < 0.8
    assert pd.isna(found["holds"])
    assert "the limit was not reached" in found["why"]


#: How long each read of 4 KiB took a guest on a busy machine, in ms, behind 100 KiB in 100 ms: 174 kB/s, and it was never stopped.
BUSY_MS = (
    43, 28, 30, 32, 20, 35, 25, 25, 30, 35, 34, 21, 29, 23, 20, 27, 24, 13, 15, 29, 36, 17, 15, 8, 12, 20, 1.8, 9.5, 13, 11, 12,
    1.6, 11, 13, 15, 37, 22, 12, 20, 20, 32, 24, 28, 20, 44, 11, 8, 25, 39, 47, 30, 31, 30, 27, 26, 32, 27, 42, 23, 17, 18, 18,
    36, 29, 25, 21, 20, 28, 16, 23, 20, 28, 27, 25, 37, 24, 12, 13, 15, 24, 13, 22, 28, 27, 57,
)  # fmt: skip


def test_a_reader_that_a_busy_machine_stops_now_and_then_tells_nothing_of_the_limit() -> None:
    waits = (np.array(BUSY_MS) * 1e6).astype(np.int64)
    reads = made_lab.steady_reads(4096, waits.size).assign(t_ns=SECOND + np.cumsum(waits) - waits, wait_ns=waits)
    states = made_lab.limits(("unlimited", 102_400, 100))
    found = rates(reads, states).iloc[0]
    assert 3 < found["bursts"] < waits.size  # two pauses or more stand out, by accident
    assert found["ratio"] < 0.2
    assert pd.isna(found["holds"])
    assert "the limit was not reached" in found["why"]


@pytest.mark.parametrize(("max_bytes", "block"), [(1024, 64), (16, 16)])
def test_a_source_twice_as_fast_is_told_from_what_came_in_fewer_periods(max_bytes: int, block: int) -> None:
    found = measured(made_lab.limited_reads(max_bytes, 500, block, 6), max_bytes, 1000)
    assert found["bursts"] == 6
    assert found["ratio"] == pytest.approx(2.0, rel=0.01)
    assert "100.0 % faster than its limit" in found["why"]
    assert found["holds"] is np.False_ or found["holds"] is False


def test_a_period_that_is_longer_than_configured_is_told_from_the_data() -> None:
    found = measured(made_lab.limited_reads(1024, 1100, 64, 6), 1024, 1000)
    assert found["period_s"] == pytest.approx(1.1, rel=0.001)
    assert not found["holds"]


def test_reads_too_coarse_to_tell_are_said_to_be() -> None:
    found = measured(made_lab.limited_reads(100, 1000, 64, 6), 100, 1000)
    assert found["resolution_fraction"] > 0.05
    assert pd.isna(found["holds"])
    assert "read fewer bytes at a time" in found["why"]


def test_bursts_are_resolved_with_their_bytes_and_beginnings() -> None:
    found = bursts(made_lab.limited_reads(1024, 1000, 64, 5))
    assert found["read_bytes"].tolist() == [1024] * 5
    assert found["reads"].tolist() == [16] * 5
    assert np.diff(found["begin_s"]).tolist() == pytest.approx([1.0] * 4, abs=1e-4)
    assert (found["end_s"] - found["begin_s"]).max() < 0.01


def test_bytes_that_lay_ready_before_the_first_read_are_not_counted() -> None:
    found = measured(made_lab.limited_reads(16, 1000, 1, 6, stock=80), 16, 1000)
    assert found["ratio"] == pytest.approx(1.0, abs=0.001)
    assert found["bursts"] == 6


@pytest.mark.parametrize(("periods", "stock"), [(1, 0), (2, 0), (3, 0), (4, 80)])
def test_fewer_than_three_whole_periods_tell_no_rate(periods: int, stock: int) -> None:
    found = measured(made_lab.limited_reads(16, 1000, 1, periods, stock=stock), 16, 1000)
    assert math.isnan(found["bytes_per_second"])
    assert pd.isna(found["holds"])
    assert "at least 3 whole periods of 1 s are needed" in found["why"]


def stalled(after_s: float) -> pd.DataFrame:
    reads = made_lab.limited_reads(1024, 1000, 64, 20)
    last = reads.iloc[[-1]].assign(
        t_ns=reads["t_ns"].max() + SECOND // 100, wait_ns=round(after_s * SECOND), read_bytes=None, errno=110
    )
    return pd.concat([reads, last.astype(reads.dtypes)], ignore_index=True)


def test_a_source_that_stalls_at_the_end_does_not_hold() -> None:
    found = measured(stalled(30.0), 1024, 1000)
    assert found["why"].startswith("stalled: it gave nothing for the last 30")
    assert not found["holds"]
    assert found["bytes_per_second"] < 0.45 * 1024
    assert measured(stalled(1.0), 1024, 1000)["holds"]  # within a period there is nothing to come


def test_a_source_that_stalls_in_the_middle_is_slower() -> None:
    reads = made_lab.limited_reads(1024, 1000, 64, 20)
    middle = len(reads) // 2 // 16 * 16
    late = np.arange(len(reads)) >= middle
    reads["t_ns"] += np.where(np.arange(len(reads)) > middle, 10 * SECOND, 0)
    reads["wait_ns"] += np.where(np.arange(len(reads)) == middle, 10 * SECOND, 0)
    found = measured(reads, 1024, 1000)
    assert late.any()
    assert not found["holds"]
    assert "slower" in found["why"]
    assert found["burst_bytes"] == 1024


def test_a_source_that_gives_nothing_has_a_rate_of_nothing_once_it_should_have_given() -> None:
    def silent(seconds: float) -> pd.DataFrame:
        row = made_lab.limited_reads(1024, 1000, 64, 2).head(1)
        return row.assign(read_bytes=None, errno=110, wait_ns=round(seconds * SECOND)).astype(row.dtypes)

    found = measured(silent(10.0), 1024, 1000)
    assert (found["bytes_per_second"], found["failed"]) == (0.0, 1)
    assert "gave nothing" in found["why"]
    assert not found["holds"]
    early = measured(silent(1.0), 1024, 1000)
    assert math.isnan(early["bytes_per_second"])
    assert pd.isna(early["holds"])


def test_without_a_limit_the_rate_is_all_bytes_by_all_time() -> None:
    reads = made_lab.steady_reads(64, 500, 50.0)
    found = rates(reads, made_lab.limits(("unlimited", None, None))).iloc[0]
    assert found["bytes_per_second"] == pytest.approx(64 / 50e-6, rel=0.001)
    assert math.isnan(found["configured_bytes_per_second"])
    assert pd.isna(found["holds"])
    assert found["why"] == "it has no limit"
    assert rates(reads, TABLES["rng_state"].empty()).iloc[0]["why"] == "no limit is known of it"


def test_a_series_takes_the_limit_of_its_own_run() -> None:
    reads = pd.concat([made_lab.limited_reads(size, 1000, 64, 6, run=f"run-{size}") for size in (1024, 2048)])
    states = pd.concat([made_lab.limits(("limited", size, 1000), run=f"run-{size}") for size in (2048, 1024)])
    assert rates(reads, states)["configured_bytes_per_second"].tolist() == [1024, 2048]
    assert rates(reads, states)["holds"].all()


def test_the_same_from_dask_and_an_empty_answer_to_an_empty_table() -> None:
    reads, states = made_lab.limited_reads(), made_lab.limits(("limited", 1024, 1000))
    found = rates(reads, states)
    assert_frame_equal(rates(dd.from_pandas(reads, npartitions=2), dd.from_pandas(states, npartitions=1)), found, check_dtype=False)
    assert list(rates(TABLES["source_reads"].empty(), states).columns) == list(found.columns)
    assert bursts(TABLES["source_reads"].empty()).empty


@pytest.mark.parametrize("max_bytes", [24, 100])
def test_reads_that_take_what_is_there_tell_the_rate_exactly(max_bytes: int) -> None:
    # asked for 64 bytes without waiting: 24 come, or 64 and then 36
    pieces = [64] * (max_bytes // 64) + [max_bytes % 64]
    whole = made_lab.limited_reads(max_bytes, 1000, 1, 5)
    first = whole.iloc[:: max_bytes // len(pieces)].groupby(np.arange(5 * len(pieces)) // len(pieces)).head(len(pieces))
    reads = first.iloc[: 5 * len(pieces)].assign(read_bytes=pieces * 5, block_bytes=64).astype(whole.dtypes)
    found = measured(reads, max_bytes, 1000)
    assert found["resolution_fraction"] == 0
    assert found["burst_bytes"] == max_bytes
    assert found["holds"]
