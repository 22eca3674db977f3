"""Views of the random sources: sources and block sizes to choose from, rates, waits, and the hardware source by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets as widgets
import pandas as pd

from toolkit.analysis.throughput import throughput
from toolkit.explore import apart, findings
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, nothing_chosen, static
from toolkit.markup import paragraph, visible
from toolkit.plots import throughput as plots
from toolkit.plots.fragmentation import ordered
from toolkit.plots.style import SOURCE_LOOKS, AltFigure
from toolkit.units import bytes_text

__all__ = ["found", "hwrng", "rates", "summary", "waits"]


def rates(session: Session) -> View:
    """Bytes a second by source and block size."""
    return _chosen(session, plots.rates)


def waits(session: Session) -> View:
    """How long reads wait, by source and block size."""
    return _chosen(session, plots.waits)


def _chosen(session: Session, figure: Callable[[pd.DataFrame], AltFigure]) -> View:
    reads = apart.source_reads(session)
    missing = session.lacks("source_reads")
    if missing is not None:
        return View({}, lambda: [missing])
    names = ordered(reads["source"], SOURCE_LOOKS)
    blocks = sorted(int(block) for block in reads["block_bytes"].unique())
    controls = {
        "sources": choice("Sources", [(name, name) for name in names]),
        "blocks": choice("Block sizes", [(bytes_text(block), block) for block in blocks]),
    }

    def draw(sources: Sequence[str], blocks: Sequence[int]) -> list[Block]:
        for chosen, what in ((sources, "Sources"), (blocks, "Block sizes")):
            if not chosen:
                return nothing_chosen(what)
        rows = reads[reads["source"].isin(sources) & reads["block_bytes"].isin(blocks)]
        if rows.empty:
            return [paragraph("Nothing was read in this selection: choose more sources or block sizes.")]
        return [figure(rows), summary(rows)]

    return View(controls, draw)


def summary(source_reads: pd.DataFrame) -> pd.DataFrame:
    """The table behind the figures: a row for each source and block size.

    Returns
    -------
    DataFrame
        source, block_bytes, reads, failed, bytes_per_second_median with _low and _high (95 % interval), repeats (the median's
        number), repeat (what one is), wait_s_median, longest_wait_s.
    """
    by = ["source", "block_bytes"]
    names = {"bytes_per_second": "bytes_per_second_median", "low": "bytes_per_second_low", "high": "bytes_per_second_high"}
    table = throughput(source_reads, by).rename(columns={**names, "n": "repeats", "unit": "repeat"})
    waited = source_reads.assign(wait_s=source_reads["wait_ns"].astype("float64") / 1e9).groupby(by)["wait_s"]
    return table.merge(waited.agg(wait_s_median="median", longest_wait_s="max").reset_index(), on=by)


def hwrng(session: Session) -> View:
    """The bytes of /dev/hwrng against the time spent reading it, with the limit that the host set where it is known."""
    reads = session.table("source_reads")
    missing = session.lacks("source_reads")
    if missing is not None:
        return View({}, lambda: [missing])
    of_it = reads[(reads["source"] == "/dev/hwrng") & ~reads["boot_id"].isin(session.lab_boots())]
    if of_it.empty:
        return View({}, lambda: [plots.hwrng(of_it)])
    every = list(apart.targets(of_it))

    def draw(target: int) -> list[Block]:
        name, rows = every[target]
        return [plots.hwrng(rows, _limit(session, rows), name), summary(rows)]

    if len(every) == 1:
        return View({}, lambda: draw(0))
    if static():
        return View({}, lambda: [block for target in range(len(every)) for block in draw(target)])
    options = [(visible(name), target) for target, (name, _) in enumerate(every)]
    return View({"target": widgets.Dropdown(options=options, description="Target", style={"description_width": "initial"})}, draw)


def _limit(session: Session, reads: pd.DataFrame) -> float | None:
    """The limit in bytes a second that was set for the target of these reads, if it is known and one."""
    state = session.table("rng_state").dropna(subset=["virtio_rng_max_bytes", "virtio_rng_period_ms"])
    host, guest = reads["host"].iloc[0], reads["guest"].iloc[0]
    state = state[(state["host"] == host) & (state["guest"].isna() if pd.isna(guest) else state["guest"] == guest)]
    limits = (state["virtio_rng_max_bytes"] / state["virtio_rng_period_ms"] * 1000).unique()
    return float(limits[0]) if len(limits) == 1 else None


def found(session: Session) -> View:
    """The findings on the sources, in sentences."""
    said = findings.throughput(apart.source_reads(session))
    return View({}, lambda: [findings.shown(said, session.lacks("source_reads"), "source_reads")])
