"""The figures that others published in 2009, beside today's: what is known of both, and what must not be concluded."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes

from toolkit.analysis.stats import MedianInterval, medians
from toolkit.plots import axes as ticks
from toolkit.plots import style
from toolkit.plots.fragmentation import succeeded
from toolkit.plots.intervals import dot, intervals
from toolkit.units import bytes_text, duration_text

__all__ = ["beside_2009"]

_THEN: style.Look = (style.ORANGE, "D")
_NOW: style.Look = (style.BLUE, "o")
#: What the author printed as 0 lay below his resolution of whole seconds.
_RESOLUTION_S = 1.0
_METHODS = ("posix_fallocate", "mmap_memset", "write_4k", "write_8k")


def beside_2009(published: pd.DataFrame, allocations: pd.DataFrame, where: str = "") -> style.AltFigure:
    """Time and extents by method, 2009 beside today, a row of panels a file system.

    Parameters
    ----------
    published : DataFrame
        filesystem, method, size_bytes, approx_s, fragments, suspect: ``data/published/allocation-2009.csv``.
    allocations : DataFrame
        Table ``allocations`` of one machine, on scratch file systems or in a folder; its largest size is shown.
    where : str, optional
        Where today's files lay, for legend and words.

    Returns
    -------
    AltFigure
        A time published as 0 is drawn as an arrow from one second down: less than could be told, not nothing. Suspect figures
        are hollow.
    """
    now = _today(allocations)
    size_text = bytes_text(float(now["size_bytes"].iloc[0])) if len(now) else ""
    today = f"today, {size_text}{f', {where}' if where else ''}" if size_text else "today: not measured"
    names = sorted(published["filesystem"].unique())
    seconds = medians(now.assign(seconds=now["allocate_ns"].astype("float64") / 1e9), "seconds", ["filesystem", "method"])
    counts = medians(now.assign(extents=now["extents"].astype("float64")), "extents", ["filesystem", "method"])
    with style.drawing():
        figure, grid = style.new_figure(0.55 + 1.75 * len(names), len(names), 2, sharey=True)
        for row, name in zip(grid, names, strict=True):
            then = published[published["filesystem"] == name]
            times = [*then["approx_s"].clip(lower=0.01), *seconds["median"]]
            ticks.duration_ticks(row[0], "x", [*times, 1e-4], room=4)
            ticks.count_ticks(row[1], "x", [1.0, *published["fragments"], *counts["median"], 40.0], room=4)
            _panel(row[0], then, "approx_s", seconds[seconds["filesystem"] == name])
            _panel(row[1], then, "fragments", counts[counts["filesystem"] == name])
            row[0].set_title(f"{name}: time to allocate")
            row[1].set_title(f"{name}: extents")
        grid[-1][0].set_xlabel("time to allocate a file")
        grid[-1][1].set_xlabel("extents a file")
        entries = [
            style.mark("2009, 1 GiB", *_THEN),
            style.mark("2009, suspect", *_THEN, hollow=True),
            style.mark(today, *_NOW),
        ]
        return style.finish(
            figure, _title(published, seconds), _words(published, seconds, counts, size_text, where), _NOTE, entries
        )


_NOTE = (
    "2009: mailing list of libvirt, 2 March 2009, message 012274; approximate, one run, other hardware. Its author later found "
    "that the chunk sizes were passed wrongly: the 4 KiB and 8 KiB figures are suspect. An arrow: printed as about 0 s. "
    "Sizes may differ: compare orders of magnitude, not figures."
)


def _today(allocations: pd.DataFrame) -> pd.DataFrame:
    wanted: pd.DataFrame = succeeded(allocations[allocations["method"].isin(_METHODS)]).dropna(subset=["allocate_ns"])
    largest: pd.DataFrame = wanted[wanted["size_bytes"] == wanted["size_bytes"].max()]
    return largest


def _panel(axes: Axes, then: pd.DataFrame, column: str, now: pd.DataFrame) -> None:
    axes.set_yticks(range(len(_METHODS)), list(_METHODS))
    axes.set_ylim(len(_METHODS) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for place in range(0, len(_METHODS), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#F4F4F4", zorder=0, linewidth=0)
    known = then.dropna(subset=[column])
    for method, value, suspect in zip(known["method"], known[column].astype("float64"), known["suspect"], strict=True):
        height = _METHODS.index(method) - 0.18
        if column == "approx_s" and value == 0:
            _below(axes, height)
        else:
            dot(axes, MedianInterval(1, float(value), math.nan, math.nan), height, _THEN, hollow=bool(suspect))
    for method, found in zip(now["method"], intervals(now), strict=True):
        dot(axes, found, _METHODS.index(method) + 0.18, _NOW)


def _below(axes: Axes, height: float) -> None:
    """An arrow from the resolution down: what was printed as 0."""
    axes.annotate(
        "",
        (_RESOLUTION_S / 12, height),
        (_RESOLUTION_S, height),
        arrowprops={"arrowstyle": "-|>", "color": _THEN[0], "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0},
        gid="below",
    )


def _title(published: pd.DataFrame, seconds: pd.DataFrame) -> str:
    both = seconds[seconds["filesystem"].isin(published["filesystem"])]
    quick = both.loc[both["method"] == "posix_fallocate", "median"]
    slow = both.loc[both["method"] != "posix_fallocate", "median"]
    if quick.empty or slow.empty:
        return "2009: asking the file system took no time that could be told, writing took 13 to 19 s"
    factor = float(slow.median() / quick.median())
    if factor <= 1:
        return "In 2009 asking the file system beat writing; here, today, it does not"
    return f"In 2009 and today asking the file system beats writing, today by a factor of {ticks.round_text(factor)}"


def _words(published: pd.DataFrame, seconds: pd.DataFrame, counts: pd.DataFrame, size_text: str, where: str) -> str:
    parts = [
        f"On {name}, {'; '.join(_method_words(name, method, published, seconds, counts) for method in _METHODS)}."
        for name in sorted(published["filesystem"].unique())
    ]
    lay = f" {where}" if where else ""
    sizes = (
        f"A file of 1 GiB in 2009, of {size_text} today{lay}." if size_text else "A file of 1 GiB in 2009; nothing measured today."
    )
    return f"{sizes} {' '.join(parts)} The 4 KiB and 8 KiB figures of 2009 are suspect."


def _method_words(name: str, method: str, published: pd.DataFrame, seconds: pd.DataFrame, counts: pd.DataFrame) -> str:
    then, time, count = (
        table[(table["filesystem"] == name) & (table["method"] == method)] for table in (published, seconds, counts)
    )
    said = [f"in 2009 about {value:g} s" for value in then["approx_s"]]
    said += [f"{value:g} extents" for value in then["fragments"].dropna()]
    said += [f"today {duration_text(found.median)}" for found in intervals(time)]
    said += [f"{found.median:g} extents" for found in intervals(count)]
    return f"{method}: {', '.join(said)}"
