"""Times of which some are only known to be longer than something: a censored time is not a time.

A boot that was not ready when its budget ended is censored: it would have taken longer, and nobody knows how much. To average its
budget makes it too quick, and so does to leave it out. Here it counts as beyond: the share still waiting is Kaplan and Meier's
(E. L. Kaplan and P. Meier, Nonparametric Estimation from Incomplete Observations, JASA 53 (1958), 457–481), as
:func:`scipy.stats.ecdf` has it, and a median or an end of an interval that lies beyond what was watched is said to lie there
instead of being given a number. Intervals are :mod:`toolkit.analysis.stats`' percentile bootstrap, drawn over the censored times
too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import CensoredData, ecdf

from toolkit.analysis.stats import FEWEST, Effect, bootstrap_interval
from toolkit.units import duration_text

__all__ = ["Difference", "TimeToEvent", "Times", "curve", "difference", "quantile", "ratio", "said", "time_to_event"]

#: Stands for a time beyond all that was watched, where arithmetic needs a number: no clock of ours tells so many seconds.
_BEYOND = 1e18
_HALF = 0.5
#: Products of fractions miss a half by so much at the most.
_ROUNDING = 1e-9

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """Times in seconds, and of each whether it was seen to end (True) or only to last longer (False)."""

    seconds: Numbers
    seen: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, seconds: pd.Series, seen: pd.Series) -> Times:
        """The rows of which a time is known."""
        known = seconds.notna() & seen.notna()
        return cls(seconds[known].to_numpy(dtype=np.float64), seen[known].to_numpy(dtype=np.bool_))

    def places(self) -> Numbers:
        """Their places, to resample time and truth together."""
        return np.arange(self.seconds.size, dtype=np.float64)


@dataclass(frozen=True)
class TimeToEvent:
    """A median of ``n`` times, ``censored`` of which were not seen to end.

    Attributes
    ----------
    n, censored : int
        Times, and how many of them are censored.
    longest : float
        The longest time watched, in s.
    median, low, high : float
        In s, with the 95 % interval; NaN where not known: see the next three.
    beyond : float
        The least that the median can be, where it is not known: the longest time watched, where more than half had not ended by
        then; half-way to it from the last that was seen to end, where half had; NaN else.
    high_open : bool
        Whether the interval has no upper end: it lies beyond what was watched.
    low_open : bool
        Whether its lower end lies beyond what was watched too: the interval begins after that.
    """

    n: int
    censored: int
    longest: float
    median: float
    low: float
    high: float
    beyond: float
    low_open: bool
    high_open: bool


@dataclass(frozen=True)
class Difference:
    """The difference of two medians in s, or what bounds it where one of them is beyond what was watched; NaN where not known."""

    value: float
    at_least: float
    at_most: float
    low: float
    high: float


def time_to_event(times: Times) -> TimeToEvent:
    """The median time with its 95 % interval, censored times counted as longer than they were watched.

    Parameters
    ----------
    times : Times
        Independent times, as boots are. Without a censored one the answer is that of
        :func:`toolkit.analysis.stats.median_interval`.

    Returns
    -------
    TimeToEvent
        Fewer than three times have no interval.

    Notes
    -----
    The median is the time by which half had ended; of an even number half-way to the next, as usual. Where exactly half were seen
    to end the next is later than all that was watched: the median lies beyond half of the way there, and no more can be said. Where
    fewer were, it lies beyond all that was watched. The interval goes from the 2.5 % of the least that a resample's median can be
    to the 97.5 % of the most.

    Examples
    --------
    >>> time_to_event(Times(np.array([5.0, 6.0, 7.0, 90.0, 90.0, 90.0]), np.array([True, True, True, False, False, False]))).beyond
    48.5
    """
    if not times.seconds.size:
        return TimeToEvent(0, 0, math.nan, math.nan, math.nan, math.nan, math.nan, low_open=False, high_open=False)
    longest = float(times.seconds.max())
    (least,), (middle,) = _median(times.seconds[None, :], times.seen[None, :])
    low, high = bootstrap_interval((times.places(),), lambda places, **_axis: _resampled(times, places, 1))
    if not times.seen.all():
        low, _ = bootstrap_interval((times.places(),), lambda places, **_axis: _resampled(times, places, 0))
    # Between two resamples of the longest time a quantile may be longer than both, by a rounding: that is not beyond.
    low, high = (longest if longest < end <= longest * (1 + _ROUNDING) else end for end in (low, high))
    return TimeToEvent(
        n=times.seconds.size,
        censored=int((~times.seen).sum()),
        longest=longest,
        median=_within(middle, longest),
        low=_within(low, longest),
        high=_within(high, longest),
        beyond=min(float(least), longest) if middle > longest else math.nan,
        low_open=low > longest,
        high_open=high > longest,
    )


def difference(times: Times, baseline: Times) -> Difference:
    """How much longer the median is than the baseline's, in s; below 0 where it is shorter.

    Parameters
    ----------
    times, baseline : Times
        Two groups that do not depend on each other, of any size.

    Returns
    -------
    Difference
        ``value`` where both medians are known. Where the baseline's is not, ``at_most``: the median less the least that the
        baseline's can be. Where the median is not known and the baseline's is, ``at_least``. ``low`` and ``high`` bound it with
        95 %: each resample's difference is known to lie between two bounds, and the interval goes from the lower ones' 2.5 % to
        the upper ones' 97.5 %. An end that is open is NaN, and so are both of fewer than three times a group.

    Examples
    --------
    >>> quick, never = Times(np.array([5.0, 5.0, 5.0]), np.ones(3, bool)), Times(np.full(3, 90.0), np.zeros(3, bool))
    >>> difference(quick, never)
    Difference(value=nan, at_least=nan, at_most=-85.0, low=nan, high=-85.0)
    """
    if not times.seconds.size or not baseline.seconds.size:
        return Difference(math.nan, math.nan, math.nan, math.nan, math.nan)
    least, most = _bounds(times, baseline, np.subtract)
    low, _ = bootstrap_interval((times.places(), baseline.places()), _bound(times, baseline, np.subtract, 0))
    _, high = bootstrap_interval((times.places(), baseline.places()), _bound(times, baseline, np.subtract, 1))
    known = least == most
    return Difference(
        value=least if known else math.nan,
        at_least=math.nan if known else _finite(least),
        at_most=math.nan if known else _finite(most),
        low=_finite(low),
        high=_finite(high),
    )


def ratio(times: Times, baseline: Times) -> Effect:
    """How many times the baseline's median the median is; NaN where one of the two is not known, or for an end that is open.

    Parameters
    ----------
    times, baseline : Times
        Two groups that do not depend on each other, of any size.

    Returns
    -------
    Effect
        With the interval of :func:`difference`, whose open ends are NaN.
    """
    if not times.seconds.size or not baseline.seconds.size:
        return Effect(math.nan, math.nan, math.nan)
    least, most = _bounds(times, baseline, _divide)
    low, _ = bootstrap_interval((times.places(), baseline.places()), _bound(times, baseline, _divide, 0))
    _, high = bootstrap_interval((times.places(), baseline.places()), _bound(times, baseline, _divide, 1))
    return Effect(least if least == most and 0 < least < 1e9 else math.nan, _positive(low), _positive(high))


def curve(times: Times) -> tuple[Numbers, Numbers]:
    """The share that had ended by each time, after Kaplan and Meier: times in s, and shares from 0 on.

    Examples
    --------
    >>> at, share = curve(Times(np.array([5.0, 7.0, 90.0, 90.0]), np.array([True, True, False, False])))
    >>> at.tolist(), share.tolist()
    ([5.0, 7.0, 90.0], [0.25, 0.5, 0.5])
    """
    if not times.seconds.size:
        return np.array([]), np.array([])
    waiting = ecdf(CensoredData(uncensored=times.seconds[times.seen], right=times.seconds[~times.seen])).sf
    return waiting.quantiles, 1 - waiting.probabilities


def quantile(times: Times, share: float) -> float:
    """The least time by which that share had ended; NaN where no more than less was seen to end. Without an interval.

    Examples
    --------
    >>> made = Times(np.array([1.0, 2.0, 3.0, 90.0]), np.array([True, True, True, False]))
    >>> quantile(made, 0.75), quantile(made, 0.99)
    (3.0, nan)
    """
    at, ended = curve(times)
    reached = np.flatnonzero(ended >= share - _ROUNDING)
    return float(at[reached[0]]) if reached.size else math.nan


def said(found: TimeToEvent, text: Callable[[float], str] = duration_text) -> str:
    """A median with its interval in words; "> 90 s" where it is beyond what was watched.

    Examples
    --------
    >>> said(time_to_event(Times(np.full(5, 90.0), np.zeros(5, bool))))
    '> 90 s'
    >>> said(time_to_event(Times(np.array([5.0, 6.0, 7.0]), np.ones(3, bool))))
    '6 s (5 s to 7 s)'
    """
    if not found.n:
        return "not known"
    middle = text(found.median) if math.isnan(found.beyond) else f"> {text(found.beyond)}"
    if found.n < FEWEST or found.low_open or math.isnan(found.low):
        return middle
    return f"{middle} ({text(found.low)} to {f'> {text(found.longest)}' if found.high_open else text(found.high)})"


def _median(seconds: Numbers, seen: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """The least and the most that Kaplan and Meier's median of each row can be.

    The same where more than half were seen to end; _BEYOND both where fewer were. Of exactly half it is half-way from the last of
    them to one that is later than all that was watched.
    """
    order = np.lexsort((~seen, seconds), axis=-1)  # of equal times those seen to end come first: the others lasted longer
    at = np.take_along_axis(seconds, order, axis=-1)
    ended = np.take_along_axis(seen, order, axis=-1)
    still = at.shape[-1] - np.arange(at.shape[-1])
    waiting = np.cumprod(np.where(ended, 1 - 1 / still, 1.0), axis=-1)
    half, more = waiting <= _HALF + _ROUNDING, waiting < _HALF - _ROUNDING
    first = np.take_along_axis(at, half.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    second = np.take_along_axis(at, more.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    most: Numbers = np.where(more.any(axis=-1), (first + second) / 2, _BEYOND)
    exactly_half = half.any(axis=-1) & ~more.any(axis=-1)
    return np.where(exactly_half, (first + at[..., -1]) / 2, most), most


def _resampled(times: Times, places: Numbers, which: int) -> Numbers:
    chosen = np.atleast_2d(places.astype(np.int64))
    found = _median(times.seconds[chosen], times.seen[chosen])[which]
    return found if places.ndim > 1 else found[0]


def _limits(times: Times, places: Numbers) -> tuple[Numbers, Numbers]:
    """Of each row the least and the most that its median can be, the least as a time that was watched."""
    chosen = np.atleast_2d(places.astype(np.int64))
    least, most = _median(times.seconds[chosen], times.seen[chosen])
    return np.minimum(least, times.seconds[chosen].max(axis=-1)), most


def _bound(times: Times, baseline: Times, combine: Callable[[Numbers, Numbers], Numbers], which: int) -> Callable[..., Numbers]:
    """The least (0) or the most (1) that the difference or ratio of two resampled medians can be."""

    def found(ours: Numbers, theirs: Numbers, **_axis: int) -> Numbers:
        our, their = _limits(times, ours), _limits(baseline, theirs)
        bound = combine(our[which], their[1 - which])
        return bound if ours.ndim > 1 else bound[0]

    return found


def _bounds(times: Times, baseline: Times, combine: Callable[[Numbers, Numbers], Numbers]) -> tuple[float, float]:
    places = times.places(), baseline.places()
    least, most = (_bound(times, baseline, combine, which)(*places) for which in (0, 1))
    return float(least), float(most)


def _divide(values: Numbers, baseline: Numbers) -> Numbers:
    found: Numbers = values / np.where(baseline > 0, baseline, np.nan)
    return found


def _within(value: float, longest: float) -> float:
    return value if value <= longest else math.nan


def _finite(value: float) -> float:
    return value if abs(value) < _BEYOND / 1e6 else math.nan


def _positive(value: float) -> float:
    return value if _BEYOND / 1e6 > value > 1e-9 else math.nan
