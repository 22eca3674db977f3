"""Figures of boots: when the guests of each configuration were ready, every boot to be seen, those that never were as such.

Configurations are called as :mod:`toolkit.analysis.configurations` calls them, and apart by what their early user space asked for.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from toolkit.analysis.boots import boots as analysed
from toolkit.analysis.boots import times_of
from toolkit.analysis.configurations import named, where_words
from toolkit.analysis.stats import FEWEST
from toolkit.analysis.survival import Times, curve
from toolkit.plots import axes as ticks
from toolkit.plots import style
from toolkit.units import duration_text

__all__ = ["AT_0", "BEYOND_WORDS", "MOST_LINES", "WHAT", "beyond_mark", "boots", "boots_curve", "in_order", "mark_0", "median_row"]

#: More lines than this cannot be told apart in one panel.
MOST_LINES = 8
#: Letters of a line of a configuration's name, and lines: they hold the longest that a plan can make.
_NAME_CHARACTERS, _NAME_LINES = 30, 4
#: Up to this ratio of the times an axis is linear.
_LINEAR = 20.0
#: What a boot tells, in words: of the axis, and of a sentence.
WHAT = {
    "crng_ready_s": ("time from boot to 'crng init done'", "were ready"),
    "longest_wait_s": ("longest wait for random bytes in early user space", "had it ended"),
    "guest_cpu_s": ("processor time that the guest used", "tell it"),
    "feeder_cpu_s": ("processor time that the feeder used", "tell it"),
    "qemu_cpu_s": ("processor time that QEMU used on the host", "tell it"),
}
#: What a boot is whose time had not ended, in words.
BEYOND_WORDS = {"crng_ready_s": "not ready in its budget", "longest_wait_s": "still waiting at the end"}
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":")
_BOOT, _MEDIAN, _BEYOND = style.SKY, style.BLUE, style.VERMILLION
#: What makes a row: one of these within one of those.
_BY = ["asks", "configuration"]
_BEGIN = {"crng_ready_s": "ready after ", "longest_wait_s": "the longest wait is "}
#: What the marks of :func:`mark_0` mean.
AT_0 = "At the left edge, pointing left: 0, before the kernel's clock ran."
#: The slowest is named in a title where it takes so many times as long as the quickest.
_FAR = 3.0
_TITLE_CHARACTERS = 44


@dataclass(frozen=True)
class _Panel:
    """What is drawn of the boots that asked for one thing: a row a configuration, the quickest first, and every boot's time."""

    asks: str
    table: pd.DataFrame
    times: pd.DataFrame

    def of(self, name: str) -> pd.DataFrame:
        """The boots of a configuration."""
        return self.times[self.times["configuration"] == name]


def boots(frame: pd.DataFrame, quantity: str = "crng_ready_s") -> style.AltFigure:
    """Every boot of each configuration, and the median with its interval: a panel for each thing asked, the quickest on top.

    Parameters
    ----------
    frame : DataFrame
        Table ``boots``, best of one plan and kernel: see :func:`toolkit.analysis.configurations.named` for the names of rows.
    quantity : str
        What is shown, as :func:`toolkit.boots` takes it. A boot that was not ready within its budget is an open triangle there.
    """
    panels, without = _panels(frame, quantity)
    if not panels:
        return style.says(f"No boot in this selection tells a {WHAT[quantity][0]}. {without}".strip())
    rows = [len(panel.table) for panel in panels]
    labels = [[_wrapped(name) for name in panel.table["configuration"]] for panel in panels]
    lines = max(name.count("\n") + 1 for names in labels for name in names)
    with style.drawing():
        pitch_in = max(0.38, 0.08 + 0.15 * lines)
        figure, grid = style.new_figure(
            0.5 + 0.32 * len(panels) + pitch_in * sum(rows), len(panels), 1, sharex=True, gridspec_kw={"height_ratios": rows}
        )
        rng = np.random.default_rng(0)
        for [axes], panel, names in zip(grid, panels, labels, strict=True):
            _rows(axes, panel, rng)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.tick_params(axis="x", labelbottom=axes is grid[-1][0], length=3 if axes is grid[-1][0] else 0)
            axes.grid(visible=False, axis="y")
            _panel_title(axes, panel)
        _time_axis(grid, panels, quantity, room=5)
        low, high = grid[0][0].get_xlim()
        grid[0][0].set_xlim(low, high * 1.12 if grid[0][0].get_xscale() == "log" else high)
        at_0 = grid[0][0].get_xscale() == "log" and _at_0(grid, panels)
        title = _title(frame, panels, quantity)
        note = f"{AT_0} " if at_0 else ""
        note += f"Beside each row: the median, and how many of the boots {WHAT[quantity][1]}."
        return style.finish(figure, title, f"{title}. {_words(panels)} {without}", f"{note} {without}", _entries(panels, quantity))


def boots_curve(frame: pd.DataFrame, quantity: str = "crng_ready_s") -> style.AltFigure:
    """The share of the boots that were ready by then, after Kaplan and Meier: a panel for each thing asked, a line a configuration.

    Parameters
    ----------
    frame : DataFrame
        Table ``boots``; at most :data:`MOST_LINES` configurations are drawn in a panel.
    quantity : str
        As of :func:`boots`. A line that ends below all with an open triangle: the rest were not ready within their budget.
    """
    panels, without = _panels(frame, quantity)
    if not panels:
        return style.says(f"No boot in this selection tells a {WHAT[quantity][0]}. {without}".strip())
    shown = [list(panel.table["configuration"])[:MOST_LINES] for panel in panels]
    names = list(dict.fromkeys(name for most in sorted(shown, key=len, reverse=True) for name in most))
    seen = _looks(names, shown)
    dashes = {name: _LINES[place % len(_LINES)] for place, name in enumerate(names)}
    # A panel is as high as its legend is.
    lines = [max(6.5, 1.0 + sum(_wrapped(name).count("\n") + 1.25 for name in most)) for most in shown]
    with style.drawing():
        figure, grid = style.new_figure(
            0.5 + 0.32 * len(panels) + 0.175 * sum(lines), len(panels), 1, sharex=True, gridspec_kw={"height_ratios": lines}
        )
        for [axes], panel, most in zip(grid, panels, shown, strict=True):
            for name in most:
                _curve(axes, panel.of(name), seen[name], dashes[name])
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
            axes.set_ylim(-0.05, 1.08)
            axes.set_ylabel("boots")
            _panel_title(axes, panel)
            entries = [
                Line2D([], [], color=seen[name][0], marker=seen[name][1], linestyle=dashes[name], markersize=5.5,
                       label=_wrapped(name))
                for name in most
            ]  # fmt: skip
            axes.legend(handles=entries, loc="upper left", bbox_to_anchor=(1.01, 1.06), borderaxespad=0.0, labelspacing=0.4)
        _time_axis(grid, panels, quantity, room=5)
        title = _title(frame, panels, quantity)
        more = sum(len(panel.table) - len(most) for panel, most in zip(panels, shown, strict=True))
        note = "An open triangle: boots that were still waiting then, at the end of their budget. Shares after Kaplan and Meier."
        note += f" {more} more configurations are not drawn: the table has them." if more else ""
        return style.finish(figure, title, f"{title}. {_words(panels)} {without}", f"{note} {without}")


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of medians, the least first, those beyond what was watched after all others."""
    return table.sort_values(["median_s", "beyond_s", "low_s"], kind="stable", na_position="last", ignore_index=True)


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
        axes.plot([median], [place], "D", color=_MEDIAN, markersize=6, zorder=4, gid="median")


def beyond_mark(axes: Axes, at: float, height: float, colour: str = _BEYOND, marker: str = ">") -> None:
    """An open triangle that points on: it was longer than this."""
    axes.plot(
        [at], [height], marker, color=colour, markerfacecolor="white", markersize=7, markeredgewidth=1.4, linestyle="none",
        zorder=5, clip_on=False, gid="beyond",
    )  # fmt: skip


def _panels(frame: pd.DataFrame, quantity: str) -> tuple[list[_Panel], str]:
    """What is to be drawn, in the order of what is asked; and the words for boots that came to no end."""
    rows = named(frame)
    table = in_order(analysed(rows.astype({"asks": "str"}), _BY, quantity))
    times = times_of(rows, quantity).join(rows[_BY]).dropna(subset=["seconds"])
    told = table[table["n"] > 0]
    asked = [asks for asks in rows["asks"].cat.categories if (told["asks"] == asks).any()]
    found = [_Panel(asks, told[told["asks"] == asks].reset_index(drop=True), times[times["asks"] == asks]) for asks in asked]
    return found, _without(table)


def _time_axis(grid: Sequence[Sequence[Axes]], panels: Sequence[_Panel], quantity: str, room: int) -> None:
    """The axis that all panels share."""
    seconds = pd.concat([panel.times["seconds"] for panel in panels])
    positive = seconds[seconds > 0]
    linear = positive.empty or float(positive.max() / positive.min()) <= _LINEAR
    ticks.duration_ticks(grid[0][0], "x", seconds, room=room, linear=linear)
    if grid[0][0].get_xscale() == "log":  # the axis begins at a tick, so that what is left of the next can be read
        low, high, least = *grid[0][0].get_xlim(), float(positive.min())
        decade = 10.0 ** math.floor(math.log10(least) + 1e-9)
        grid[0][0].set_xlim(min(low, 0.95 * (3 * decade if least >= 3 * decade else decade)), high)
    grid[-1][0].set_xlabel(WHAT[quantity][0])


def _at_0(grid: Sequence[Sequence[Axes]], panels: Sequence[_Panel]) -> bool:
    """Draw boots whose time is 0, which an axis of decades does not have, at its left edge; say whether there are any."""
    found = False
    for [axes], panel in zip(grid, panels, strict=True):
        for place, name in enumerate(panel.table["configuration"]):
            count = int((panel.of(name)["seconds"] <= 0).sum())
            if count:
                mark_0(axes, place + (np.linspace(-0.3, 0.3, count) if count > 1 else np.zeros(1)))
                found = True
            if panel.table["n"].iloc[place] > 1 and panel.table["median_s"].iloc[place] == 0:
                mark_0(axes, [place], _MEDIAN, "median at 0")
    return found


def mark_0(axes: Axes, heights: Sequence[float] | npt.NDArray[np.float64], colour: str = _BOOT, gid: str = "boot at 0") -> None:
    """Marks for times of 0 at the left edge of an axis of decades, whose limits are set."""
    [marks] = axes.plot(
        np.full(len(heights), axes.get_xlim()[0]), heights, "<", color=colour, markersize=6, linestyle="none", clip_on=False,
        zorder=5, gid=gid,
    )  # fmt: skip
    marks.set_in_layout(False)


def _panel_title(axes: Axes, panel: _Panel) -> None:
    axes.set_title(style.label(panel.asks, 36), fontsize=10.5, loc="left", gid="asks")


def _rows(axes: Axes, panel: _Panel, rng: np.random.Generator) -> None:
    """A panel's rows: the boots, the median from two of them on, and the words beside."""
    row: Any
    for place, row in enumerate(panel.table.itertuples(index=False)):
        _every_boot(axes, panel.of(row.configuration), place, rng)
        if row.n > 1:
            median_row(axes, row, place)
        axes.text(1.015, place, _beside(row), transform=axes.get_yaxis_transform(), va="center", fontsize=9.5, gid="said")
        if place % 2 == 0:
            axes.axhspan(place - 0.5, place + 0.5, color="#F4F4F4", zorder=0, linewidth=0)


def _curve(axes: Axes, single: pd.DataFrame, look: style.Look, dashes: str) -> None:
    at, share = curve(Times.of(single["seconds"], single["seen"]))
    colour, marker = look
    axes.plot(
        np.r_[at[:1], at], np.r_[0.0, share], color=colour, linestyle=dashes, drawstyle="steps-post", linewidth=1.8, gid="curve"
    )
    rises = np.r_[share[:1] > 0, np.diff(share) > 0]
    axes.plot(at[rises], share[rises], marker, color=colour, markersize=5, linestyle="none", gid="rise")
    if share[-1] < 1:
        beyond_mark(axes, float(at[-1]), float(share[-1]), colour)


def _looks(names: Sequence[str], panels: Sequence[Sequence[str]]) -> dict[str, style.Look]:
    """One look a name in all panels; within a panel no colour twice, as long as there are colours."""
    pairs = list(style.looks(str(place) for place in range(max(4 * MOST_LINES, len(names)))).values())
    found: dict[str, style.Look] = {}
    for name in names:
        beside = {other for panel in panels if name in panel for other in panel}
        taken = {found[other][0] for other in beside if other in found}
        free = [pair for pair in pairs if pair not in found.values()] or pairs
        found[name] = next((pair for pair in free if pair[0] not in taken), free[0])
    return found


def _wrapped(name: str) -> str:
    """A name in as many lines as it needs."""
    return "\n".join(textwrap.wrap(style.label(name, _NAME_CHARACTERS * _NAME_LINES), _NAME_CHARACTERS, break_on_hyphens=False))


def _every_boot(axes: Axes, single: pd.DataFrame, place: int, rng: np.random.Generator) -> None:
    """The boots of a row, moved up and down so that equal ones are seen, and beside the median's mark."""
    seen = single[single["seen"].astype(bool)]["seconds"].to_numpy(dtype=float)
    waiting = single[~single["seen"].astype(bool)]["seconds"].to_numpy(dtype=float)
    above, below = (len(seen) + 1) // 2, len(seen) // 2
    spread = np.r_[np.linspace(-0.4, -0.18, above), np.linspace(0.18, 0.4, below)] if len(seen) > 1 else np.zeros(len(seen))
    axes.plot(seen, place + rng.permutation(spread), "o", color=_BOOT, markersize=4.2, linestyle="none", gid="boot")
    for at, height in zip(waiting, np.linspace(-0.36, 0.36, len(waiting)) if len(waiting) > 1 else [0.0], strict=False):
        beyond_mark(axes, float(at), place + float(height))


def _beside(row: Any) -> str:
    """What stands beside a row: its median in short, and of how many boots."""
    median, beyond = float(row.median_s), float(row.beyond_s)
    said = duration_text(median) if math.isnan(beyond) else f"> {duration_text(beyond)}"
    return f"{said}  ({row.n - row.beyond} of {row.n})"


def _entries(panels: Sequence[_Panel], quantity: str) -> list[Artist]:
    table = pd.concat([panel.table for panel in panels])
    entries: list[Artist] = [Line2D([], [], color=_BOOT, marker="o", linestyle="none", markersize=5, label="boot")]
    if (table["n"] > 1).any():
        words = "median, 95 % interval" if (table["n"] >= FEWEST).any() else "median"
        entries.append(Line2D([], [], color=_MEDIAN, marker="D", linewidth=2.4, markersize=6.5, label=words))
    if table["beyond"].sum():
        entries.append(
            Line2D(
                [], [], color=_BEYOND, marker=">", markerfacecolor="white", markeredgewidth=1.4, linestyle="none", markersize=7,
                label=BEYOND_WORDS[quantity],
            )
        )  # fmt: skip
    return entries


def _title(frame: pd.DataFrame, panels: Sequence[_Panel], quantity: str) -> str:
    """The finding: of each thing asked, how long it took, and what never was."""
    kernels = frame["kernel"].dropna().unique()
    whose = f"Kernel {style.label(kernels[0])}: " if len(kernels) == 1 else ""
    first, *others = [f"{style.label(where_words(panel.asks), 60)}, {_took(panel, quantity)}" for panel in panels]
    said = whose + "; ".join([first, *(clause.replace(", ready after ", ", after ", 1) for clause in others)])
    return said[0].upper() + said[1:]


def _took(panel: _Panel, quantity: str) -> str:
    ready, never = panel.table[panel.table["median_s"].notna()], panel.table[panel.table["median_s"].isna()]
    said = []
    if len(ready):
        quick, slow = float(ready["median_s"].min()), float(ready["median_s"].max())
        words = (
            duration_text(quick)
            if duration_text(quick) == duration_text(slow)
            else f"{duration_text(quick)} to {duration_text(slow)}"
        )
        slowest = f" ({style.label(ready.iloc[-1]['configuration'], _TITLE_CHARACTERS)})" if slow > _FAR * quick else ""
        said.append(f"{_BEGIN.get(quantity, '')}{words}{slowest}")
    if len(never):
        within = duration_text(float(never["beyond_s"].max()))
        late = "never within" if quantity == "crng_ready_s" and (never["n"] == never["beyond"]).all() else "mostly not within"
        who = style.label(never.iloc[0]["configuration"], _TITLE_CHARACTERS) if len(never) == 1 else f"{len(never)} configurations"
        said.append(f"{late} {within}" if len(panel.table) == 1 else f"{late} {within} ({who})")
    return ", ".join(said)


def _words(panels: Sequence[_Panel]) -> str:
    """Every row, for the alternative text."""
    return "Median with its 95 % interval. " + " ".join(
        f"{style.label(panel.asks, 60)}: "
        + "; ".join(
            f"{style.label(name, _NAME_CHARACTERS * _NAME_LINES)}: {said}, {_boots(count)}"
            + (f", {beyond} of them not by the end" if beyond else "")
            for name, said, count, beyond in zip(
                *(panel.table[key] for key in ("configuration", "median", "n", "beyond")), strict=True
            )
        )
        + "."
        for panel in panels
    )


def _boots(count: int) -> str:
    return "1 boot" if count == 1 else f"{count} boots"


def _without(table: pd.DataFrame) -> str:
    """What was not booted to an end."""
    failed, left_out = int(table["failed"].sum()), int(table["left_out"].sum())
    gone = f"{_boots(left_out)} {'was' if left_out == 1 else 'were'} left out: not to be had here."
    return " ".join(filter(None, [f"{_boots(failed)} failed." if failed else "", gone if left_out else ""]))
