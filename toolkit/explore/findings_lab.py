"""What was found of guests made for an experiment, and of audits, in sentences with numbers: tables in, HTML sentences out.

As :mod:`toolkit.explore.findings`: no figure, no widget, and no judgement that the numbers in the sentence do not carry.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from toolkit.analysis.boots import boots as ready_of
from toolkit.analysis.boots import remedies as compared
from toolkit.analysis.configurations import PART, asks_words, named, part_words, with_words
from toolkit.analysis.rates import rates as rates_of
from toolkit.analysis.waits import DEVICE, SHARED
from toolkit.analysis.waits import fairness as fairness_of
from toolkit.analysis.waits import waits as waits_of
from toolkit.markup import Fragment, escape, sentence, visible
from toolkit.plots.audits import VERDICTS, newest, worst_first
from toolkit.plots.boots import in_order
from toolkit.plots.rates import limit_words
from toolkit.units import bytes_text, duration_text, rate_text

__all__ = [
    "audits",
    "audits_in_short",
    "boots",
    "fairness",
    "limits_in_short",
    "rates",
    "readers_in_short",
    "remedies",
    "waits",
]

#: Letters of a configuration's name in a sentence: more than the longest that a plan can make.
_NAME_CHARACTERS = 120


def boots(frame: pd.DataFrame) -> list[Fragment]:
    """When the guests of each kernel were ready, and which never were: a sentence for each thing that early user space asked."""
    several = {column for column in ("host", "plan") if frame[column].nunique() > 1}
    said = []
    for values, part in frame.groupby(list(PART), dropna=False, sort=True):
        rows = named(part)
        table = ready_of(rows.astype({"asks": "str"}), ["asks", "kind", "configuration"])
        whose = part_words(dict(zip(PART, values, strict=True)), several)
        for asks in rows["asks"].cat.categories:
            of_it = in_order(table[table["asks"] == asks])
            words = _when_ready(of_it[of_it["n"] > 0]) or "no boot tells when it was ready"
            said.append(
                sentence("<b>{}, {}</b>: {}{}.", whose[0].upper() + whose[1:], asks, escape(words, limit=None), _lost(of_it))
            )
    return said


def _when_ready(table: pd.DataFrame) -> str:
    """Each kind of configuration with its median, the quickest first, those never ready last; and of how many boots."""
    if table.empty:
        return ""
    ready, late = table[table["median_s"].notna()], table[table["median_s"].isna()]
    said = []
    for kind, alike in ready.groupby("kind", sort=False):
        quick, slow = (duration_text(float(value)) for value in alike["median_s"].agg(["min", "max"]))
        several = len(alike) > 1
        name = kind if several or (table["kind"] == kind).sum() == 1 else alike["configuration"].iloc[0]
        beyond, count = int(alike["beyond"].sum()), int(alike["n"].sum())
        said.append(
            (f"{quick} to {slow}" if quick != slow else quick)
            + f" {with_words(visible(name, _NAME_CHARACTERS))}"
            + (f" ({len(alike)} backends)" if several else "")
            + (f" ({beyond} of {count} boots not in time)" if beyond else "")
        )
    words = [f"ready after {'; '.join(said)}"] if said else []
    for row in _rows(late):
        never = "never" if row.n == row.beyond else f"only {row.n - row.beyond} of {row.n} boots"
        words.append(f"{never} within {duration_text(row.beyond_s)} {with_words(visible(row.configuration, _NAME_CHARACTERS))}")
    least, most = int(table["n"].min()), int(table["n"].max())
    boots_each = ("1 boot" if most == 1 else f"{most} boots") if least == most else f"{least} to {most} boots"
    return f"{'; '.join(words)} ({boots_each}{' each' if len(table) > 1 else ''})"


def _lost(table: pd.DataFrame) -> str:
    failed, left_out = int(table["failed"].sum()), int(table["left_out"].sum())
    return (f"; {failed} failed" if failed else "") + (f"; {left_out} left out: not to be had here" if left_out else "")


def remedies(frame: pd.DataFrame) -> list[Fragment]:
    """What each remedy changed against none, on each kernel of each plan."""
    table = compared(frame, quantities=("crng_ready_s", "guest_cpu_s"))
    asked = frame.groupby("plan", sort=False)["asked"].agg(lambda found: asks_words(found.iloc[0]))
    keys = ["plan", "kernel", "remedy"]
    costs = {_key(row, keys): row for row in _rows(table[table["quantity"] == "guest_cpu_s"])}
    said = []
    for row in _rows(in_order(table[table["quantity"] == "crng_ready_s"])):
        if pd.isna(row.baseline_median):
            continue
        cost = costs.get(_key(row, keys))
        paid = "" if cost is None or not cost.n else f"; the guest used {cost.median} of processor time"
        words = "<b>{}</b> (kernel {}, {}): ready {}, without it {}: {}{}."
        kernel = "unknown" if pd.isna(row.kernel) else row.kernel
        ready, before = _after(row.median), _after(row.baseline_median)
        said.append(sentence(words, row.remedy, kernel, asked[row.plan], ready, before, _change(row), paid))
    return said


def _after(median: str) -> str:
    """When guests were ready, in words; one beyond the budget, without an interval, is no time after which they were."""
    never = median.startswith("> ") and "(" not in median
    return f"not within {median.removeprefix('> ')}" if never else f"after {median}"


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
