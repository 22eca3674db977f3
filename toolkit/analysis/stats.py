"""Medians and effect sizes with their bootstrap intervals: the toolkit's only statistics, all by :func:`scipy.stats.bootstrap`.

The method is the percentile bootstrap. BCa, SciPy's default, corrects by a jackknife, which is inconsistent for medians (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, section 11.6) and fails on values that are all equal; the percentile interval of
a median needs neither. Every interval is drawn with the same seed, so that the same values give the same answer each time.

Fewer than three values get no interval (NaN) rather than a false one. With few values an interval reaches at most from the least
to the greatest of them; where two groups do not overlap at all, every resample of Cliff's delta is 1 or -1, and its interval of no
width says that no overlap was seen, not that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import bootstrap, rankdata

from toolkit.analysis.frames import Frame, column_names, gather, groups

__all__ = [
    "FEWEST",
    "Effect",
    "MedianInterval",
    "bootstrap_interval",
    "cliffs_delta",
    "median_interval",
    "medians",
    "ratio_of_medians",
    "table_of",
]

#: Fewer values than this get no interval.
FEWEST = 3
CONFIDENCE = 0.95
RESAMPLES = 1999
#: Of very many values fewer resamples are drawn, so that an interval takes a second at most; it is narrow then in any case.
VALUES_DRAWN, FEWEST_RESAMPLES = 20_000_000, 499
SEED = 20090302

_AT_ONCE = 2_000_000  # values resampled at once: 16 MB

Values = Iterable[float] | pd.Series | npt.NDArray[np.float64]
Statistic = Callable[..., npt.NDArray[np.float64]]


@dataclass(frozen=True)
class MedianInterval:
    """A median of ``n`` values with its 95 % interval; NaN where there is none."""

    n: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """The size of a difference between two groups with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float


def median_interval(values: Values) -> MedianInterval:
    """The median with its bootstrap interval.

    Parameters
    ----------
    values : iterable of float
        Repeats; nulls are left out.

    Returns
    -------
    MedianInterval
        ``n`` values that were not null, ``median`` (NaN of none), ``low`` and ``high`` (NaN of fewer than three).

    Examples
    --------
    >>> median_interval([3.0, 1.0, 2.0, 2.5, 2.0])
    MedianInterval(n=5, median=2.0, low=1.0, high=3.0)
    >>> median_interval([1.0, 2.0])
    MedianInterval(n=2, median=1.5, low=nan, high=nan)
    """
    known = _known(values)
    if not known.size:
        return MedianInterval(0, math.nan, math.nan, math.nan)
    return MedianInterval(known.size, float(np.median(known)), *bootstrap_interval((known,), np.median))


def ratio_of_medians(values: Values, baseline: Values) -> Effect:
    """How many times the baseline's median the median is: 1 is no difference, 2 twice as much.

    Parameters
    ----------
    values, baseline : iterable of float
        Repeats of each group, as many as there are; nulls are left out.

    Returns
    -------
    Effect
        NaN where a group is empty or the baseline's median is 0; without interval where a group has fewer than three, or where
        the baseline's median is 0 in some resample.

    Examples
    --------
    >>> ratio_of_medians([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
    Effect(value=2.0, low=2.0, high=2.0)
    """
    return _effect(values, baseline, _ratio)


def cliffs_delta(values: Values, baseline: Values) -> Effect:
    """Cliff's delta: the chance that a value is above one of the baseline less the chance that it is below, from -1 to 1.

    Source: N. Cliff, Dominance statistics, Psychological Bulletin 114 (1993), 494–509; computed from ranks.

    Parameters
    ----------
    values, baseline : iterable of float
        Repeats of each group, as many as there are; nulls are left out.

    Returns
    -------
    Effect
        NaN where a group is empty; without interval where one has fewer than three.

    Examples
    --------
    >>> cliffs_delta([4.0, 5.0], [1.0, 2.0])
    Effect(value=1.0, low=nan, high=nan)
    """
    return _effect(values, baseline, _delta)


def medians(frame: Frame, value: str, by: str | Sequence[str]) -> pd.DataFrame:
    """The median of a column in each group, with its interval.

    Parameters
    ----------
    frame : DataFrame of pandas or Dask
        Any table.
    value : str
        A column of numbers; nulls are left out and not counted.
    by : str or sequence of str
        The columns to group by; null is a group of its own.

    Returns
    -------
    pandas.DataFrame
        The columns of ``by``, ``n``, ``median``, ``low``, ``high``: a row a group, also where n is 0.

    Raises
    ------
    TableError
        If a column is missing.

    Examples
    --------
    >>> medians(pd.DataFrame({"method": ["a", "a", "b"], "seconds": [1.0, 3.0, 5.0]}), "seconds", "method")
      method  n  median  low  high
    0      a  2     2.0  NaN   NaN
    1      b  1     5.0  NaN   NaN
    """
    names = column_names(by)
    rows = gather(frame, [*names, value], "medians")
    return table_of(rows, names, ["n", "median", "low", "high"], lambda group: vars(median_interval(group[value])))


def table_of(
    rows: pd.DataFrame, by: Sequence[str], columns: Sequence[str], measure: Callable[[pd.DataFrame], dict[str, object]]
) -> pd.DataFrame:
    """A row a group: its values of ``by``, with the dtypes they had, and what was measured of it."""
    found = [{**key, **measure(group)} for key, group in groups(rows, by)]
    table = pd.DataFrame(found, columns=[*by, *columns])
    return table.astype({name: rows[name].dtype for name in by})


def _known(values: Values) -> npt.NDArray[np.float64]:
    series = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype="float64")
    return series.dropna().to_numpy(dtype=np.float64)


def _effect(values: Values, baseline: Values, statistic: Statistic) -> Effect:
    ours, theirs = _known(values), _known(baseline)
    if not ours.size or not theirs.size:
        return Effect(math.nan, math.nan, math.nan)
    return Effect(float(statistic(ours, theirs, axis=-1)), *bootstrap_interval((ours, theirs), statistic))


def bootstrap_interval(groups: tuple[npt.NDArray[np.float64], ...], statistic: Statistic) -> tuple[float, float]:
    """The 95 % interval of a statistic of one or several groups, each resampled by itself.

    Parameters
    ----------
    groups : tuple of numpy.ndarray
        Values of each group; of observations that are more than one number, their places 0, 1, … (as floats).
    statistic : callable
        Takes the resampled groups and ``axis``, and gives a number for each resample.

    Returns
    -------
    tuple of float
        Low and high; both NaN where a group has fewer than three values, or the statistic is not finite of some resample.

    Examples
    --------
    >>> bootstrap_interval((np.array([1.0, 2.0, 3.0]),), np.median)
    (1.0, 3.0)
    """
    largest = max(group.size for group in groups)
    if min(group.size for group in groups) < FEWEST:
        return math.nan, math.nan
    undefined = False

    def finite(*resampled: npt.NDArray[np.float64], axis: int = -1) -> npt.NDArray[np.float64]:
        nonlocal undefined
        found = statistic(*resampled, axis=axis)
        undefined = undefined or not np.isfinite(found).all()
        return np.nan_to_num(found)

    resamples = min(RESAMPLES, max(FEWEST_RESAMPLES, VALUES_DRAWN // largest))
    drawn = bootstrap(
        groups, finite, n_resamples=resamples, batch=max(1, _AT_ONCE // largest),
        vectorized=True, paired=False, axis=-1, confidence_level=CONFIDENCE, method="percentile", rng=np.random.default_rng(SEED),
    )  # fmt: skip
    if undefined:
        return math.nan, math.nan
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def _ratio(values: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64], axis: int = -1) -> npt.NDArray[np.float64]:
    below = np.median(baseline, axis=axis)
    ratio: npt.NDArray[np.float64] = np.median(values, axis=axis) / np.where(below == 0, np.nan, below)
    return ratio


def _delta(values: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64], axis: int = -1) -> npt.NDArray[np.float64]:
    n, m = values.shape[axis], baseline.shape[axis]
    ranks = rankdata(np.concatenate((values, baseline), axis=axis), axis=axis)
    above = ranks[..., :n].sum(axis=axis) - n * (n + 1) / 2  # Mann and Whitney's U: pairs in which a value is above, ties half
    delta: npt.NDArray[np.float64] = 2 * above / (n * m) - 1
    return delta
