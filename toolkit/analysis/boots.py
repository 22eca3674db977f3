"""Boots of guests: when they were ready, how long early user space waited, what it cost; and each remedy against none.

A boot that was not ready at the end of its budget counts as beyond it: see :mod:`toolkit.analysis.survival`. One that failed, or
that could not be had on the machine, is counted and tells no time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from toolkit.analysis.frames import Frame, check_columns, column_names, gather, groups
from toolkit.analysis.stats import table_of
from toolkit.analysis.survival import Difference, Times, difference, ratio, said, time_to_event
from toolkit.errors import UsageError

__all__ = ["COSTS", "QUANTITIES", "boots", "remedies", "times_of"]

#: What a boot tells, in s.
COSTS = ("guest_cpu_s", "feeder_cpu_s", "qemu_cpu_s")
#: Costs of two groups are of one time where their median times differ by no more than this share.
_SAME_TIME = 0.10
QUANTITIES = ("crng_ready_s", "longest_wait_s", *COSTS)

_NEEDED = ("outcome", "budget_s", "crng_ready_s", "longest_wait_ns", "wait_censored", *COSTS, "watched_s")
#: What a boot of a matrix is: one that is made again after it failed, or could not be had, has all of it in common.
_ONE_BOOT = ["host", "plan_sha256", "cell", "remedy", "repeat", "position"]
_COUNTS = ["boots", "ready", "censored", "failed", "left_out"]
_FOUND = ["n", "beyond", "median_s", "low_s", "high_s", "beyond_s", "high_open", "median"]
_EFFECT = [
    "baseline_median", "difference_s", "at_least_s", "at_most_s", "difference_low_s", "difference_high_s",
    "ratio", "ratio_low", "ratio_high", "differs",
]  # fmt: skip


def boots(frame: Frame, by: str | Sequence[str] = "cell", quantity: str = "crng_ready_s") -> pd.DataFrame:
    """What the boots of each group tell of one quantity: the median in s with its 95 % interval, censored boots counted as beyond.

    Parameters
    ----------
    frame : DataFrame of pandas or Dask
        Table ``boots``.
    by : str or sequence of str
        The columns to group by: by default the cell, a configuration in words.
    quantity : str
        ``crng_ready_s`` (since boot; a boot that was not ready is censored at its budget), ``longest_wait_s`` (of what
        early user space asked for; censored where it had not returned), ``guest_cpu_s``, ``feeder_cpu_s`` or ``qemu_cpu_s``.

    Returns
    -------
    pandas.DataFrame
        A row a group: the columns of ``by``, then ``boots`` that were begun, of these ``ready``, ``censored`` and ``failed``, and
        ``left_out``, which were not begun; ``n`` (boots that tell the quantity), ``beyond`` (those of the n that are censored),
        ``median_s`` with ``low_s`` and ``high_s``, ``beyond_s`` (the median is beyond it, and null itself), ``high_open`` (the
        interval has no upper end that was seen; null where there is no interval), and ``median``: the same in words. Fewer than
        three boots have no interval.

    Raises
    ------
    TableError
        If a column is missing.
    UsageError
        If the quantity is none of these.

    Notes
    -----
    A boot that was made again, because it had failed or could not be had, counts once, as what it was at last.

    The median is Kaplan and Meier's. It is null where half or more of the boots are censored: a censored time is not a time. Of
    exactly half it is only known to lie beyond half of the way from the last that was ready to the longest that was watched.

    Examples
    --------
    >>> rows = pd.DataFrame({
    ...     "cell": ["none"] * 4, "outcome": ["ready", "censored", "censored", "failed"], "budget_s": 90.0,
    ...     "crng_ready_s": [8.6, None, None, None], "longest_wait_ns": None, "wait_censored": None,
    ...     "guest_cpu_s": 1.0, "feeder_cpu_s": None, "qemu_cpu_s": 2.0, "watched_s": 90.0,
    ... })
    >>> boots(rows)[["cell", "boots", "ready", "censored", "failed", "median_s"]]
       cell  boots  ready  censored  failed  median_s
    0  none      4      1         2       1       NaN
    >>> boots(rows)["median"].item()
    '> 90 s (8.6 s to > 90 s)'
    """
    names = column_names(by)
    rows = _made_last(frame, names, "boots")
    _check(quantity)
    return _typed(table_of(rows, names, [*_COUNTS, *_FOUND], lambda group: _row(group, quantity)))


def times_of(frame: pd.DataFrame, quantity: str = "crng_ready_s") -> pd.DataFrame:
    """What each boot tells of a quantity: ``seconds`` and ``seen`` (False: it was longer than that); null where it tells nothing.

    Parameters
    ----------
    frame : DataFrame
        Table ``boots``.
    quantity : str
        As of :func:`boots`.

    Returns
    -------
    pandas.DataFrame
        A row a boot, with the index of the frame.
    """
    check_columns(frame, _NEEDED, "boots")
    _check(quantity)
    outcome = frame["outcome"]
    if quantity == "crng_ready_s":
        ready, censored = outcome == "ready", outcome == "censored"
        until = frame["budget_s"].astype("float64").fillna(frame["watched_s"].astype("float64"))
        seconds = frame["crng_ready_s"].astype("float64").where(ready, until.where(censored))
        return pd.DataFrame({"seconds": seconds, "seen": ready}, index=frame.index)
    told = outcome.isin(["ready", "censored"])
    if quantity == "longest_wait_s":
        seconds = frame["longest_wait_ns"].astype("Float64").astype("float64") / 1e9
        seen = ~frame["wait_censored"].astype("boolean").fillna(value=False).astype(bool)
        return pd.DataFrame({"seconds": seconds.where(told), "seen": seen}, index=frame.index)
    return pd.DataFrame({"seconds": frame[quantity].astype("float64").where(told), "seen": True}, index=frame.index)


def remedies(
    frame: Frame,
    by: str | Sequence[str] = "remedy",
    baseline: str = "none",
    within: Sequence[str] = ("plan", "kernel", "asked"),
    quantities: Sequence[str] = QUANTITIES,
) -> pd.DataFrame:
    """Each remedy against none: when guests were ready, how long they waited and what it cost, with the size of the difference.

    Parameters
    ----------
    frame : DataFrame of pandas or Dask
        Table ``boots``.
    by : str or sequence of str
        What makes a group beside ``within``; ``remedy`` must be one of it.
    baseline : str
        The remedy that the others are set against.
    within : sequence of str
        A remedy is set against the baseline's boots that agree in these columns, and never against others. What is asked decides
        when a guest is ready, so boots that asked for different things are not counted together either.
    quantities : sequence of str
        As of :func:`boots`.

    Returns
    -------
    pandas.DataFrame
        A row for each quantity, and each group that tells it: ``within`` and ``by``, ``quantity``, the columns of :func:`boots`,
        and against the baseline: ``baseline_median`` in words, ``difference_s`` of the medians, or where one of the two is beyond
        what was watched ``at_least_s`` or ``at_most_s``; ``difference_low_s`` and ``difference_high_s``, its 95 % interval;
        ``ratio`` with ``ratio_low`` and ``ratio_high``; and ``differs``: whether the interval of the difference leaves out 0. An
        end of an interval that is open is null. Of the baseline itself, and where it was not booted, all these are null; but for
        ``baseline_median``, also of costs that are not of the same time.

    Raises
    ------
    TableError
        If a column is missing.
    UsageError
        If a quantity is not known.

    Notes
    -----
    Boots do not depend on each other, so nothing is paired. Where a resample's median is beyond what was watched, its difference is
    known to lie between two bounds; the interval goes from the 2.5 % of the lower bounds to the 97.5 % of the upper.

    A cost grows as long as it is watched. Two groups' costs are therefore compared only where the medians of ``watched_s``, from a
    boot to the moment at which its costs were seen, differ by 10 % of the longer at the most.

    Examples
    --------
    >>> rows = pd.DataFrame({
    ...     "plan": "p", "kernel": "6.1", "asked": "nothing", "remedy": ["none"] * 3 + ["haveged"] * 3,
    ...     "outcome": ["censored"] * 3 + ["ready"] * 3,
    ...     "budget_s": 90.0, "crng_ready_s": [None] * 3 + [5.0, 6.0, 7.0], "longest_wait_ns": None, "wait_censored": None,
    ...     "guest_cpu_s": 1.0, "feeder_cpu_s": None, "qemu_cpu_s": 2.0, "watched_s": 90.0,
    ... })
    >>> found = remedies(rows, quantities=["crng_ready_s"])
    >>> found[["remedy", "median", "baseline_median", "at_most_s", "differs"]]
        remedy            median baseline_median  at_most_s  differs
    0  haveged  6 s (5 s to 7 s)          > 90 s      -84.0     True
    1     none            > 90 s             NaN        NaN     <NA>
    """
    names = column_names(by)
    if "remedy" not in names:
        raise UsageError(f"by={by!r} does not name the column remedy", "A remedy is set against another: group by it.")
    keys = [*within, *(name for name in names if name not in within)]
    rows = _made_last(frame, keys, "remedies")
    columns = [*keys, "quantity", *_COUNTS, *_FOUND, *_EFFECT]
    found: list[dict[str, object]] = []
    for quantity in quantities:
        _check(quantity)
        told = times_of(rows, quantity)
        if told["seconds"].isna().all() and quantity != "crng_ready_s":
            continue
        for key, group in groups(rows, keys):
            against = _baseline(rows, within, key, baseline)
            found.append({**key, "quantity": quantity, **_row(group, quantity), **_effect(group, against, quantity, key, baseline)})
    table = pd.DataFrame(found, columns=columns).astype({name: rows[name].dtype for name in keys})
    return _typed(table).astype({"differs": "boolean", "baseline_median": "str"})


def _made_last(frame: Frame, names: Sequence[str], what: str) -> pd.DataFrame:
    """The rows of a table ``boots``, without those that a later boot in their place has made void; all, where it cannot be told."""
    telling = [name for name in (*_ONE_BOOT, "run_id") if name in frame.columns]
    rows = gather(frame, [*names, *_NEEDED, *telling], what)
    if len(telling) <= len(_ONE_BOOT) or rows.empty:
        return rows
    rows = rows.sort_values("run_id", kind="stable")  # ids of runs sort by time
    told = rows["outcome"].isin(["ready", "censored"])
    key = rows.groupby(_ONE_BOOT, dropna=False, sort=False).ngroup()
    void = ~told & (told.groupby(key).transform("any") | key.duplicated(keep="last"))
    return rows[~void].sort_index().reset_index(drop=True)


def _check(quantity: str) -> None:
    if quantity not in QUANTITIES:
        raise UsageError(f"{quantity!r} is nothing that boots tell", f"They tell: {', '.join(QUANTITIES)}.")


def _times(rows: pd.DataFrame, quantity: str) -> Times:
    told = times_of(rows, quantity)
    return Times.of(told["seconds"], told["seen"])


def _row(group: pd.DataFrame, quantity: str) -> dict[str, object]:
    outcome = group["outcome"]
    found = time_to_event(_times(group, quantity))
    has_interval = found.low_open or math.isfinite(found.low)
    return {
        "boots": int((outcome != "left out").sum()),
        **{name: int((outcome == name.replace("_", " ")).sum()) for name in _COUNTS[1:]},
        "n": found.n,
        "beyond": found.censored,
        "median_s": found.median,
        "low_s": found.low,
        "high_s": found.high,
        "beyond_s": found.beyond,
        "high_open": found.high_open if has_interval else pd.NA,
        "median": said(found),
    }


def _baseline(rows: pd.DataFrame, within: Sequence[str], key: dict[str, object], baseline: str) -> pd.DataFrame:
    """The baseline's boots that agree with the key in the columns of ``within``; null agrees with null."""
    same = rows["remedy"] == baseline
    for name in within:
        same &= rows[name].isna() if pd.isna(key[name]) else rows[name] == key[name]  # type: ignore[call-overload]
    return rows[same.fillna(value=False)]


def _effect(group: pd.DataFrame, against: pd.DataFrame, quantity: str, key: dict[str, object], baseline: str) -> dict[str, object]:
    ours, theirs = _times(group, quantity), _times(against, quantity)
    if key["remedy"] == baseline or not ours.seconds.size or not theirs.seconds.size:
        return {"baseline_median": None, "differs": pd.NA}
    if quantity in COSTS and not _of_one_time(group, against, quantity):
        return {"baseline_median": said(time_to_event(theirs)), "differs": pd.NA}
    change, factor = difference(ours, theirs), ratio(ours, theirs)
    return {
        "baseline_median": said(time_to_event(theirs)),
        "difference_s": change.value,
        "at_least_s": change.at_least,
        "at_most_s": change.at_most,
        "difference_low_s": change.low,
        "difference_high_s": change.high,
        "ratio": factor.value,
        "ratio_low": factor.low,
        "ratio_high": factor.high,
        "differs": _differs(change),
    }


def _of_one_time(group: pd.DataFrame, against: pd.DataFrame, quantity: str) -> bool:
    """Whether two groups' costs were seen as long after the boot as the other's; not where that is not known."""
    ours, theirs = (
        rows["watched_s"].astype("float64")[times_of(rows, quantity)["seconds"].notna()].median() for rows in (group, against)
    )
    return bool(abs(ours - theirs) <= _SAME_TIME * max(ours, theirs))


def _differs(change: Difference) -> object:
    """Whether 0 is outside the interval; not known where neither end is."""
    if math.isnan(change.low) and math.isnan(change.high):
        return pd.NA
    return change.low > 0 or change.high < 0


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({"high_open": "boolean", "median": "str"})
