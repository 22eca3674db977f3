"""Intervals and effect sizes: the same each time, none where there cannot be one, and of the size that theory says."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from toolkit.analysis.stats import cliffs_delta, median_interval, medians, ratio_of_medians
from toolkit.errors import TableError, UsageError


def drawn(n: int, middle: float = 10.0, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(middle, 1.0, n)


def test_the_same_values_give_the_same_interval_each_time() -> None:
    assert median_interval(drawn(20)) == median_interval(drawn(20))
    assert cliffs_delta(drawn(20), drawn(9, 11)) == cliffs_delta(drawn(20), drawn(9, 11))


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_values_have_no_interval(n: int) -> None:
    found = median_interval(drawn(n))
    assert found.n == n
    assert math.isfinite(found.median)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    for effect in (ratio_of_medians(drawn(n), drawn(30)), ratio_of_medians(drawn(30), drawn(n)), cliffs_delta(drawn(30), drawn(n))):
        assert math.isfinite(effect.value)
        assert math.isnan(effect.low)


def test_no_value_has_no_median() -> None:
    assert median_interval([]).n == 0
    assert math.isnan(median_interval(pd.Series([None, None], dtype="Int64")).median)
    assert math.isnan(ratio_of_medians([], [1.0]).value)
    assert math.isnan(cliffs_delta([1.0], []).value)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert vars(median_interval([4.0] * 7)) == {"n": 7, "median": 4.0, "low": 4.0, "high": 4.0}
    assert vars(cliffs_delta([4.0] * 7, [4.0] * 5)) == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_nulls_of_any_kind_are_left_out_and_not_counted() -> None:
    assert median_interval(pd.Series([1, None, 3, 2], dtype="Int64")) == median_interval([1.0, 3.0, 2.0, math.nan])
    assert median_interval(pd.Series([1, None, 3, 2], dtype="Int64")).n == 3
    assert median_interval([1.0, math.nan, 3.0]).median == 2.0


def test_the_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    held = [found.low <= 10 <= found.high for found in (median_interval(drawn(25, seed=seed)) for seed in range(300))]
    assert 0.90 < np.mean(held) < 0.99


def test_the_interval_reaches_no_further_than_the_values() -> None:
    values = drawn(3)
    found = median_interval(values)
    assert values.min() <= found.low <= found.median <= found.high <= values.max()


def test_groups_of_unequal_size_are_compared() -> None:
    ratio = ratio_of_medians(drawn(40, 20), drawn(7, 10))
    assert ratio.low < 2 < ratio.high
    assert ratio.low > 1.5
    delta = cliffs_delta(drawn(40, 10.5), drawn(7, 10, seed=2))
    assert -1 <= delta.low < delta.value < delta.high <= 1


def test_cliffs_delta_is_its_definition() -> None:
    above, below = np.random.default_rng(3).integers(0, 6, (2, 13))
    expected = np.mean([np.sign(a - b) for a in above for b in below])
    assert cliffs_delta(above, below).value == pytest.approx(expected)
    assert cliffs_delta(below, above).value == pytest.approx(-expected)


def test_a_baseline_of_nothing_has_no_ratio() -> None:
    assert math.isnan(ratio_of_medians([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).value)
    sometimes = ratio_of_medians([1.0, 2.0, 3.0], [0.0, 1.0, 1.0])
    assert sometimes.value == 2.0
    assert math.isnan(sometimes.low)


def test_many_values_are_resampled_in_bounded_memory() -> None:
    found = median_interval(drawn(60_000))
    assert found.high - found.low < 0.04


def test_medians_gives_a_row_a_group_also_where_nothing_is_known() -> None:
    frame = pd.DataFrame(
        {"a": ["x", "x", None, "y"], "b": pd.array([1, 1, 2, None], dtype="Int64"), "value": [1.0, 3.0, 5.0, math.nan]}
    )
    found = medians(frame, "value", ["a", "b"])
    assert found["n"].tolist() == [2, 0, 1]
    assert str(found.dtypes["b"]) == "Int64"
    assert found.columns.tolist() == ["a", "b", "n", "median", "low", "high"]
    with pytest.raises(TableError, match="colour"):
        medians(frame, "value", "colour")
    for by in ([], ["a", "a"]):
        with pytest.raises(UsageError, match="does not name columns"):
            medians(frame, "value", by)
