"""Figures of the random sources: bytes a second by block size, how long reads wait, and how the bytes of /dev/hwrng come."""

from __future__ import annotations

import numpy as np
import pandas as pd

from toolkit.analysis.throughput import throughput
from toolkit.plots import axes as ticks
from toolkit.plots import style
from toolkit.plots.fragmentation import error_name, ordered
from toolkit.plots.intervals import greatest, least, span_words
from toolkit.units import bytes_text, duration_text, rate_text

__all__ = ["hwrng", "rates", "waits"]

_HWRNG = "/dev/hwrng"
_LINES = ("-", "--", "-.", ":")


def rates(source_reads: pd.DataFrame) -> style.AltFigure:
    """Bytes a second by source and block size, both logarithmic: medians with intervals, as :func:`toolkit.throughput` has them.

    Parameters
    ----------
    source_reads : DataFrame
        Table ``source_reads``. Reads that failed have no rate; the note counts them.
    """
    good = _timed(source_reads)
    if good.empty:
        return style.says(f"No read in this selection gave a byte. {_failures(source_reads)}".strip())
    table = throughput(source_reads, ["source", "block_bytes"]).rename(columns={"bytes_per_second": "median"})
    table = table[table["median"] > 0]
    names = ordered(table["source"], style.SOURCE_LOOKS)
    seen = style.looks(names, style.SOURCE_LOOKS)
    with style.drawing():
        figure, grid = style.new_figure(3.9)
        axes = grid[0][0]
        for place, name in enumerate(names):
            colour, marker = seen[name]
            line = table[table["source"] == name].sort_values("block_bytes")
            shift = 1.06 ** (place - (len(names) - 1) / 2)  # sources that coincide stay visible beside each other
            at = line["block_bytes"].astype("float64") * shift
            axes.vlines(at, line["low"], line["high"], color=colour, linewidth=2.4, gid="interval")
            axes.plot(
                at,
                line["median"],
                marker=marker,
                color=colour,
                linestyle=_LINES[place % 4],
                linewidth=1.3,
                markersize=6.5,
                gid="median",
            )
        ticks.bytes_ticks(axes, "x", [float(block) for block in table["block_bytes"]])
        ticks.rate_ticks(axes, "y", [*table["median"], *table["low"], *table["high"]])
        axes.set_xlabel("bytes asked for in one read")
        axes.set_ylabel("bytes a second")
        title = _rates_title(table)
        per = [f"{style.label(name)} {span_words(_sized(table[table['source'] == name]), 'block', rate_text)}" for name in names]
        repeats = " ".join(words for unit, words in _REPEATS.items() if (table["unit"] == unit).any())
        words = f"{title}. Median rate by block size: {'; '.join(per)}. {_failures(source_reads)}"
        return style.finish(figure, title, words, f"{repeats} {_failures(source_reads)}", style.key(seen))


#: What a repeat is, by the unit that :func:`toolkit.throughput` names.
_REPEATS = {
    "run": "Mark: median over runs of all bytes by all time waited; line: its 95 % interval.",
    "block": (
        "Mark: median over ten stretches of equal waiting time; line: its 95 % interval. Bytes come in bursts, so single reads are "
        "no repeats: the figure of waits shows them."
    ),
}


def _timed(source_reads: pd.DataFrame) -> pd.DataFrame:
    known = source_reads.dropna(subset=["read_bytes", "wait_ns"])
    good = known[known["errno"].isna() & (known["read_bytes"] > 0) & (known["wait_ns"] > 0)]
    return good.assign(seconds=good["wait_ns"].astype("float64") / 1e9)


def _sized(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(block=[bytes_text(float(size)) for size in table["block_bytes"]])


def _rates_title(table: pd.DataFrame) -> str:
    fast, slow = greatest(table), least(table)
    quick = f"{style.label(fast['source'])} gives up to {rate_text(float(fast['median']))}"
    if fast["source"] == slow["source"]:
        return quick
    best = table[table["source"] == slow["source"]]["median"].max()
    return f"{quick}, {style.label(slow['source'])} at most {rate_text(float(best))}"


def _failures(source_reads: pd.DataFrame) -> str:
    failed = source_reads[source_reads["errno"].notna()]
    counted = failed.groupby(["source", "errno"]).size().reset_index(name="reads")
    return " ".join(
        f"{style.label(source)}: {reads} reads failed with {error_name(int(code))}."
        for source, code, reads in counted.itertuples(index=False)
    )


def waits(source_reads: pd.DataFrame) -> style.AltFigure:
    """How long a read waits: the share of reads that were done by then, a panel a block size, a line a source.

    Parameters
    ----------
    source_reads : DataFrame
        Table ``source_reads``.
    """
    good = _timed(source_reads)
    if good.empty:
        return style.says(f"No read in this selection gave a byte. {_failures(source_reads)}".strip())
    blocks = sorted(int(block) for block in good["block_bytes"].unique())
    names = ordered(good["source"], style.SOURCE_LOOKS)
    seen = style.looks(names, style.SOURCE_LOOKS)
    columns = min(len(blocks), 2)
    rows = -(-len(blocks) // columns)
    with style.drawing():
        figure, grid = style.new_figure(0.5 + (3.0 if columns == 1 else 1.75) * rows, rows, columns, sharex=True, sharey=True)
        panels = [axes for row in grid for axes in row]
        for spare in panels[len(blocks) :]:
            spare.set_axis_off()
        ticks.duration_ticks(panels[0], "x", good["seconds"], room=7 if columns == 1 else 5)
        for axes, block in zip(panels, blocks, strict=False):
            axes.set_title(f"{bytes_text(block)} a read")
            for place, name in enumerate(names):
                found = np.sort(good.loc[(good["source"] == name) & (good["block_bytes"] == block), "seconds"].to_numpy())
                if len(found):
                    share = np.arange(len(found) + 1) / len(found)
                    found = np.r_[found[0], found]
                    colour, marker = seen[name]
                    every = max(1, len(found) // 3)
                    axes.plot(
                        found, share, color=colour, marker=marker, markevery=every, markersize=4.5, linestyle=_LINES[place % 4],
                        drawstyle="steps-post", gid="ecdf",
                    )  # fmt: skip
            axes.tick_params(labelbottom=True)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
            axes.set_ylim(-0.03, 1.05)
        for row in grid:
            row[0].set_ylabel("reads done")
        grid[-1][0].set_xlabel("time a read took")
        table = good.groupby(["source", "block_bytes"])["seconds"].median().rename("median").reset_index()
        slow = greatest(table)
        title = (
            f"The longest median wait is {duration_text(float(slow['median']))}: {style.label(slow['source'])}, "
            f"{bytes_text(float(slow['block_bytes']))} a read"
        )
        per = [
            f"{style.label(name)} {span_words(_sized(table[table['source'] == name]), 'block', duration_text)}" for name in names
        ]
        words = f"{title}. Median time of a read by block size: {'; '.join(per)}. {_failures(source_reads)}"
        note = (
            f"A line that rises at once: all reads take the same time. A staircase: bytes come in bursts. {_failures(source_reads)}"
        )
        return style.finish(figure, title, words, note, style.key(seen))


def hwrng(source_reads: pd.DataFrame, limit_bytes_per_second: float | None = None, of: str = "") -> style.AltFigure:
    """Bytes that /dev/hwrng gave against the time spent reading it: a slope is its rate, a staircase a limit a period.

    Parameters
    ----------
    source_reads : DataFrame
        Table ``source_reads`` of one target; reads of other sources are left out.
    limit_bytes_per_second : float, optional
        The limit that the host set, drawn as a line where it is known.
    of : str, optional
        Whose reads these are, for the title, where several targets are shown.
    """
    name = f"{_HWRNG} of {style.label(of, 40)}" if of else _HWRNG
    of_it = source_reads[source_reads["source"] == _HWRNG]
    good = _timed(of_it)
    if of_it.empty:
        return style.says(f"{name} was not read in this selection.")
    if good.empty:
        return style.says(f"{name} gave no byte. {_failures(of_it)}".strip())
    blocks = sorted(int(block) for block in good["block_bytes"].unique())
    seen = style.looks([bytes_text(block) for block in blocks])
    total_bytes, total_s = float(good["read_bytes"].sum()), float(good["seconds"].sum())
    with style.drawing():
        figure, grid = style.new_figure(3.2)
        axes = grid[0][0]
        ends: list[tuple[float, float]] = []
        for block in blocks:
            part = good[good["block_bytes"] == block].sort_values("t_ns")
            spent = np.r_[0.0, np.cumsum(part["seconds"].to_numpy())]
            got = np.r_[0.0, np.cumsum(part["read_bytes"].to_numpy(dtype="float64"))]
            colour, marker = seen[bytes_text(block)]
            axes.plot(
                spent, got, color=colour, marker=marker, markevery=max(1, len(spent) // 8), drawstyle="steps-post", gid="given"
            )
            ends.append((float(spent[-1]), float(got[-1])))
        longest, most = max(end[0] for end in ends), max(end[1] for end in ends)
        if limit_bytes_per_second:
            axes.axline((0, 0), slope=limit_bytes_per_second, color=style.GREY, linestyle=":", gid="limit")
        ticks.duration_ticks(axes, "x", [0.0, longest], linear=True)
        ticks.bytes_ticks(axes, "y", [0.0, most], room=6, linear=True)
        axes.set_xlabel("time spent reading")
        axes.set_ylabel("bytes given")
        title = f"{name} gives {rate_text(total_bytes / total_s)}"
        if limit_bytes_per_second:
            title += f" of the {rate_text(limit_bytes_per_second)} that its limit allows"
        words = f"{title}: {bytes_text(total_bytes)} in {duration_text(total_s)} of reading, {len(good)} reads. {_failures(of_it)}"
        note = "A straight line: no limit in sight. Steps: a limit a period, as virtio-rng's max-bytes makes them."
        entries = style.key(seen)
        return style.finish(figure, title, words, f"{note} {_failures(of_it)}", entries)
