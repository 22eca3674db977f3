"""Groups against a baseline: how large the difference is, and how sure. No test of significance, no p-value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from toolkit.analysis.frames import Frame, column_names, gather, groups
from toolkit.analysis.stats import cliffs_delta, median_interval, ratio_of_medians, table_of
from toolkit.errors import UsageError

__all__ = ["compare"]

_COLUMNS = [
    "n", "missing", "baseline_n", "median", "baseline_median",
    "ratio", "ratio_low", "ratio_high", "cliffs_delta", "cliffs_delta_low", "cliffs_delta_high", "differs",
]  # fmt: skip


def compare(frame: Frame, value: str, by: str | Sequence[str], baseline: Any) -> pd.DataFrame:
    """The size of each group's difference from a baseline, with 95 % bootstrap intervals.

    Parameters
    ----------
    frame : DataFrame of pandas or Dask
        Any table.
    value : str
        The column to compare: a number, a repeat a row. Nulls are left out and counted.
    by : str or sequence of str
        The columns that make the groups.
    baseline : scalar or tuple
        The group to compare with: its value of ``by``, or a tuple where ``by`` is several.

    Returns
    -------
    pandas.DataFrame
        A row for each other group: the columns of ``by``, then ``n`` and ``baseline_n`` (values), ``missing`` (nulls of the
        group), ``median``, ``baseline_median``, ``ratio`` of the medians with ``ratio_low`` and ``ratio_high``, ``cliffs_delta``
        (chance to be above less chance to be below) with ``cliffs_delta_low`` and ``cliffs_delta_high``, and ``differs``: whether
        the interval of the ratio leaves out 1. Where a group has fewer than three values the intervals are NaN, and ``differs`` is
        null: it is not known, which is not the same as False.

    Raises
    ------
    TableError
        If a column is missing.
    UsageError
        If there is no such group; the message lists those there are.

    Examples
    --------
    >>> times = pd.DataFrame({"method": ["a"] * 4 + ["b"] * 3, "allocate_ns": [10, 11, 10, 12, 20, 22, 21]})
    >>> compare(times, "allocate_ns", "method", "a")[["method", "n", "baseline_n", "ratio", "ratio_low", "ratio_high", "differs"]]
      method  n  baseline_n  ratio  ratio_low  ratio_high  differs
    0      b  3           4    2.0    1.73913         2.2     True
    """
    names = column_names(by)
    wanted = tuple(baseline) if isinstance(baseline, (tuple, list)) else (baseline,)
    rows = gather(frame, [*names, value], "compare")
    keys = {_key(key.values()): group.index for key, group in groups(rows, names)}
    if _key(wanted) not in keys:
        there = "; ".join(", ".join(map(str, key)) for key in list(keys)[:10])
        raise UsageError(f"baseline={baseline!r} is no group of {', '.join(names)}", f"There are: {there or 'none'}.")
    against = rows.loc[keys[_key(wanted)], value]
    reference = median_interval(against)

    def measure(group: pd.DataFrame) -> dict[str, object]:
        ours = median_interval(group[value])
        ratio, delta = ratio_of_medians(group[value], against), cliffs_delta(group[value], against)
        return {
            "n": ours.n,
            "missing": len(group) - ours.n,
            "baseline_n": reference.n,
            "median": ours.median,
            "baseline_median": reference.median,
            "ratio": ratio.value,
            "ratio_low": ratio.low,
            "ratio_high": ratio.high,
            "cliffs_delta": delta.value,
            "cliffs_delta_low": delta.low,
            "cliffs_delta_high": delta.high,
            "differs": pd.NA if pd.isna(ratio.low) else not ratio.low <= 1 <= ratio.high,
        }

    others = rows.drop(index=keys[_key(wanted)])
    return table_of(others, names, _COLUMNS, measure).astype({"differs": "boolean"})


def _key(values: Any) -> tuple[Any, ...]:
    """A group's values with null as None, whichever null it was, so that equal groups are equal."""
    return tuple(None if pd.isna(found) else found for found in values)
