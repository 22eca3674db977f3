"""What was found of guests made for an experiment, and of audits, in sentences with numbers: tables in, HTML sentences out.

As :mod:`toolkit.explore.findings`: no figure, no widget, and no judgement that the numbers in the sentence do not carry.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from toolkit.analysis.boots import boots as ready_of
from toolkit.analysis.boots import remedies as compared
from toolkit.analysis.rates import rates as rates_of
from toolkit.analysis.waits import DEVICE, SHARED
from toolkit.analysis.waits import fairness as fairness_of
from toolkit.analysis.waits import waits as waits_of
from toolkit.markup import Fragment, sentence
from toolkit.plots.audits import VERDICTS, newest, worst_first
from toolkit.plots.boots import in_order
from toolkit.plots.rates import limit_words
from toolkit.units import bytes_text, duration_text, rate_text

__all__ = ["audits", "boots", "fairness", "rates", "remedies", "waits"]


def boots(frame: pd.DataFrame) -> list[Fragment]:
    """When the guests of each configuration were ready, and how many never were; the quickest first."""
    said = []
    for row in _rows(in_order(ready_of(frame))):
        if not row.n:
            said.append(sentence("<b>{}</b>: no boot tells when it was ready{}.", row.cell, _lost(row)))
            continue
        still = f"; {row.beyond} of them not within their budget" if row.beyond else ""
        said.append(sentence("<b>{}</b>: ready after {}, {} boots{}{}.", row.cell, row.median, row.n, still, _lost(row)))
    return said


def _lost(row: Any) -> str:
    parts = [
        f"{row.failed} failed" if row.failed else "",
        f"{row.left_out} left out: it cannot be had here" if row.left_out else "",
    ]
    return "".join(f"; {part}" for part in parts if part)


def remedies(frame: pd.DataFrame) -> list[Fragment]:
    """What each remedy changed against none, on each kernel of each plan."""
    table = compared(frame, quantities=("crng_ready_s", "guest_cpu_s"))
    keys = ["plan", "kernel", "remedy"]
    costs = {_key(row, keys): row for row in _rows(table[table["quantity"] == "guest_cpu_s"])}
    said = []
    for row in _rows(in_order(table[table["quantity"] == "crng_ready_s"])):
        if pd.isna(row.baseline_median):
            continue
        cost = costs.get(_key(row, keys))
        paid = "" if cost is None or not cost.n else f"; the guest used {cost.median} of processor time"
        words = "<b>{}</b> (kernel {}): ready after {}, without it after {}: {}{}."
        kernel = "unknown" if pd.isna(row.kernel) else row.kernel
        said.append(sentence(words, row.remedy, kernel, row.median, row.baseline_median, _change(row), paid))
    return said


def _key(row: Any, names: list[str]) -> tuple[object, ...]:
    return tuple(None if pd.isna(getattr(row, name)) else getattr(row, name) for name in names)


def _change(row: Any) -> str:
    """The size of a difference, with its interval; a bound is said only where it tells the direction."""
    if math.isfinite(row.difference_s):
        size = "no difference" if row.difference_s == 0 else _direction(row.difference_s)
    elif row.at_most_s < 0:
        size = f"at least {_direction(row.at_most_s)}"
    elif row.at_least_s > 0:
        size = f"at least {_direction(row.at_least_s)}"
    else:
        return "how large the difference is cannot be told"
    if pd.isna(row.differs):
        return f"{size} (too few boots for an interval)"
    return size if row.differs else f"{size}, which its 95 % interval does not tell from none"


def _direction(change_s: float) -> str:
    return f"{duration_text(abs(change_s))} {'sooner' if change_s < 0 else 'later'}"


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
        burst = (
            ""
            if math.isnan(row.burst_bytes)
            else f", in bursts of {bytes_text(row.burst_bytes)} every {duration_text(row.period_s)}"
        )
        holds = "it holds within 5 %" if pd.isna(row.why) else row.why
        measured, ratio = rate_text(row.bytes_per_second), f"{100 * row.ratio:.1f} %"
        configured = rate_text(row.configured_bytes_per_second)
        words = "<b>{}</b>: {} measured of {} configured ({}){}: {}."
        said.append(sentence(words, limit, measured, configured, ratio, burst, holds))
    return said


def waits(drain_reads: pd.DataFrame) -> list[Fragment]:
    """Of readers at once in one guest: what each had, and how long its reads waited."""
    table = waits_of(drain_reads[drain_reads["scenario"] != SHARED], [*DEVICE, "readers_at_once", "source", "reader"])
    return [
        sentence(
            "<b>{}</b>, {}, virtio-rng with {}: {}; its reads waited {}{}.",
            row.reader,
            "alone" if row.readers_at_once == 1 else f"one of {row.readers_at_once} readers at once",
            limit_words(row.virtio_rng_max_bytes, row.virtio_rng_period_ms),
            "no rate" if math.isnan(row.bytes_per_second) else rate_text(row.bytes_per_second),
            row.wait,
            f"; {row.failed} failed" if row.failed else "",
        )
        for row in _rows(table)
    ]


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
        words = "<b>{}</b> on {} get {} together and {} each; shares {}, Jain's index {:.2f} (1 is equal; n = {})."
        each = rate_text(row.each_bytes_per_second)
        said.append(sentence(words, who, _backend(row), together, each, shares, row.jain, row.repeats))
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
