"""Views of rates behind limits: limits to choose from, measured against configured, and how the bytes came."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from toolkit.analysis.rates import rates as analysed
from toolkit.explore import findings_lab
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, nothing_chosen
from toolkit.markup import Fragment, bullets, paragraph, sentence
from toolkit.plots import style
from toolkit.plots.rates import bursts as steps
from toolkit.plots.rates import limit_words
from toolkit.plots.rates import limits as against

__all__ = ["COMMAND", "bursts", "found", "limited", "limits", "missing"]

COMMAND = "toolkit lab rates"
_SERIES = ["run_id", "host", "guest", "boot_id", "source", "block_bytes"]
#: Of the table behind the figures these columns stand first.
_FIRST = ["limit", "holds", "why", "bytes_per_second", "low", "high", "configured_bytes_per_second", "ratio"]
_RATE_INTERVAL = {"low": "bytes_per_second_low", "high": "bytes_per_second_high"}


def limited(session: Session) -> pd.DataFrame:
    """The rows of ``source_reads`` behind a limit that is known, slow limits first, with the limit in words as ``limit``."""
    reads, states = session.table("source_reads"), session.table("rng_state")
    rates = analysed(reads, states).dropna(subset=["configured_bytes_per_second"])
    rates = rates.sort_values("configured_bytes_per_second", kind="stable")
    return rates[_SERIES].assign(limit=_limit_of(rates)).merge(reads, on=_SERIES)


def limits(session: Session) -> View:
    """The rate measured against the rate configured."""
    return _chosen(session, against)


def bursts(session: Session) -> View:
    """The bytes that had come by then, beside the straight line of the limit."""
    return _chosen(session, steps)


def _chosen(session: Session, figure: Callable[[pd.DataFrame, pd.DataFrame], style.AltFigure]) -> View:
    reads, states = limited(session), session.table("rng_state")
    if reads.empty:
        return View({}, lambda: [missing(session)])
    names = list(dict.fromkeys(reads["limit"]))

    def draw(chosen: Sequence[str]) -> list[Block]:
        if not chosen:
            return nothing_chosen("Limits")
        some = reads[reads["limit"].isin(chosen)].drop(columns="limit")
        return [figure(some, states), summary(some, states)]

    return View({"chosen": choice("Limits", [(name, name) for name in names])}, draw)


def summary(source_reads: pd.DataFrame, rng_state: pd.DataFrame) -> pd.DataFrame:
    """The table behind the figures, as :func:`toolkit.rates` has it, the limit in words first."""
    table = analysed(source_reads, rng_state).sort_values("configured_bytes_per_second", kind="stable", ignore_index=True)
    table = table.assign(limit=_limit_of(table))
    whole = table[[*_FIRST, *(name for name in table.columns if name not in _FIRST)]]
    return whole.rename(columns=_RATE_INTERVAL)


def found(session: Session) -> View:
    """The findings on limits, in sentences."""
    reads = limited(session)
    if reads.empty:
        return View({}, lambda: [missing(session)])
    return View({}, lambda: [bullets(findings_lab.rates(reads, session.table("rng_state")))])


def _limit_of(table: pd.DataFrame) -> list[str]:
    pairs = zip(table["virtio_rng_max_bytes"], table["virtio_rng_period_ms"], strict=True)
    return [limit_words(size, period) for size, period in pairs]


def missing(session: Session) -> Fragment:
    """The sentence that says that no read behind a limit is there, and what measures one."""
    some = " for the host and run chosen" if session.host or session.run else ""
    return paragraph(
        sentence("No read of /dev/hwrng behind a limit that is known is in this store{}: run <code>{}</code>.", some, COMMAND)
    )
