"""Figures of rates behind a limit: measured against configured, and how the bytes came over time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from toolkit.analysis.rates import TOLERANCE
from toolkit.analysis.rates import bursts as resolved
from toolkit.analysis.rates import rates as analysed
from toolkit.plots import axes as ticks
from toolkit.plots import style
from toolkit.units import bytes_text, duration_text, rate_text

__all__ = ["MOST_SERIES", "bursts", "limit_words", "limits"]

#: More panels than this do not fit on a page; the controls choose which.
MOST_SERIES = 6
_SERIES = ["run_id", "host", "guest", "boot_id", "source", "block_bytes"]
#: By whether the limit holds: colour and marker, and the words for it.
_LOOKS: dict[str, tuple[style.Look, bool, str]] = {
    "holds": ((style.BLUE, "o"), False, "within 5 %"),
    "off": ((style.VERMILLION, "X"), False, "off by more"),
    "open": ((style.GREY, "s"), True, "cannot be told"),
}
#: A measured rate off by more than this is drawn at the edge of the panel, with its number beside it.
_EDGE = 0.2


def limits(source_reads: pd.DataFrame, rng_state: pd.DataFrame) -> style.AltFigure:
    """The rate measured against the rate configured, and below it their ratio with the 5 % that it may be off.

    Parameters
    ----------
    source_reads : DataFrame
        Table ``source_reads``; reads of /dev/hwrng are looked at, as :func:`toolkit.rates` does.
    rng_state : DataFrame
        Table ``rng_state``, with the limits.
    """
    table = analysed(source_reads, rng_state)
    limited = table[table["configured_bytes_per_second"].notna()]
    told = limited[limited["bytes_per_second"] > 0].sort_values("configured_bytes_per_second", ignore_index=True)
    left_out = _left_out(limited)
    if told.empty:
        return style.says(f"No rate behind a known limit was measured in this selection. {left_out}".strip())
    told = told.assign(at=_beside_each_other(told["configured_bytes_per_second"]))
    kinds = told["holds"].map({True: "holds", False: "off"}).astype("object").where(told["holds"].notna(), "open")
    configured = told["configured_bytes_per_second"].to_numpy(dtype=float)
    with style.drawing():
        figure, (above, below) = style.new_figure(4.6, 2, 1, sharex=True, gridspec_kw={"height_ratios": [1.5, 1.0]})
        _against(above[0], told, kinds)
        _ratio(below[0], told, kinds)
        edges = [configured.min() / 1.5, configured.max() * 1.5]
        ticks.rate_ticks(below[0], "x", edges if max(edges) / min(edges) >= 10 else [min(edges) / 3, max(edges) * 3])
        below[0].set_xlabel("rate configured: max-bytes a period")
        figure.align_ylabels([above[0], below[0]])
        title = _title(told)
        words = f"{title}. {' '.join(_sentence(row) for row in told.itertuples(index=False))} {left_out}"
        note = f"Line: configured is measured. Bars: 95 % interval over periods; band: 5 % below and above. {left_out}"
        entries: list[Artist] = [
            style.mark(said, *look, hollow=hollow) for kind, (look, hollow, said) in _LOOKS.items() if (kinds == kind).any()
        ]
        return style.finish(figure, title, words, note, entries)


def bursts(source_reads: pd.DataFrame, rng_state: pd.DataFrame) -> style.AltFigure:
    """The bytes that had come by then, as steps, beside the straight line of the rate configured; a panel a series.

    Parameters
    ----------
    source_reads, rng_state : DataFrame
        As of :func:`limits`; at most :data:`MOST_SERIES` series of reads are drawn.
    """
    table = analysed(source_reads, rng_state).sort_values("configured_bytes_per_second", kind="stable", ignore_index=True)
    came = resolved(source_reads)
    drawn = table[table["read_bytes"] > 0]
    if drawn.empty:
        return style.says("No byte of /dev/hwrng came in this selection.")
    parts = dict(list(came.groupby(_SERIES, dropna=False, sort=False)))
    shown = drawn.head(MOST_SERIES)
    columns = min(len(shown), 2)
    with style.drawing():
        rows = -(-len(shown) // columns)
        figure, grid = style.new_figure(0.3 + (3.0 if columns == 1 else 1.95) * rows, rows, columns)
        panels = [axes for row in grid for axes in row]
        for spare in panels[len(shown) :]:
            spare.set_axis_off()
        for axes, (_, row) in zip(panels, shown.iterrows(), strict=False):
            _steps(axes, row, _part(parts, row), 7 if columns == 1 else 4)
        for row_of in grid:
            row_of[0].set_ylabel("bytes given")
        for axes in grid[-1][: len(shown) - columns * (rows - 1)]:
            axes.set_xlabel("time since the first read")
        title = _bursts_title(drawn)
        note = "Steps: bytes come in bursts, a period each. Dotted: the limit's own line, from the first burst on."
        if len(drawn) > len(shown):
            note += f" {len(drawn) - len(shown)} more series are not drawn: choose them with the controls."
        per = " ".join(_sentence(row) for row in shown.itertuples(index=False))
        entries: list[Artist] = [
            Line2D([], [], color=style.BLUE, drawstyle="steps-post", label="bytes given"),
            Line2D([], [], color=style.VERMILLION, linestyle=":", linewidth=2.0, label="limit configured"),
        ]
        return style.finish(figure, title, f"{title}. {per}", note, entries)


def limit_words(max_bytes: object, period_ms: object) -> str:
    """A limit in words.

    Examples
    --------
    >>> limit_words(1024, 1000), limit_words(None, None)
    ('1,024 B / 1,000 ms', 'no limit')
    """
    if pd.isna(max_bytes) or pd.isna(period_ms):  # type: ignore[call-overload]
        return "no limit"
    return f"{max_bytes:,} B / {period_ms:,} ms"


def _against(axes: Axes, told: pd.DataFrame, kinds: pd.Series) -> None:
    edges = np.array([told["configured_bytes_per_second"].min() / 4, told["configured_bytes_per_second"].max() * 4])
    axes.plot(edges, edges, color=style.GREY, linewidth=1.2, gid="identity")
    for kind, (look, hollow, _) in _LOOKS.items():
        part = told[kinds == kind]
        _marks(axes, part["at"], part["bytes_per_second"], look, hollow=hollow)
    measured = told["bytes_per_second"].to_numpy(dtype=float)
    values = [*measured, *told["configured_bytes_per_second"]]
    low, high = min(values) / 1.5, max(values) * 1.5
    ticks.rate_ticks(axes, "y", [low, high] if high / low >= 10 else [low / 3, high * 3], room=6)
    axes.set_ylabel("rate measured")


def _ratio(axes: Axes, told: pd.DataFrame, kinds: pd.Series) -> None:
    axes.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color="#DDEEF8", linewidth=0, zorder=0, gid="band")
    axes.axhline(1.0, color=style.GREY, linewidth=1.2, gid="identity")
    seen = told["ratio"].clip(1 - _EDGE, 1 + _EDGE)
    for kind, (look, hollow, _) in _LOOKS.items():
        part = told[kinds == kind]
        inside = part[part["ratio_low"].notna()]
        axes.vlines(
            inside["at"], inside["ratio_low"].clip(1 - _EDGE), inside["ratio_high"].clip(upper=1 + _EDGE),
            color=look[0], linewidth=2.2, gid="interval",
        )  # fmt: skip
        _marks(axes, part["at"], seen[part.index], look, hollow=hollow)
    for at, ratio, height in zip(told["at"], told["ratio"], seen, strict=True):
        if ratio != height:
            side = -14 if ratio > 1 else 8
            axes.annotate(
                f"× {ticks.round_text(float(ratio))}", (at, height), (0, side), textcoords="offset points", ha="center", fontsize=9
            )
    axes.set_ylim(1 - 1.15 * _EDGE, 1 + 1.15 * _EDGE)
    axes.set_yticks([0.8, 0.9, 1.0, 1.1, 1.2])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}".replace("%", " %")))
    axes.set_ylabel("measured by\nconfigured")


def _beside_each_other(configured: pd.Series) -> pd.Series:
    """Where each is drawn: series of one limit beside each other, by a hair on an axis of decades."""
    each = configured.groupby(configured).cumcount() - (configured.groupby(configured).transform("size") - 1) / 2
    return configured.astype("float64") * 1.12**each


def _marks(axes: Axes, x: pd.Series, y: pd.Series, look: style.Look, *, hollow: bool) -> None:
    colour, marker = look
    axes.plot(
        x, y, marker, color=colour, markerfacecolor="white" if hollow else colour, markersize=7, markeredgewidth=1.3,
        linestyle="none", zorder=4, gid="rate",
    )  # fmt: skip


def _steps(axes: Axes, row: pd.Series, came: pd.DataFrame, room: int) -> None:
    """Each burst rises from its first arrival to its last; between bursts nothing comes."""
    total = came["read_bytes"].astype("float64").cumsum().to_numpy()
    before = np.r_[0.0, total[:-1]]
    begin, end = came["begin_s"].to_numpy(dtype=float), came["end_s"].to_numpy(dtype=float)
    at = np.column_stack((begin, begin, end)).ravel()
    first = np.where(came["reads"] > 1, before, total)  # of a burst in one read all bytes come at once
    axes.plot(np.r_[0.0, at], np.r_[0.0, np.column_stack((before, first, total)).ravel()], color=style.BLUE, gid="given")
    rate = float(row["configured_bytes_per_second"])
    if math.isfinite(rate):
        axes.plot([begin[0], end[-1]], [0.0, rate * (end[-1] - begin[0])], ":", color=style.VERMILLION, linewidth=2.0, gid="limit")
    ticks.duration_ticks(axes, "x", [0.0, end[-1]], linear=True, room=room)
    ticks.bytes_ticks(axes, "y", [0.0, max(total[-1], 1.0)], room=5, linear=True)
    limit = limit_words(row["virtio_rng_max_bytes"], row["virtio_rng_period_ms"])
    measured = float(row["bytes_per_second"])
    axes.set_title(f"{limit}: {rate_text(measured)}" if math.isfinite(measured) else f"{limit}: rate not known", fontsize=10)


def _part(parts: dict[Any, pd.DataFrame], row: pd.Series) -> pd.DataFrame:
    """The bursts of a series; null is no key that equals itself."""
    wanted = [None if pd.isna(row[name]) else row[name] for name in _SERIES]
    for key, part in parts.items():
        if [None if pd.isna(value) else value for value in key] == wanted:
            return part
    raise KeyError(wanted)


def _sentence(row: Any) -> str:
    limit = limit_words(row.virtio_rng_max_bytes, row.virtio_rng_period_ms)
    measured = "rate not known" if math.isnan(row.bytes_per_second) else f"measured {rate_text(row.bytes_per_second)}"
    ratio = "" if math.isnan(row.ratio) else f", {100 * row.ratio:.1f} % of the limit"
    burst = (
        "" if math.isnan(row.burst_bytes) else f" in bursts of {bytes_text(row.burst_bytes)} every {duration_text(row.period_s)}"
    )
    why = "" if pd.isna(row.why) else f" ({row.why})"
    return f"{limit}: {measured}{burst}{ratio}{why}."


def _title(told: pd.DataFrame) -> str:
    holds, judged = int(told["holds"].fillna(value=False).sum()), int(told["holds"].notna().sum())
    slow, fast = (rate_text(value) for value in told["configured_bytes_per_second"].agg(["min", "max"]))
    span = f"from {slow} to {fast}" if slow != fast else f"of {slow}"
    if not judged:
        return f"Whether the limits {span} hold cannot be told"
    if holds == len(told):
        return f"Every limit {span} holds within 5 %" if holds > 1 else f"The limit {span} holds within 5 %"
    worst = told.assign(off=(told["ratio"] - 1).abs()).sort_values("off", kind="stable").iloc[-1]
    limit = limit_words(worst["virtio_rng_max_bytes"], worst["virtio_rng_period_ms"])
    return f"{holds} of {len(told)} limits {span} hold within 5 %; farthest off: {limit}, at {100 * float(worst['ratio']):.0f} %"


def _bursts_words(row: Any) -> str:
    return f"bursts of {bytes_text(float(row.burst_bytes))} every {duration_text(float(row.period_s))}"


def _bursts_title(drawn: pd.DataFrame) -> str:
    limited = drawn[drawn["period_s"].notna() & drawn["configured_bytes_per_second"].notna()]
    if len(limited):
        row: Any = limited.iloc[0]
        what = limit_words(row["virtio_rng_max_bytes"], row["virtio_rng_period_ms"])
        return f"A limit of {what} gives {_bursts_words(row)}"
    if drawn["bytes_per_second"].notna().any():
        return f"Bytes came at up to {rate_text(float(drawn['bytes_per_second'].max()))}, without a limit that is known"
    return "Too few bytes came to tell a rate"


def _left_out(limited: pd.DataFrame) -> str:
    without = limited[~(limited["bytes_per_second"] > 0)]
    said = [
        f"{limit_words(row.virtio_rng_max_bytes, row.virtio_rng_period_ms)}: {row.why}." for row in without.itertuples(index=False)
    ]
    return " ".join(said)
