"""What was found of limits, of readers at once, and of audits, in sentences with numbers: tables in, HTML sentences out.

As :mod:`toolkit.explore.findings`: no figure, no widget, and no judgement that the numbers in the sentence do not carry.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from toolkit.analysis.rates import rates as rates_of
from toolkit.analysis.waits import DEVICE, OWN_PACE, SHARED
from toolkit.analysis.waits import fairness as fairness_of
from toolkit.analysis.waits import waits as waits_of
from toolkit.markup import Fragment, escape, sentence, visible
from toolkit.plots.audits import VERDICTS, newest, worst_first
from toolkit.plots.rates import limit_words
from toolkit.units import bytes_text, duration_text, rate_text

__all__ = [
    "audits",
    "audits_in_short",
    "fairness",
    "limits_in_short",
    "rates",
    "readers_in_short",
    "waits",
]


def rates(source_reads: pd.DataFrame, rng_state: pd.DataFrame) -> list[Fragment]:
    """Of each limit: what was measured behind it, in which bursts, and whether it holds."""
    table = rates_of(source_reads, rng_state)
    limited = table[table["configured_bytes_per_second"].notna()].sort_values("configured_bytes_per_second", kind="stable")
    said = []
    for row in _rows(limited):
        limit = limit_words(row.virtio_rng_max_bytes, row.virtio_rng_period_ms)
        if not math.isfinite(row.bytes_per_second):
            said.append(sentence("<b>{}</b>: no rate is known: {}.", limit, row.why))
            continue
        if math.isnan(row.burst_bytes):
            burst = ""
        elif pd.isna(row.why) and row.period_s < float(row.virtio_rng_period_ms) / 2000:
            # Each read came by itself, although a period holds many: the reader was busy for all of it.
            burst = ", with no pause between periods: the guest drew no faster than that"
        else:
            burst = f", in bursts of {bytes_text(row.burst_bytes)} every {duration_text(row.period_s)}"
        holds = "it holds within 5 %" if pd.isna(row.why) else row.why
        measured, ratio = rate_text(row.bytes_per_second), f"{100 * row.ratio:.1f} %"
        configured = rate_text(row.configured_bytes_per_second)
        words = "<b>{}</b>: {} measured of {} configured ({}){}: {}."
        said.append(sentence(words, limit, measured, configured, ratio, burst, holds))
    return said


def limits_in_short(source_reads: pd.DataFrame, rng_state: pd.DataFrame) -> Fragment:
    """How many limits hold, in one sentence."""
    table = rates_of(source_reads, rng_state).dropna(subset=["configured_bytes_per_second"])
    holds, judged = int(table["holds"].fillna(value=False).sum()), int(table["holds"].notna().sum())
    slow, fast = (rate_text(float(value)) for value in table["configured_bytes_per_second"].agg(["min", "max"]))
    span = f"from {slow} to {fast}" if slow != fast else f"of {slow}"
    open_ = f"; of {len(table) - judged} it cannot be told" if judged < len(table) else ""
    if len(table) == 1:
        return sentence("The limit {}: {}.", span, "it holds within 5 %" if holds else table["why"].iloc[0])
    return sentence("{} of {} limits {} hold within 5 %{}.", holds, len(table), span, open_)


def readers_in_short(drain_reads: pd.DataFrame) -> list[Fragment]:
    """The longest wait for each source, in one sentence, and how guests share a source."""
    alone = drain_reads[drain_reads["scenario"] != SHARED].dropna(subset=["wait_ns"])
    longest = alone.groupby("source")["wait_ns"].max().sort_values()
    said = "; ".join(f"{visible(source)} {duration_text(float(wait) / 1e9)}" for source, wait in longest.items())
    first = [sentence("The longest wait of a read of readers at once: {}.", escape(said, limit=None))] if said else []
    return [*first, *fairness(drain_reads[drain_reads["scenario"] == SHARED])]


def audits_in_short(frame: pd.DataFrame) -> Fragment:
    """How many guests have each verdict, in one sentence, the worst first."""
    rows = worst_first(newest(frame))
    counts = rows.groupby("verdict", sort=False).size()
    guests = "1 guest" if len(rows) == 1 else f"{len(rows)} guests"
    return sentence("{}: {}.", guests, ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))


def waits(drain_reads: pd.DataFrame) -> list[Fragment]:
    """Of readers at once in one guest: what each had, and how long its reads waited."""
    table = waits_of(drain_reads[drain_reads["scenario"] != SHARED], [*DEVICE, "readers_at_once", "source", "reader"])
    return [
        sentence(
            "<b>{}</b>, {}, virtio-rng with {}: {}; half of its reads within {}{}.",
            row.reader,
            "alone" if row.readers_at_once == 1 else f"one of {row.readers_at_once} readers at once",
            limit_words(row.virtio_rng_max_bytes, row.virtio_rng_period_ms),
            _pace(row),
            row.wait,
            f"; {row.failed} failed" if row.failed else "",
        )
        for row in _rows(table)
    ]


def _pace(row: Any) -> str:
    """What a reader had, if its source decided over it: one that waits for a small part of its time goes at a pace of its own."""
    if math.isnan(row.bytes_per_second):
        return "no rate"
    waited = f"waited {100 * row.waiting_fraction:.{0 if row.waiting_fraction >= 0.1 else 1}f} % of its time"
    return waited if row.waiting_fraction < OWN_PACE else f"{rate_text(row.bytes_per_second)}, {waited}"


def fairness(drain_reads: pd.DataFrame) -> list[Fragment]:
    """Whether guests that share a source of the host get equal parts of it, and whether they slow one another."""
    table = fairness_of(drain_reads)
    said = []
    for row in _rows(table):
        who = "one guest" if row.guests_at_once == 1 else f"{row.guests_at_once} guests at once"
        if math.isnan(row.jain):
            why = f"{row.incomplete} repeats lack a guest" if row.incomplete else "no guest got a byte"
            said.append(sentence("<b>{}</b> on {}: not known: {}.", who, _backend(row), why))
            continue
        together = rate_text(row.all_bytes_per_second)
        if row.guests_at_once == 1:
            said.append(sentence("<b>{}</b> on {} gets {}.", who, _backend(row), together))
            continue
        shares = f"{100 * row.smallest_share:.0f} % to {100 * row.greatest_share:.0f} %"
        words = "<b>{}</b> on {} get {} together and {} each; Jain's index {:.2f} (1 is equal), shares in any of {} repeats {}."
        each = rate_text(row.each_bytes_per_second)
        said.append(sentence(words, who, _backend(row), together, each, row.jain, row.repeats, shares))
    return said


def _backend(row: Any) -> str:
    """What feeds the guests of a row."""
    backend = "a source that is not known" if pd.isna(row.virtio_rng_backend) else str(row.virtio_rng_backend)
    limit = limit_words(row.virtio_rng_max_bytes, row.virtio_rng_period_ms)
    return backend if pd.isna(row.virtio_rng_max_bytes) else f"{backend} ({limit})"


def audits(frame: pd.DataFrame) -> list[Fragment]:
    """Of each guest its newest verdict, what was seen, and what to do; the worst first."""
    said = []
    for row in _rows(worst_first(newest(frame))):
        sign = VERDICTS[row.verdict][1] if row.verdict in VERDICTS else "?"
        remedy = sentence("") if pd.isna(row.remedy) else sentence(" <code>{}</code>", row.remedy)
        name = row.domain_uuid if pd.isna(row.guest) else row.guest
        said.append(sentence("{} <b>{}</b>: {} on {}: {}.{}", sign, row.verdict, name, row.host, row.evidence, remedy))
    return said


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples(index=False))
