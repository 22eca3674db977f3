"""Censored times are not times: the median against SciPy's curve and by hand, and what dropping or averaging them would say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf

from toolkit.analysis.stats import median_interval, ratio_of_medians
from toolkit.analysis.survival import Times, curve, difference, ratio, said, time_to_event

TIMES = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=14)


def times(ready: list[float], waiting: list[float] | None = None) -> Times:
    left = waiting or []
    return Times(np.array([*ready, *left], dtype=float), np.array([True] * len(ready) + [False] * len(left)))


def oracle(made: Times) -> tuple[float, float | None]:
    """The least that the median can be, and the median where it is known, as a survival curve is read: where it passes a half,
    half-way along a stretch at exactly a half, which goes on beyond all that was watched where nothing ends it.
    """
    waiting = ecdf(CensoredData(uncensored=made.seconds[made.seen], right=made.seconds[~made.seen])).sf
    below = [float(at) for at, share in zip(waiting.quantiles, waiting.probabilities, strict=True) if share < 0.5 - 1e-9]
    half = [float(at) for at, share in zip(waiting.quantiles, waiting.probabilities, strict=True) if share < 0.5 + 1e-9]
    longest = float(made.seconds.max())
    if below:
        return (half[0] + below[0]) / 2, (half[0] + below[0]) / 2
    return ((half[0] + longest) / 2 if half else longest), None


@settings(max_examples=200, deadline=None)
@given(TIMES)
def test_the_median_is_that_of_scipys_curve(rows: list[tuple[int, bool]]) -> None:
    made = Times(np.array([float(at) for at, _ in rows]), np.array([seen for _, seen in rows]))
    found = time_to_event(made)
    least, wanted = oracle(made)
    if wanted is None:
        assert math.isnan(found.median)
        assert found.beyond == pytest.approx(least)
    else:
        assert found.median == pytest.approx(wanted)
        assert math.isnan(found.beyond)
    assert (found.n, found.censored) == (len(rows), sum(not seen for _, seen in rows))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=12))
@example([1.0, 1.0, 6935.121259926568])  # whose upper end is longer than the longest, by a rounding
def test_without_a_censored_time_it_is_the_ordinary_median_with_its_interval(values: list[float]) -> None:
    found, wanted = time_to_event(times(values)), median_interval(values)
    assert (found.n, found.median, found.low, found.high) == pytest.approx(
        (wanted.n, wanted.median, wanted.low, wanted.high), nan_ok=True
    )
    assert not found.high_open


def test_a_censored_time_is_neither_left_out_nor_averaged() -> None:
    found = time_to_event(times([10.0, 20.0, 30.0], [90.0, 90.0]))
    assert found.median == 30.0  # left out it would be 20; averaged, the mean would be 48
    assert found.high_open
    assert math.isnan(found.high)
    assert said(found) == "30 s (10 s to > 90 s)"


@pytest.mark.parametrize(
    ("ready", "waiting", "beyond"), [([10.0], [90.0] * 4, 90.0), ([10.0, 12.0], [90.0] * 2, 51.0), ([], [90.0] * 3, 90.0)]
)
def test_with_half_or_more_censored_there_is_no_median(ready: list[float], waiting: list[float], beyond: float) -> None:
    found = time_to_event(times(ready, waiting))
    assert math.isnan(found.median)
    assert found.beyond == beyond
    assert said(found).startswith(f"> {beyond:g} s")


def test_with_exactly_half_censored_no_more_is_said_than_is_known() -> None:
    """Three of six were ready after 7 s. The fourth may have taken 91 s, and then the median is 49 s."""
    half = times([7.0] * 3, [90.0] * 3)
    assert said(time_to_event(half)) == "> 48.5 s (7 s to > 90 s)"
    against = difference(half, times([60.0] * 6))
    assert against.at_least == 48.5 - 60.0
    assert against.low <= against.at_least  # the interval holds what it is the interval of
    assert math.isnan(against.high)
    other = difference(times([60.0] * 6), half)
    assert (other.at_most, other.high) == (60.0 - 48.5, 60.0 - 7.0)
    for seconds in (90.1, 500.0):  # whatever the others would have taken
        ended = times([7.0] * 3 + [seconds] * 3)
        assert time_to_event(ended).median >= time_to_event(half).beyond
        assert difference(ended, times([60.0] * 6)).value >= against.at_least


def test_times_censored_early_say_nothing_of_what_came_later() -> None:
    # two that were given up after a second leave the others' median as it is
    assert time_to_event(times([10.0, 20.0, 30.0], [1.0, 1.0])).median == 20.0


def test_fewer_than_three_have_no_interval() -> None:
    for found in (time_to_event(times([1.0, 2.0])), time_to_event(times([1.0], [5.0]))):
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert not found.high_open
    assert said(time_to_event(times([]))) == "not known"


def test_one_censored_of_many_leaves_the_interval_closed() -> None:
    found = time_to_event(times([float(second) for second in range(1, 20)], [90.0]))
    assert not found.high_open
    assert found.high < 20


def test_a_remedy_against_boots_that_never_were_ready_is_bounded_and_not_a_number() -> None:
    found = difference(times([5.0, 6.0, 7.0]), times([], [90.0] * 5))
    assert (found.at_most, found.high) == (-84.0, -83.0)
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert math.isnan(ratio(times([5.0, 6.0, 7.0]), times([], [90.0] * 5)).value)
    assert ratio(times([5.0, 6.0, 7.0]), times([], [90.0] * 5)).high == pytest.approx(7 / 90)


def test_a_remedy_that_makes_it_worse_is_longer_by_at_least() -> None:
    found = difference(times([], [90.0] * 3), times([5.0, 6.0, 7.0]))
    assert (found.at_least, found.low) == (84.0, 83.0)
    assert math.isnan(found.high)


def test_two_groups_that_were_never_ready_have_no_difference() -> None:
    found = difference(times([], [90.0] * 3), times([], [90.0] * 3))
    assert [math.isnan(each) for each in (found.value, found.at_least, found.at_most, found.low, found.high)] == [True] * 5


def test_without_a_censored_time_the_ratio_is_the_ordinary_one() -> None:
    ours, theirs = [2.0, 3.0, 5.0, 4.0], [1.0, 1.5, 1.2]
    found, wanted = ratio(times(ours), times(theirs)), ratio_of_medians(ours, theirs)
    assert (found.value, found.low, found.high) == pytest.approx((wanted.value, wanted.low, wanted.high))
    assert difference(times(ours), times(theirs)).value == pytest.approx(3.5 - 1.2)


def test_the_curve_never_reaches_one_where_a_boot_was_still_waiting() -> None:
    at, share = curve(times([1.0, 2.0], [90.0, 90.0]))
    assert (at.tolist(), share.tolist()) == ([1.0, 2.0, 90.0], [0.25, 0.5, 0.5])
    assert curve(times([]))[0].size == 0
