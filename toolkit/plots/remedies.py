"""The figure of remedies: when guests were ready with each, or how long they waited, and what processor time it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from toolkit.analysis.boots import remedies as analysed
from toolkit.analysis.boots import times_of
from toolkit.analysis.configurations import asks_words, where_words
from toolkit.analysis.stats import FEWEST
from toolkit.plots import axes as ticks
from toolkit.plots import style
from toolkit.plots.boots import AT_0, BEYOND_WORDS, WHAT, beyond_mark, mark_0, median_row
from toolkit.units import duration_text

__all__ = ["remedies"]

_NAME_CHARACTERS = 24
#: Of each time: of its axis, of who has least of it, of what has it, and what less and more of it are called.
_WORDS = {
    "crng_ready_s": ("time from boot to ready", "ready soonest with", "ready after", "after ", "sooner", "later"),
    "longest_wait_s": ("longest wait in early user space", "waits least with", "waits at most", "", "shorter", "longer"),
}
_UNCLEAR = "unclear"


def remedies(
    frame: pd.DataFrame,
    by: str | Sequence[str] = "remedy",
    cost: str = "guest_cpu_s",
    baseline: str = "none",
    time: str = "crng_ready_s",
) -> style.AltFigure:
    """When guests were ready with each remedy, or how long they waited, and beside it the cost; the quickest on top.

    Parameters
    ----------
    frame : DataFrame
        Table ``boots`` of one plan and kernel.
    by : str or sequence of str
        What makes a row; ``remedy`` must be one of it.
    cost : str
        ``guest_cpu_s``, ``feeder_cpu_s`` or ``qemu_cpu_s``.
    baseline : str
        The remedy that the others are set against.
    time : str
        ``crng_ready_s``, from boot to ready; or ``longest_wait_s``, for which a ``getrandom`` of early user space waited.
    """
    columns = [by] if isinstance(by, str) else list(by)
    table = analysed(frame, columns, baseline, within=(), quantities=(time, cost))
    ready = table[(table["quantity"] == time) & (table["n"] > 0)]
    if ready.empty:
        return style.says(f"No boot with a remedy tells a {WHAT[time][0]} in this selection.")
    ready = ready.sort_values(["median_s", "beyond_s"], kind="stable", ignore_index=True)
    keys = [_key(row, columns) for row in ready.to_dict("records")]
    costs = {_key(row, columns): row for row in table[table["quantity"] == cost].to_dict("records")}
    with style.drawing():
        figure, [[left, right]] = style.new_figure(
            0.95 + 0.42 * len(ready), 1, 2, sharey=True, gridspec_kw={"width_ratios": [1.25, 1]}
        )
        at_0 = [_every_boot(axes, frame, quantity, columns, keys) for axes, quantity in ((left, time), (right, cost))]
        each: Any
        for place, each in enumerate(ready.itertuples(index=False)):
            median_row(left, each, place)
            if at_0[0] and each.median_s == 0:
                mark_0(left, [place], style.BLUE, "median at 0")
            if math.isfinite(each.beyond_s):
                _beyond(left, each, place)
        for place, key in enumerate(keys):
            if key in costs and costs[key]["n"]:
                median_row(right, pd.Series(costs[key]), place)
            else:
                right.text(0.02, place, "none of its own" if cost == "feeder_cpu_s" else "not measured", va="center", fontsize=9,
                           color=style.GREY, transform=right.get_yaxis_transform(), gid="without")  # fmt: skip
        names = [_name(row, columns, baseline, time) for row in ready.to_dict("records")]
        left.set_yticks(range(len(names)), names)
        left.set_ylim(len(names) - 0.5, -0.5)
        for axes in (left, right):
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            for place in range(0, len(names), 2):
                axes.axhspan(place - 0.5, place + 0.5, color="#F4F4F4", zorder=0, linewidth=0)
        left.set_xlabel(_WORDS[time][0])
        right.set_xlabel(WHAT[cost][0].replace("processor time that ", "processor time\nthat "))
        title = _where(frame) + _title(ready, columns, baseline, time)
        title = title[0].upper() + title[1:]
        parts = [_sentence(row, costs.get(key), columns, time) for row, key in zip(ready.to_dict("records"), keys, strict=True)]
        interval = "; line: its 95 % interval" if (ready["n"] >= FEWEST).any() else " (too few boots for an interval)"
        note = f"Diamond: median{interval}. {_costs_of(frame)} Against: {baseline}."
        note += f" {_UNCLEAR.capitalize()}: its 95 % interval does not tell it from no change." * any(
            _UNCLEAR in name for name in names
        )
        note += f" {AT_0}" * any(at_0)
        return style.finish(figure, title, f"{title}. {' '.join(parts)}", note, _entries(ready, time))


def _costs_of(frame: pd.DataFrame) -> str:
    """Over which time costs are: one for all boots, as plans have them since costs are compared, or what each was watched for."""
    watched_s = frame.groupby("remedy")["watched_s"].median().astype("float64").dropna()
    if len(watched_s) and watched_s.max() <= 1.1 * watched_s.min():
        return f"Costs of the first {duration_text(float(watched_s.median()))} after boot."
    return "Costs are of unlike times, and not to be compared: see watched_s."


def _beyond(axes: Axes, row: Any, place: int) -> None:
    """The words for a median that lies beyond what was watched, before the row's first mark."""
    at = row.low_s if math.isfinite(row.low_s) else row.beyond_s
    words = f"> {duration_text(float(row.beyond_s))}"
    axes.annotate(words, (at, place), (-9, 0), textcoords="offset points", ha="right", va="center", fontsize=9, gid="said")


def _key(row: Any, columns: Sequence[str]) -> tuple[object, ...]:
    return tuple(None if pd.isna(row[name]) else row[name] for name in columns)


def _every_boot(axes: Axes, frame: pd.DataFrame, quantity: str, columns: Sequence[str], keys: Sequence[tuple[object, ...]]) -> bool:
    """Every boot of each row, and the axis; gives whether there are times of 0 that an axis of decades does not have."""
    times = times_of(frame, quantity).join(frame[list(columns)]).dropna(subset=["seconds"])
    found = times.to_dict("records")
    heights: list[tuple[float, Any]] = []
    for place, key in enumerate(keys):
        single = [row for row in found if _key(row, columns) == key]
        # Below the median, and none on another.
        heights += [(place + 0.12 + 0.24 * number / max(len(single) - 1, 1), row) for number, row in enumerate(single)]
    for height, row in heights:
        if row["seen"]:
            axes.plot([row["seconds"]], [height], "o", color=style.SKY, markersize=4, linestyle="none", gid="boot")
        else:
            beyond_mark(axes, float(row["seconds"]), height)
    ticks.duration_ticks(axes, "x", times["seconds"], room=4)
    if axes.get_xscale() != "log":
        return False
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 1.3)
    zero = [height for height, row in heights if row["seconds"] <= 0]
    if zero:
        mark_0(axes, zero)
    return bool(zero)


def _name(row: Any, columns: Sequence[str], baseline: str, time: str) -> str:
    """A row's name, and below it what it changes against the baseline."""
    name = style.label(" · ".join(str(row[name]) for name in columns if not pd.isna(row[name])), _NAME_CHARACTERS)
    return f"{name}\n{_change(row, time)}" if row["remedy"] != baseline else f"{name}\n(the others against it)"


def _change(row: Any, time: str) -> str:
    """What a remedy changed; a bound is said only where it tells the direction: "at most 5 s later" may also be sooner."""
    change, at_most, at_least = (float(row[name]) for name in ("difference_s", "at_most_s", "at_least_s"))
    *_, less, more = _WORDS[time]
    if change == 0:
        return "no change"
    if math.isfinite(change):
        size = f"{duration_text(abs(change))} {less if change < 0 else more}"
    elif at_most < 0:
        size = f"at least {duration_text(-at_most)} {less}"
    elif at_least > 0:
        size = f"at least {duration_text(at_least)} {more}"
    else:
        return "not known"
    return size if pd.isna(row["differs"]) or row["differs"] else f"{size} ({_UNCLEAR})"


def _where(frame: pd.DataFrame) -> str:
    """What early user space asked for, before a title; nothing where it asked for several things."""
    asked = frame["asked"].dropna().unique()
    return f"{style.label(where_words(asks_words(asked[0])), 60)}, " if len(asked) == 1 else ""


def _title(ready: pd.DataFrame, columns: Sequence[str], baseline: str, time: str) -> str:
    others = ready[(ready["remedy"] != baseline) & ready["median_s"].notna()]
    own = ready[ready["remedy"] == baseline]
    _, least, _, before, *_ = _WORDS[time]
    if others.empty:
        return "no remedy made the guests ready in more than half of their boots"
    best: Any = others.iloc[0]
    name = style.label(" · ".join(str(best[name]) for name in columns if not pd.isna(best[name])), _NAME_CHARACTERS)
    against = f", with {baseline} {before}{_short(own.iloc[0])}" if len(own) == 1 else ""
    return f"{least} {name}: {before}{duration_text(float(best['median_s']))}{against}"


def _short(row: Any) -> str:
    return duration_text(float(row["median_s"])) if math.isnan(row["beyond_s"]) else f"more than {duration_text(row['beyond_s'])}"


def _sentence(row: Any, cost: Any, columns: Sequence[str], time: str) -> str:
    name = style.label(" · ".join(str(row[name]) for name in columns if not pd.isna(row[name])), _NAME_CHARACTERS)
    change = "" if pd.isna(row["baseline_median"]) else f", {_change(row, time)}"
    paid = f", cost {cost['median']}" if cost is not None and cost["n"] else ""
    return f"{name}: {_WORDS[time][2]} {row['median']}, {row['n'] - row['beyond']} of {row['n']} boots{change}{paid}."


def _entries(ready: pd.DataFrame, time: str) -> list[Artist]:
    words = "median, 95 % interval" if (ready["n"] >= FEWEST).any() else "median"
    entries: list[Artist] = [
        style.mark("boot", style.SKY, "o"),
        Line2D([], [], color=style.BLUE, marker="D", linewidth=2.4, markersize=6.5, label=words),
    ]
    if ready["beyond"].sum():
        entries.append(style.mark(BEYOND_WORDS[time], style.VERMILLION, ">", hollow=True))
    return entries
