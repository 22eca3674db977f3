"""Figures of file allocation: time and pieces by method and file system, and the map of one file.

The published figures of 2009 beside today's are in :mod:`toolkit.plots.published`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from toolkit.analysis.stats import medians
from toolkit.plots import axes as ticks
from toolkit.plots import style
from toolkit.plots.intervals import dot, greatest, intervals, least, span_words
from toolkit.units import bytes_text, duration_text

__all__ = ["METHODS", "allocation_time", "error_name", "extent_map", "ordered", "pieces", "succeeded"]

#: From asking the file system, through writing, to the contrast that allocates nothing.
METHODS = ("posix_fallocate", "fallocate", "mmap_memset", "write_64k", "write_8k", "write_4k", "ftruncate")
_SPARSE = "ftruncate"
_BY = ["size_bytes", "method", "filesystem"]
_ROW_IN = 0.118
#: More extents than the figure has pixels are drawn a pixel at a time: a million lines show no more and take minutes.
_DRAWN_EXTENTS = 20_000
# <asm-generic/errno.h>: 95 has two names, and this is the one that people search for.
_ERRNO_NAMES = {95: "EOPNOTSUPP"}


@dataclass(frozen=True)
class _Quantity:
    """What is drawn along the x axis, and how it is written."""

    column: str
    words: str
    scale: Callable[..., None]
    text: Callable[[float], str]


_TIME = _Quantity("seconds", "time to allocate", ticks.duration_ticks, duration_text)
_EXTENTS = _Quantity("extents", "extents", ticks.count_ticks, ticks.count_text)
_DISCONTINUITIES = _Quantity("discontinuities", "discontinuities", ticks.count_ticks, ticks.count_text)

_DRAWN = "Large mark: median; line: its 95 % interval; small points: single repeats."


def allocation_time(allocations: pd.DataFrame) -> style.AltFigure:
    """Time to allocate a file by method and file system: a mark at the median, its interval, each repeat as a small point.

    Parameters
    ----------
    allocations : DataFrame
        Table ``allocations``.

    Returns
    -------
    AltFigure
        One panel a size. Hollow marks where glibc emulated ``posix_fallocate``; words where the file system refused.
    """
    measured = succeeded(allocations).dropna(subset=["allocate_ns"])
    if measured.empty:
        return style.says("No allocation was timed in this selection.")
    measured = measured.assign(seconds=measured["allocate_ns"].astype("float64") / 1e9)
    table = medians(measured, "seconds", _BY)
    note = f"{_DRAWN} The method alone is timed, without the fsync that follows. Emulated: glibc wrote every block itself."
    return _by_method(allocations, measured, table, _TIME, _time_title(table), note)


def pieces(allocations: pd.DataFrame, value: str = "discontinuities") -> style.AltFigure:
    """Extents, or discontinuities, of the allocated files by method and file system.

    Parameters
    ----------
    allocations : DataFrame
        Table ``allocations``.
    value : {'discontinuities', 'extents'}
        Extents are what the file system lists; discontinuities are the places where a reader must truly go elsewhere.
    """
    quantity = {"extents": _EXTENTS, "discontinuities": _DISCONTINUITIES}[value]
    measured = succeeded(allocations).dropna(subset=[value])
    if measured.empty:
        return style.says(f"No file system in this selection tells the {value} of its files.")
    measured = measured.assign(**{value: measured[value].astype("float64")})
    table = medians(measured, value, _BY)
    note = {
        "extents": "Extents are not fragmentation: the list splits what is contiguous on the disk.",
        "discontinuities": "Counted as filefrag does: where the next byte of the file is not the next byte of the disk.",
    }[value]
    missing = "No mark: the file system cannot say, or its extents cannot be compared."
    return _by_method(allocations, measured, table, quantity, _pieces_title(table, value), f"{note} {_DRAWN} {missing}")


def _time_title(table: pd.DataFrame) -> str:
    real = table[table["method"] != _SPARSE]
    if real.empty:
        return "Making a sparse file takes no time because it allocates nothing"
    largest = real[real["size_bytes"] == real["size_bytes"].max()]
    fast, slow = least(largest), greatest(largest)
    size = bytes_text(float(fast["size_bytes"]))
    quick = f"{duration_text(float(fast['median']))} ({_name(fast)})"
    if float(fast["median"]) == float(slow["median"]):
        return f"Allocating {size} takes {quick}"
    factor = ticks.round_text(float(slow["median"]) / float(fast["median"]))
    return f"Allocating {size} takes from {quick} to {duration_text(float(slow['median']))} ({_name(slow)}), {factor} times as long"


def _pieces_title(table: pd.DataFrame, value: str) -> str:
    worst = greatest(table)
    if float(worst["median"]) == 0:
        return f"No file in this selection has {'an extent' if value == 'extents' else 'a discontinuity'}"
    return f"Most {value}: {ticks.count_text(float(worst['median']))} in {bytes_text(float(worst['size_bytes']))} ({_name(worst)})"


def _name(row: pd.Series) -> str:
    return f"{style.label(row['method'])} on {style.label(row['filesystem'])}"


def _by_method(
    allocations: pd.DataFrame, measured: pd.DataFrame, table: pd.DataFrame, quantity: _Quantity, title: str, note: str
) -> style.AltFigure:
    """Rows by method, file systems one below the other within a row, one panel a size."""
    methods = ordered(allocations["method"], METHODS)
    names = ordered(allocations["filesystem"], style.FILESYSTEM_LOOKS)
    sizes = sorted(int(size) for size in allocations["size_bytes"].unique())
    seen = style.looks(names, style.FILESYSTEM_LOOKS)
    columns = min(len(sizes), 3)
    rows = -(-len(sizes) // columns)
    band_in = max(2.6, len(names) + 1.4) * _ROW_IN
    places = {
        (method, name): row + (place - (len(names) - 1) / 2) / (len(names) + 1.4)
        for row, method in enumerate(methods)
        for place, name in enumerate(names)
    }
    with style.drawing():
        figure, grid = style.new_figure(rows * (0.62 + band_in * len(methods)), rows, columns, sharex=True, sharey=True)
        panels = [axes for row in grid for axes in row]
        for spare in panels[len(sizes) :]:
            spare.set_axis_off()
        quantity.scale(panels[0], "x", measured[quantity.column], room=(7, 5, 3)[columns - 1])
        _bands(panels[0], methods, band_in)
        for axes, size in zip(panels, sizes, strict=False):
            _stripes(axes, len(methods))
            _marks(
                axes, measured[measured["size_bytes"] == size], table[table["size_bytes"] == size], quantity.column, places, seen
            )
            if quantity is _TIME:
                _refusals(axes, allocations[allocations["size_bytes"] == size], places, with_code=columns == 1)
            axes.tick_params(labelbottom=True)
            axes.set_title(bytes_text(size))
        grid[-1][columns // 2 if rows == 1 else 0].set_xlabel(f"{quantity.words} a file")
        entries = style.key(seen)
        if _emulated(measured).any():
            entries.append(style.mark("emulated (hollow)", style.GREY, "o", hollow=True))
        return style.finish(figure, title, f"{title}. {_in_words(table, quantity, methods)}", note, entries)


def _bands(axes: Axes, methods: Sequence[str], band_in: float) -> None:
    four_lines_in = 0.62
    named = {_SPARSE: "ftruncate\n(sparse:\nallocates\nnothing)" if band_in > four_lines_in else "ftruncate (sparse)"}
    axes.set_yticks(range(len(methods)), [named.get(method, style.label(method, 18)) for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)


def _stripes(axes: Axes, count: int) -> None:
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for place in range(0, count, 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#F4F4F4", zorder=0, linewidth=0)


def _marks(
    axes: Axes,
    points: pd.DataFrame,
    table: pd.DataFrame,
    column: str,
    places: dict[tuple[str, str], float],
    seen: dict[str, style.Look],
) -> None:
    hollow = set(zip(points.loc[_emulated(points), "method"], points.loc[_emulated(points), "filesystem"], strict=True))
    for name, repeats in points.groupby("filesystem", observed=True):
        heights = [places[method, str(name)] for method in repeats["method"]]
        colour = seen[str(name)][0]
        axes.plot(repeats[column], heights, "o", color=colour, markersize=2.6, alpha=0.5, linestyle="none", gid="repeat")
    for at, found in zip(zip(table["method"], table["filesystem"], strict=True), intervals(table), strict=True):
        dot(axes, found, places[at], seen[at[1]], hollow=at in hollow)


def _refusals(axes: Axes, allocations: pd.DataFrame, places: dict[tuple[str, str], float], *, with_code: bool) -> None:
    failed = allocations[allocations["errno"].notna()]
    for method, name, code in failed[["method", "filesystem", "errno"]].drop_duplicates().itertuples(index=False):
        why = f": {error_name(code)}" if with_code else ""
        axes.annotate(
            f"{style.label(name, 16)} refused{why}",
            (0.99, places[method, name]),
            xycoords=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=7,
            color=style.GREY,
            gid="refusal",
        )


def error_name(code: int) -> str:
    """The name of an error's number, as people search for it.

    Examples
    --------
    >>> error_name(95), error_name(28)
    ('EOPNOTSUPP', 'ENOSPC')
    """
    return _ERRNO_NAMES.get(code) or errno.errorcode.get(code, f"error {code}")


def _emulated(points: pd.DataFrame) -> pd.Series:
    return points["emulated"].fillna(value=False).astype(bool)


def _in_words(table: pd.DataFrame, quantity: _Quantity, methods: Sequence[str]) -> str:
    said = []
    for size in sorted(table["size_bytes"].unique()):
        part = table[table["size_bytes"] == size]
        spans = [
            f"{style.label(method)} {span_words(part[part['method'] == method], 'filesystem', quantity.text)}" for method in methods
        ]
        said.append(f"{quantity.words.capitalize()} for {bytes_text(float(size))}: {'; '.join(spans)}.")
    return " ".join(said)


def succeeded(allocations: pd.DataFrame) -> pd.DataFrame:
    """The rows whose method did its work: what a refused file holds and how long the refusal took is no result."""
    found: pd.DataFrame = allocations[allocations["errno"].isna()]
    return found


def ordered(found: Iterable[str], known: Iterable[str]) -> list[str]:
    """The names found, once each: those known in their known order, then the others by name."""
    there, first = set(found), list(known)
    return [name for name in first if name in there] + sorted(there - set(first))


def extent_map(extents: pd.DataFrame) -> style.AltFigure:
    """Where each piece of a file lies: position in the file against position on the disk.

    Parameters
    ----------
    extents : DataFrame
        Table ``extents`` of one file; only its lowest layer number is drawn.

    Returns
    -------
    AltFigure
        One rising line is a file in one piece; every step is a jump of the disk's head, or of its address.
    """
    known = extents.dropna(subset=["physical_byte"])
    if known.empty:
        return style.says("The file system does not say where the pieces of this file lie.")
    known = known[(known["layer"] == known["layer"].min()) & (known["file"] == known["file"].iloc[0])].sort_values("logical_byte")
    logical, physical, length = (known[name].to_numpy(dtype="int64") for name in ("logical_byte", "physical_byte", "length_bytes"))
    jumps = _discontinuities(logical, physical, length)
    unwritten = known["flags"].str.contains("unwritten").to_numpy(dtype=bool)
    name = style.label(known["file"].iloc[0], 40)
    # From its first piece on: at 119 GiB all ticks would read the same.
    begin = int(physical.min())
    held, spread = float(length.sum()), float((physical + length).max() - begin)
    title = f"{name}: {ticks.count_text(len(known))} extents, {ticks.count_text(jumps)} discontinuities"
    words = (
        f"Map of the file {name}: {bytes_text(held)} in {ticks.count_text(len(known))} extents with {ticks.count_text(jumps)} "
        f"places where the next extent does not follow on the disk, spread over {bytes_text(spread)} of it; "
        f"{ticks.count_text(int(unwritten.sum()))} extents are unwritten."
    )
    with style.drawing():
        figure, grid = style.new_figure(3.6)
        axes = grid[0][0]
        entries = []
        for chosen, colour, marker, text in ((~unwritten, style.BLUE, "o", "written"), (unwritten, style.ORANGE, "s", "unwritten")):
            if chosen.any():
                _pieces_drawn(axes, logical[chosen], physical[chosen] - begin, length[chosen], colour, marker)
                entries.append(style.mark(text, colour, marker))
        ticks.bytes_ticks(axes, "x", [0, float((logical + length).max())], linear=True)
        ticks.bytes_ticks(axes, "y", [0, spread], linear=True)
        axes.set_xlabel("position in the file")
        axes.set_ylabel(f"position on the disk\n(from {bytes_text(float(begin))} on)")
        note = "One rising line is a file in one piece. Each mark begins an extent; a vertical gap is a discontinuity."
        return style.finish(figure, title, words, note, entries)


def _discontinuities(logical: np.ndarray, physical: np.ndarray, length: np.ndarray) -> int:
    """Where the disk does not go on as the file does; as ``filefrag`` counts, a hole that the disk skips too is none."""
    follows = physical[1:] == physical[:-1] + length[:-1]
    skips_alike = physical[1:] - physical[:-1] == logical[1:] - logical[:-1]
    return int(np.count_nonzero(~(follows | skips_alike)))


def _pieces_drawn(axes: Axes, logical: np.ndarray, physical: np.ndarray, length: np.ndarray, colour: str, marker: str) -> None:
    if len(logical) > _DRAWN_EXTENTS:
        across = (logical - logical.min()) * 1200 // max(1, int(np.ptp(logical)))
        along = (physical - physical.min()) * 800 // max(1, int(np.ptp(physical)))
        _, first = np.unique(across * 1000 + along, return_index=True)
        logical, physical, length = logical[first], physical[first], length[first]
    lines = np.stack([np.stack([logical, physical], axis=1), np.stack([logical + length, physical + length], axis=1)], axis=1)
    axes.add_collection(LineCollection(list(lines.astype("float64")), colors=colour, linewidths=2.0))
    size = 4.0 if len(logical) <= 200 else 1.5
    axes.plot(logical, physical, marker, color=colour, markersize=size, linestyle="none", gid="extent")
