"""How a median with its interval is drawn and said. The medians themselves are :mod:`toolkit.analysis.stats`' business."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pandas as pd
from matplotlib.axes import Axes

from toolkit.analysis.stats import MedianInterval
from toolkit.plots import style

__all__ = ["dot", "greatest", "intervals", "least", "span_words"]


def intervals(table: pd.DataFrame) -> Iterator[MedianInterval]:
    """The rows of a table of medians, one by one."""
    for n, median, low, high in zip(table["n"], table["median"], table["low"], table["high"], strict=True):
        yield MedianInterval(int(n), float(median), float(low), float(high))


def least(table: pd.DataFrame, by: str = "median") -> pd.Series:
    """The row with the least of a column; of equal ones the first."""
    return table.sort_values(by, kind="stable").iloc[0]


def greatest(table: pd.DataFrame, by: str = "median") -> pd.Series:
    """The row with the most of a column; of equal ones the first."""
    return table.sort_values(by, kind="stable", ascending=False).iloc[0]


def dot(axes: Axes, found: MedianInterval, height: float, seen: style.Look, *, hollow: bool = False) -> None:
    """A median as a mark, its interval as a line; no line where there is no interval."""
    colour, marker = seen
    if math.isfinite(found.low) and math.isfinite(found.high):
        axes.hlines(height, found.low, found.high, color=colour, linewidth=2.4, gid="interval")
    axes.plot(
        [found.median],
        [height],
        marker,
        color=colour,
        markerfacecolor="white" if hollow else colour,
        markersize=9.0 if marker == "*" else 6.5,
        markeredgewidth=1.3,
        zorder=4,
        gid="median",
    )


def span_words(table: pd.DataFrame, name: str, text: Callable[[float], str]) -> str:
    """The medians of a table in words: the lowest and the highest with the group each belongs to."""
    if table.empty:
        return "not measured"
    low, high = least(table), greatest(table)
    lowest = f"{text(float(low['median']))} ({style.label(low[name])})"
    if float(low["median"]) == float(high["median"]):
        return lowest if len(table) == 1 else f"{text(float(low['median']))} on all"
    return f"{lowest} to {text(float(high['median']))} ({style.label(high[name])})"
