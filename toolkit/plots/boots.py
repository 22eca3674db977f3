"""Figures of boots: when the guests of each configuration were ready, every boot to be seen, those that never were as such."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from toolkit.analysis.boots import boots as analysed
from toolkit.analysis.boots import times_of
from toolkit.analysis.survival import Times, curve
from toolkit.plots import axes as ticks
from toolkit.plots import style
from toolkit.units import duration_text

__all__ = ["MOST_LINES", "WHAT", "beyond_mark", "boots", "boots_curve", "in_order", "median_row", "names_of"]

#: More lines than this cannot be told apart; the controls choose which.
MOST_LINES = 7
#: Letters of a line of a configuration's name, which leave the axis two thirds of the width; and of a name in a title.
_NAME_CHARACTERS, _TITLE_CHARACTERS = 36, 44
#: What a boot tells, in words: of the axis, and of a sentence.
WHAT = {
    "crng_ready_s": ("time from boot to 'crng init done'", "ready", "were ready"),
    "longest_wait_s": ("longest wait of a getrandom in early user space", "waited for", "had it returned"),
    "guest_cpu_s": ("processor time that the guest used", "used", "tell it"),
    "feeder_cpu_s": ("processor time that the feeder used", "used", "tell it"),
    "qemu_cpu_s": ("processor time that QEMU used on the host", "used", "tell it"),
}
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":")
_BOOT, _MEDIAN, _BEYOND = style.SKY, style.BLUE, style.VERMILLION


def boots(frame: pd.DataFrame, by: str | Sequence[str] = "cell", quantity: str = "crng_ready_s") -> style.AltFigure:
    """Every boot of each configuration, and the median with its interval; the quickest configuration on top.

    Parameters
    ----------
    frame : DataFrame
        Table ``boots``.
    by : str or sequence of str
        The columns that make a configuration.
    quantity : str
        What is shown, as :func:`toolkit.boots` takes it. A boot that was not ready within its budget is an open triangle there.
    """
    table = in_order(analysed(frame, by, quantity))
    told = table[table["n"] > 0]
    without = _without(table)
    if told.empty:
        return style.says(f"No boot in this selection tells a {WHAT[quantity][0]}. {without}".strip())
    names, row_of = names_of(told, by), names_of(frame, by)
    times = times_of(frame, quantity).assign(name=row_of).dropna(subset=["seconds"])
    with style.drawing():
        figure, grid = style.new_figure(0.75 + 0.34 * len(told))
        axes = grid[0][0]
        rng = np.random.default_rng(0)
        for place, (name, row) in enumerate(zip(names, told.itertuples(index=False), strict=True)):
            single = times[times["name"] == name]
            _every_boot(axes, single, place, rng)
            median_row(axes, row, place)
            axes.text(1.015, place, _beside(row), transform=axes.get_yaxis_transform(), va="center", fontsize=9.5, gid="said")
        ticks.duration_ticks(axes, "x", times["seconds"], room=4)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * 1.12 if axes.get_xscale() == "log" else high)
        axes.set_yticks(range(len(told)), [_two_lines(name) for name in names])
        if any(len(name) > _NAME_CHARACTERS for name in names):
            axes.tick_params(axis="y", labelsize=8.5)
        axes.set_ylim(len(told) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        for place in range(0, len(told), 2):
            axes.axhspan(place - 0.5, place + 0.5, color="#F4F4F4", zorder=0, linewidth=0)
        axes.set_xlabel(WHAT[quantity][0])
        title = _title(told, names, quantity)
        words = f"{title}. {_words(told, names)} {without}"
        note = f"Beside each: the median, and how many of the boots {WHAT[quantity][2]}. Line: 95 % interval, from three boots on."
        return style.finish(figure, title, words, f"{note} {without}", _entries(told))


def boots_curve(frame: pd.DataFrame, by: str | Sequence[str] = "cell", quantity: str = "crng_ready_s") -> style.AltFigure:
    """The share of the boots that were ready by then, a line a configuration, after Kaplan and Meier.

    Parameters
    ----------
    frame : DataFrame
        Table ``boots``.
    by : str or sequence of str
        The columns that make a configuration; at most :data:`MOST_LINES` are drawn.
    quantity : str
        As of :func:`boots`. A line that ends below all with an open triangle: the rest were not ready within their budget.
    """
    table = in_order(analysed(frame, by, quantity))
    told = table[table["n"] > 0]
    without = _without(table)
    if told.empty:
        return style.says(f"No boot in this selection tells a {WHAT[quantity][0]}. {without}".strip())
    names, row_of = names_of(told, by), names_of(frame, by)
    shown = names[:MOST_LINES]
    seen = style.looks(shown)
    times = times_of(frame, quantity).assign(name=row_of).dropna(subset=["seconds"])
    with style.drawing():
        figure, grid = style.new_figure(3.3)
        axes = grid[0][0]
        drawn = times[times["name"].isin(shown)]
        ticks.duration_ticks(axes, "x", drawn["seconds"])
        for place, name in enumerate(shown):
            single = drawn[drawn["name"] == name]
            at, share = curve(Times.of(single["seconds"], single["seen"]))
            colour, marker = seen[name]
            axes.plot(
                np.r_[at[:1], at], np.r_[0.0, share], color=colour, linestyle=_LINES[place % 4], drawstyle="steps-post",
                gid="curve",
            )  # fmt: skip
            rises = np.r_[share[:1] > 0, np.diff(share) > 0]
            axes.plot(at[rises], share[rises], marker, color=colour, markersize=4.5, linestyle="none", gid="rise")
            if share[-1] < 1:
                beyond_mark(axes, float(at[-1]), float(share[-1]), colour)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.set_ylim(-0.03, 1.06)
        axes.set_ylabel("boots")
        axes.set_xlabel(WHAT[quantity][0])
        title = _title(told, names, quantity)
        more = len(names) - len(shown)
        note = "An open triangle: boots that were still waiting then, at the end of their budget. Shares after Kaplan and Meier."
        note += f" {more} more configurations are not drawn: choose them with the controls." if more else ""
        entries: list[Artist] = [
            Line2D(
                [], [], color=seen[name][0], marker=seen[name][1], linestyle=_LINES[place % 4], markersize=6,
                label=style.label(name, _TITLE_CHARACTERS),
            )
            for place, name in enumerate(shown)
        ]  # fmt: skip
        return style.finish(figure, title, f"{title}. {_words(told, names)} {without}", f"{note} {without}", entries)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of medians, the least first, those beyond what was watched after all others."""
    return table.sort_values(["median_s", "beyond_s", "low_s"], kind="stable", na_position="last", ignore_index=True)


def names_of(rows: pd.DataFrame, by: str | Sequence[str]) -> list[str]:
    """The name of each row's group: its values, null left out."""
    columns = [by] if isinstance(by, str) else list(by)
    return [
        " · ".join(str(value) for value in values if not pd.isna(value)) or "(none)"
        for values in rows[columns].itertuples(index=False)
    ]


def median_row(axes: Axes, row: Any, place: float) -> None:
    """A row of :func:`toolkit.boots`: the median as a diamond with its interval; an end that is open runs on as an arrow."""
    median, low, high, beyond = (float(getattr(row, name)) for name in ("median_s", "low_s", "high_s", "beyond_s"))
    is_open = row.high_open
    is_open = not pd.isna(is_open) and bool(is_open)
    if math.isfinite(low) and math.isfinite(high):
        axes.hlines(place, low, high, color=_MEDIAN, linewidth=2.4, gid="interval")
    elif is_open and math.isfinite(low):
        axes.annotate(
            "",
            (1.0, place),
            (low, place),
            xycoords=axes.get_yaxis_transform(),
            textcoords="data",
            arrowprops={"arrowstyle": "-|>", "color": _MEDIAN, "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0},
            gid="open interval",
        )
    if math.isnan(beyond):
        axes.plot([median], [place], "D", color=_MEDIAN, markersize=6.5, zorder=4, gid="median")


def beyond_mark(axes: Axes, at: float, height: float, colour: str = _BEYOND, marker: str = ">") -> None:
    """An open triangle that points on: it was longer than this."""
    axes.plot(
        [at], [height], marker, color=colour, markerfacecolor="white", markersize=7, markeredgewidth=1.4, linestyle="none",
        zorder=5, clip_on=False, gid="beyond",
    )  # fmt: skip


def _two_lines(name: str) -> str:
    """A name in at most two lines; only of a longer one the middle is cut out."""
    lines = textwrap.wrap(style.label(name, 2 * _NAME_CHARACTERS - 4), _NAME_CHARACTERS)
    return "\n".join(lines if len(lines) <= 2 else [style.label(name, _NAME_CHARACTERS)])


def _every_boot(axes: Axes, single: pd.DataFrame, place: int, rng: np.random.Generator) -> None:
    """The boots of a row, moved up and down a little so that equal ones are seen."""
    seen = single[single["seen"].astype(bool)]["seconds"].to_numpy(dtype=float)
    waiting = single[~single["seen"].astype(bool)]["seconds"].to_numpy(dtype=float)
    spread = np.linspace(-0.28, 0.28, len(seen)) if len(seen) > 1 else np.zeros(len(seen))
    axes.plot(seen, place + rng.permutation(spread), "o", color=_BOOT, markersize=4.5, linestyle="none", gid="boot")
    for at, height in zip(waiting, np.linspace(-0.28, 0.28, len(waiting)) if len(waiting) > 1 else [0.0], strict=False):
        beyond_mark(axes, float(at), place + float(height))


def _beside(row: Any) -> str:
    """What stands beside a row: its median in short, and of how many boots."""
    median, beyond = float(row.median_s), float(row.beyond_s)
    said = duration_text(median) if math.isnan(beyond) else f"> {duration_text(beyond)}"
    return f"{said}  ({row.n - row.beyond} of {row.n})"


def _entries(table: pd.DataFrame) -> list[Artist]:
    entries: list[Artist] = [
        Line2D([], [], color=_BOOT, marker="o", linestyle="none", markersize=5, label="boot"),
        Line2D([], [], color=_MEDIAN, marker="D", linewidth=2.4, markersize=6.5, label="median, 95 % interval"),
    ]
    if table["beyond"].sum():
        entries.append(
            Line2D(
                [], [], color=_BEYOND, marker=">", markerfacecolor="white", markeredgewidth=1.4, linestyle="none", markersize=7,
                label="not ready in its budget",
            )
        )  # fmt: skip
    return entries


def _title(table: pd.DataFrame, names: Sequence[str], quantity: str) -> str:
    verb = WHAT[quantity][1]
    quick, slow = table.iloc[0], table.iloc[-1]
    if not math.isnan(float(quick["beyond_s"])):
        return f"No configuration was {verb} within {duration_text(float(quick['beyond_s']))} in more than half of its boots"
    slowest = f"> {duration_text(slow['beyond_s'])}" if math.isnan(slow["median_s"]) else duration_text(float(slow["median_s"]))
    begin = {"ready": "Ready after", "waited for": "Early user space waited", "used": "It used"}[verb]
    if len(table) == 1:
        return f"{begin} {duration_text(float(quick['median_s']))} ({int(quick['n'])} boot{'s' if quick['n'] > 1 else ''})"
    return (
        f"{begin} {duration_text(float(quick['median_s']))} ({style.label(names[0], _TITLE_CHARACTERS)}) "
        f"to {slowest} ({style.label(names[-1], _TITLE_CHARACTERS)})"
    )


def _words(table: pd.DataFrame, names: Sequence[str]) -> str:
    parts = [
        f"{style.label(name, 2 * _NAME_CHARACTERS)}: {said}, {count} boots"
        + (f", {beyond} of them not by the end" if beyond else "")
        for name, said, count, beyond in zip(names, table["median"], table["n"], table["beyond"], strict=True)
    ]
    return f"Median with its 95 % interval: {'; '.join(parts)}."


def _without(table: pd.DataFrame) -> str:
    """What was not booted to an end."""
    failed, left_out = int(table["failed"].sum()), int(table["left_out"].sum())
    said = [f"{failed} boots failed." if failed else "", f"{left_out} were left out: they cannot be had here." if left_out else ""]
    return " ".join(filter(None, said))
