"""Figures of readers at once: the waits of several in one guest over time, and the shares of guests that read one source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from toolkit.analysis.waits import SHARED, shares
from toolkit.analysis.waits import fairness as analysed
from toolkit.analysis.waits import waits as waited
from toolkit.plots import axes as ticks
from toolkit.plots import style
from toolkit.plots.boots import beyond_mark
from toolkit.plots.fragmentation import ordered
from toolkit.plots.rates import limit_words
from toolkit.units import duration_text, rate_text

__all__ = ["drain", "fairness", "since_s"]

#: Points of a reader that a panel can show; of more the longest of each stretch is drawn, so that no wait is lost.
_POINTS = 600
_ROUND = ["run_id", "host", "guest", "boot_id", "repeat"]
_MARKERS = ("o", "D", "s", "^", "v", "P", "X")


def drain(drain_reads: pd.DataFrame, whole: pd.DataFrame | None = None) -> style.AltFigure:
    """How long each read of several readers at once waited, over time; a panel a source, a mark a reader.

    Parameters
    ----------
    drain_reads : DataFrame
        Table ``drain_reads``, of readers that ran at the same time. Repeats lie over each other. A read that had not returned at
        the end is an open triangle at what it had waited by then.
    whole : DataFrame, optional
        Of what ``drain_reads`` are a part: time counts from the first call of a round there.
    """
    known = drain_reads[drain_reads["wait_ns"].notna() & drain_reads["errno"].isna()]
    if known.empty:
        return style.says(f"No read of readers at once is in this selection. {_failures(drain_reads)}".strip())
    table = waited(drain_reads, ["source", "reader"])
    rows = known.assign(
        since=since_s(drain_reads if whole is None else whole).loc[known.index],
        seconds=known["wait_ns"].astype("float64") / 1e9,
        waiting=known["wait_censored"].astype("boolean").fillna(value=False).astype(bool),
    )
    names = ordered(rows["source"], style.SOURCE_LOOKS)
    seen = _reader_looks(rows, names)
    with style.drawing():
        figure, grid = style.new_figure(0.5 + 1.45 * len(names), len(names), 1, sharex=True, sharey=True)
        shown = rows["seconds"].clip(lower=1e-7)
        ticks.duration_ticks(grid[0][0], "y", [*shown, 1.3 * float(shown.max())], room=5)  # also the decade that it all but reaches
        for (axes,), name in zip(grid, names, strict=True):
            part = rows[rows["source"] == name]
            for reader, single in part.groupby("reader", sort=True):
                _reads(axes, single, *seen[name, str(reader)])
            of_source = table[table["source"] == name]
            axes.set_title(f"{style.label(name, 16)}: {_said(of_source)}", fontsize=10)
            axes.tick_params(labelbottom=axes is grid[-1][0])
            axes.set_ylabel("wait")
        first, last = float(rows["since"].min()), float((rows["since"] + rows["seconds"]).max())
        ticks.duration_ticks(grid[0][0], "x", [0.0, last], linear=True)
        if first > 0.2 * last:  # a stretch of time: what is before it is not shown
            grid[0][0].set_xlim(first - 0.05 * (last - first), last + 0.05 * (last - first))
        grid[-1][0].set_xlabel("time since the readers began")
        title = _title(table, known)
        words = " ".join(f"{style.label(row.reader)} of {style.label(row.source)}: {row.wait}." for row in table.itertuples())
        note = f"A point a read, at its call. Waited: that part of a reader's time. {_failures(drain_reads)}"
        entries: list[Artist] = [
            style.mark(style.label(reader), *look, hollow=hollow) for (_, reader), (look, hollow) in seen.items()
        ]
        if rows["waiting"].any():
            entries.append(style.mark("had not returned at the end", style.BLACK, "^", hollow=True))
        return style.finish(figure, title, f"{title}. {words} {_failures(drain_reads)}", note, entries)


def since_s(drain_reads: pd.DataFrame) -> pd.Series:
    """Of each read when it was called, in s since the first call of its round."""
    began = drain_reads.groupby(_ROUND, dropna=False)["t_ns"].transform("min")
    return (drain_reads["t_ns"] - began).astype("float64") / 1e9


def fairness(drain_reads: pd.DataFrame) -> style.AltFigure:
    """The rate of each guest by how many read at once, beside Jain's index of fairness.

    Parameters
    ----------
    drain_reads : DataFrame
        Table ``drain_reads``; the rows of the scenario "fairness" are drawn, as :func:`toolkit.fairness` counts them.
    """
    rows = drain_reads[drain_reads["scenario"] == SHARED]
    if rows.empty:
        return style.says("No guests shared a source of the host in this selection.")
    table = analysed(rows, ["guests_at_once"])
    of_guests = shares(rows)
    counts = [int(count) for count in table["guests_at_once"]]
    places = {count: place for place, count in enumerate(counts)}
    alone = table.loc[table["guests_at_once"] == 1, "all_bytes_per_second"]
    with style.drawing():
        figure, [[left, right]] = style.new_figure(3.1, 1, 2, gridspec_kw={"width_ratios": [1.5, 1.0]})
        for count in counts:
            part = of_guests[of_guests["guests_at_once"] == count]
            for spread, (_, single) in _spread(part.groupby("guest", sort=True)):
                at = [places[count] + spread] * len(single)
                left.plot(at, single["bytes_per_second"], "o", color=style.BLUE, markersize=5.5, linestyle="none", gid="guest")
        if len(alone) and math.isfinite(alone.iloc[0]):
            for count in counts:
                equal = float(alone.iloc[0]) / count
                left.hlines(
                    equal, places[count] - 0.38, places[count] + 0.38, color=style.GREY, linestyle="--", linewidth=1.4, gid="equal"
                )
        for count, row in zip(counts, table.itertuples(index=False), strict=True):
            _index(right, row, places[count])
        highest = float(of_guests["bytes_per_second"].max())
        ticks.rate_ticks(left, "y", [0.0, highest], room=6)
        left.set_ylim(-0.04 * (highest or 1.0), 1.12 * (highest or 1.0))
        right.set_ylim(0.0, 1.06)
        for axes in (left, right):
            axes.set_xticks(range(len(counts)), [str(count) for count in counts])
            axes.set_xlim(-0.5, len(counts) - 0.5)
            axes.grid(visible=False, axis="x")
            axes.set_xlabel("guests at once")
        left.set_ylabel("bytes a second of a guest")
        right.set_ylabel("Jain's index")
        left.set_title("what each guest got", fontsize=10)
        right.set_title("fairness: 1 is equal", fontsize=10)
        title = _fair_title(table)
        words = f"{title}. {' '.join(_fair_sentence(row) for row in table.itertuples(index=False))}"
        note = (
            "A point a guest and repeat. Dashed: what one guest alone got, in equal parts. Diamond: median over repeats, with its "
            "95 % interval; hollow: 1/n, if one guest had all."
        )
        entries: list[Artist] = [
            style.mark("a guest", style.BLUE, "o"),
            Line2D([], [], color=style.GREY, linestyle="--", label="equal parts"),
            style.mark("Jain's index", style.GREEN, "D"),
            style.mark("one has all", style.GREY, "v", hollow=True),
        ]
        return style.finish(figure, title, words, note, entries)


def _reader_looks(rows: pd.DataFrame, names: list[str]) -> dict[tuple[str, str], tuple[style.Look, bool]]:
    """Of each source and reader a colour, a marker, and whether it is hollow: the source's own for the first of its readers."""
    found: dict[tuple[str, str], tuple[style.Look, bool]] = {}
    for name, (colour, marker) in style.looks(names, style.SOURCE_LOOKS).items():
        markers = [marker, *(each for each in _MARKERS if each != marker)]
        readers = sorted(str(reader) for reader in rows.loc[rows["source"] == name, "reader"].unique())
        found |= {
            (name, reader): ((colour, markers[place % len(markers)]), bool(place % 2)) for place, reader in enumerate(readers)
        }
    return found


def _reads(axes: Axes, single: pd.DataFrame, look: style.Look, hollow: bool) -> None:
    colour, marker = look
    returned = _longest(single[~single["waiting"]].sort_values("since"))
    axes.plot(
        returned["since"], returned["seconds"].clip(lower=1e-7), marker, color=colour, markersize=4.5,
        markerfacecolor="white" if hollow else colour, linestyle="none", gid="read",
    )  # fmt: skip
    waiting = single[single["waiting"]]
    for at, wait in zip(waiting["since"], waiting["seconds"], strict=True):
        beyond_mark(axes, float(at), max(float(wait), 1e-7), style.BLACK, "^")


def _longest(reads: pd.DataFrame) -> pd.DataFrame:
    if len(reads) <= _POINTS:
        return reads
    stretch = np.arange(len(reads)) * _POINTS // len(reads)
    return reads.loc[reads["seconds"].groupby(stretch).idxmax()]


def _spread(grouped: Any) -> list[tuple[float, Any]]:
    """The groups of a place beside each other."""
    parts = list(grouped)
    at = np.linspace(-0.26, 0.26, len(parts)) if len(parts) > 1 else [0.0]
    return list(zip([float(each) for each in at], parts, strict=True))


def _index(axes: Axes, row: Any, place: int) -> None:
    if math.isnan(row.jain):
        return
    if math.isfinite(row.jain_low):
        axes.vlines(place, row.jain_low, row.jain_high, color=style.GREEN, linewidth=2.4, gid="interval")
    axes.plot([place], [row.jain], "D", color=style.GREEN, markersize=6.5, linestyle="none", zorder=4, gid="jain")
    if row.guests_at_once > 1:
        axes.plot(
            [place], [1 / row.guests_at_once], "v", color=style.GREY, markerfacecolor="white", markersize=6, linestyle="none",
            gid="worst",
        )  # fmt: skip
    axes.annotate(f"{row.jain:.2f}", (place, row.jain), (9, -4), textcoords="offset points", fontsize=9)


def _said(table: pd.DataFrame) -> str:
    """Of the readers of a source: how much of their time they waited, within what half of their reads came, and the longest."""
    longest = table.sort_values("longest_wait_s", kind="stable").iloc[-1]
    middle = table["wait_median_s"].dropna()
    half = f"half within {duration_text(float(middle.max()))}" if len(middle) else "half not seen to return"
    most = f"{'over ' if bool(longest['longest_open']) else ''}{duration_text(float(longest['longest_wait_s']))}"
    waited = table["waiting_fraction"].dropna()
    share = f"waited {100 * float(waited.max()):.{0 if waited.max() >= 0.1 else 1}f} %; " if len(waited) else ""
    return f"{share}{half}, longest {most}"


def _title(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    known = table[table["longest_wait_s"].notna()].sort_values("longest_wait_s", kind="stable")
    if known.empty:
        return "No read returned"
    slow = known.iloc[-1]
    more = "more than " if bool(slow["longest_open"]) else ""
    limits = rows[["virtio_rng_max_bytes", "virtio_rng_period_ms"]].drop_duplicates()
    limit = f", virtio-rng with {limit_words(*limits.iloc[0])}" if len(limits) == 1 else ""
    return f"The longest wait is {more}{duration_text(float(slow['longest_wait_s']))}: {style.label(slow['source'])}" + (
        f", of {len(table)} readers at once{limit}" if len(table) > 1 else limit
    )


def _fair_title(table: pd.DataFrame) -> str:
    several = table[(table["guests_at_once"] > 1) & table["jain"].notna()]
    if several.empty:
        return "Whether guests share a source fairly cannot be told: none read it at once"
    worst = several.sort_values("jain", kind="stable").iloc[0]
    count = int(worst["guests_at_once"])
    low, high = 100 * float(worst["smallest_share"]) * count, 100 * float(worst["greatest_share"]) * count
    if float(worst["jain"]) >= 0.99:
        return f"Guests that share a source get equal parts of it: Jain's index {float(worst['jain']):.2f} or more"
    return (
        f"Of {count} guests at once one gets {low:.0f} %, another {high:.0f} % of an equal part: Jain's index {worst['jain']:.2f}"
    )


def _fair_sentence(row: Any) -> str:
    said = f"{row.guests_at_once} at once: {rate_text(row.all_bytes_per_second)} together"
    if math.isnan(row.jain):
        return f"{row.guests_at_once} at once: not known, {row.incomplete} repeats lack a guest."
    shares_of_any = f"{100 * row.smallest_share:.0f} % to {100 * row.greatest_share:.0f} %"
    return f"{said}, Jain's index {row.jain:.2f} (median), shares in any repeat from {shares_of_any}."


def _failures(drain_reads: pd.DataFrame) -> str:
    failed = int(drain_reads["errno"].notna().sum())
    return f"{failed} reads failed." if failed else ""
