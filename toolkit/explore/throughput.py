"""Views of the random sources: sources and block sizes to choose from, rates, waits, and the hardware source by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from toolkit.analysis.stats import medians
from toolkit.explore import findings
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, nothing_chosen
from toolkit.markup import bullets, paragraph
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
    reads = session.table("source_reads")
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
        source, block_bytes, reads, failed, bytes_per_second with _low and _high (median, 95 % interval), wait_s_median,
        wait_s_longest.
    """
    by = ["source", "block_bytes"]
    seconds = source_reads["wait_ns"].astype("float64") / 1e9
    frame = source_reads.assign(
        wait_s=seconds,
        rate=(source_reads["read_bytes"].astype("float64") / seconds).where(source_reads["errno"].isna() & (seconds > 0)),
    )
    grouped = frame.groupby(by, sort=True)
    counted = grouped.agg(
        reads=("t_ns", "size"), failed=("errno", "count"), wait_s_median=("wait_s", "median"), longest_wait_s=("wait_s", "max")
    )
    speeds = medians(frame, "rate", by)[[*by, "median", "low", "high"]]
    speeds.columns = pd.Index([*by, "bytes_per_second_median", "bytes_per_second_low", "bytes_per_second_high"])
    return counted.reset_index().merge(speeds, on=by, how="left")


def hwrng(session: Session) -> View:
    """The bytes of /dev/hwrng against the time spent reading it, with the limit that the host set where it is known."""
    reads = session.table("source_reads")
    missing = session.lacks("source_reads")
    if missing is not None:
        return View({}, lambda: [missing])
    of_it = reads[reads["source"] == "/dev/hwrng"]
    state = session.table("rng_state").dropna(subset=["virtio_rng_max_bytes", "virtio_rng_period_ms"])
    limits = (state["virtio_rng_max_bytes"] / state["virtio_rng_period_ms"] * 1000).unique()
    limit = float(limits[0]) if len(limits) == 1 else None
    return View({}, lambda: [plots.hwrng(of_it, limit), summary(of_it)] if len(of_it) else [plots.hwrng(of_it)])


def found(session: Session) -> View:
    """The findings on the sources, in sentences."""
    missing = session.lacks("source_reads")
    return View({}, lambda: [missing or bullets(findings.throughput(session.table("source_reads")))])
