"""What was found of boots made for an experiment, and of remedies, in sentences with numbers: tables in, HTML sentences out.

As :mod:`toolkit.explore.findings`: no figure, no widget, and no judgement that the numbers in the sentence do not carry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from toolkit.analysis.boots import boots as ready_of
from toolkit.analysis.boots import remedies as compared
from toolkit.analysis.configurations import (
    NO_SOURCE,
    PART,
    TRANSLATED,
    asks_words,
    felt,
    named,
    part_words,
    translated,
    with_words,
)
from toolkit.markup import Fragment, escape, sentence, visible
from toolkit.plots.boots import in_order
from toolkit.units import duration_text

__all__ = ["boots", "boots_in_short", "remedies", "remedies_in_short"]

#: Letters of a configuration's name in a sentence: more than the longest that a plan can make.
_NAME_CHARACTERS = 120


def boots(frame: pd.DataFrame) -> list[Fragment]:
    """When the guests of each kernel were ready, and which never were: a sentence for each thing that early user space asked."""
    said = []
    for whose, rows in _kernels(frame):
        plain = rows.astype({"asks": "str"})
        table = ready_of(plain, ["asks", "kind", "configuration"])
        waits = ready_of(plain, ["asks", "kind", "configuration"], "longest_wait_s")
        for asks in rows["asks"].cat.categories:
            of_it = in_order(table[table["asks"] == asks])
            words = _when_ready(of_it[of_it["n"] > 0]) or "no boot tells when it was ready"
            waited = _how_long(in_order(waits[(waits["asks"] == asks) & (waits["n"] > 0)]))
            early = rows.loc[rows["asks"] == asks, "urandom_warnings"].max()
            warned = f"; up to {int(early)} reads of /dev/urandom in a boot came too early" if not pd.isna(early) and early else ""
            words = f"{words}{_lost(of_it)}{warned}{f'. {waited}' if waited else ''}"
            said.append(sentence("<b>{}, {}</b>: {}.", whose, asks, escape(words, limit=None)))
    return said


def boots_in_short(frame: pd.DataFrame) -> list[Fragment]:
    """A sentence a kernel: what a guest without a source had, what its best source gave it, and how the guests ran."""
    said = []
    for whose, rows in _kernels(frame):
        plain = rows.astype({"asks": "str"})
        ready, waits = (ready_of(plain, ["asked", "kind"], quantity) for quantity in ("crng_ready_s", "longest_wait_s"))
        words = [_of_quiet(in_order(ready[(ready["asked"] == "nothing") & (ready["n"] > 0)]))]
        words.append(_of_waits(in_order(waits[(waits["asked"] == "getrandom") & (waits["n"] > 0)])))
        if any(words):
            said.append(sentence("<b>{}</b>: {}.", whose, escape("; ".join(filter(None, words)), limit=None)))
    return [*said, sentence(TRANSLATED)] if said and translated(frame) else said


def _kernels(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The boots of each kernel, of each plan and host where there are several, as a sentence begins; with their names."""
    several = {column for column in ("host", "plan") if frame[column].nunique() > 1}
    for values, part in frame.groupby(list(PART), dropna=False, sort=True):
        whose = part_words(dict(zip(PART, values, strict=True)), several)
        yield whose[0].upper() + whose[1:], named(part)


def _of_quiet(table: pd.DataFrame) -> str:
    """Where nothing asks: when a guest without a source was ready, and the others."""
    bare, others = table[table["kind"] == NO_SOURCE], table[table["kind"] != NO_SOURCE]
    if bare.empty:
        return ""
    (row,) = _rows(bare)
    if math.isnan(row.median_s):
        never = "never ready" if row.n == row.beyond else "mostly not ready"
        first = f"a guest without a source in which nothing asks was {never} within {duration_text(row.beyond_s)}"
    else:
        first = f"a guest without a source in which nothing asks was ready after {duration_text(row.median_s)}"
    each = [
        f"{with_words(visible(other.kind, _NAME_CHARACTERS))} after {duration_text(other.median_s)}"
        for other in _rows(others)
        if math.isfinite(other.median_s)
    ]
    return f"{first}; {', '.join(each)}" if each else first


def _of_waits(table: pd.DataFrame) -> str:
    """Where something waits in getrandom: for how long."""
    bare, others = table[table["kind"] == NO_SOURCE], table[(table["kind"] != NO_SOURCE) & table["median_s"].notna()]
    if bare.empty or not math.isfinite(float(bare["median_s"].iloc[0])):
        return ""
    first = f"a getrandom waited {duration_text(float(bare['median_s'].iloc[0]))} {with_words(NO_SOURCE)}"
    each = [f"{duration_text(row.median_s)} {with_words(visible(row.kind, _NAME_CHARACTERS))}" for row in _rows(others)]
    return f"{first}, {', '.join(each)}" if each else first


def _how_long(table: pd.DataFrame) -> str:
    """The shortest and the longest of the waits, and whose they are: a boot's own seconds are not in them."""
    if table.empty:
        return ""
    quick, slow = (_rows(table)[place] for place in (0, -1))
    least, most = (
        f"{'more than ' if math.isnan(row.median_s) else ''}"
        f"{duration_text(float(row.beyond_s if math.isnan(row.median_s) else row.median_s))} "
        f"{with_words(visible(row.configuration, _NAME_CHARACTERS))}"
        for row in (quick, slow)
    )
    return f"The longest wait is {least}" if len(table) == 1 else f"The longest wait is from {least} to {most}"


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
    """What each remedy changed against none, on each kernel of each plan: where getrandom was asked, of how long it waited."""
    said = []
    for _, part in frame.groupby("plan", sort=True):
        asked = asks_words(part["asked"].iloc[0])
        time = felt(part)
        waited = time == "longest_wait_s"
        table = compared(part, quantities=(time, "guest_cpu_s"))
        keys = ["plan", "kernel", "remedy"]
        costs = {_key(row, keys): row for row in _rows(table[table["quantity"] == "guest_cpu_s"])}
        for row in _rows(in_order(table[(table["quantity"] == time) & (table["n"] > 0)])):
            if pd.isna(row.baseline_median):
                continue
            cost = costs.get(_key(row, keys))
            paid = "" if cost is None or not cost.n else f"; the guest used {cost.median} of processor time"
            kernel = "unknown" if pd.isna(row.kernel) else row.kernel
            if waited:
                words = "<b>{}</b> (kernel {}, {}): the longest wait is {}, without it {}: {}{}."
                found, before = row.median, row.baseline_median
            else:
                words = "<b>{}</b> (kernel {}, {}): ready {}, without it {}: {}{}."
                found, before = _after(row.median), _after(row.baseline_median)
            said.append(sentence(words, row.remedy, kernel, asked, found, before, _change(row, waited), paid))
    return said


def remedies_in_short(frame: pd.DataFrame) -> list[Fragment]:
    """Of each plan and kernel which remedies helped, which did not, and which cannot be told, in one sentence."""
    said = []
    for (_, kernel), part in frame.groupby(["plan", "kernel"], sort=True):
        time = felt(part)
        waited = time == "longest_wait_s"
        table = in_order(compared(part, quantities=(time,)))
        against = table[(table["n"] > 0) & table["baseline_median"].notna()]
        groups: dict[str, list[str]] = {"helped: ": [], "made it worse: ": [], "not told from none: ": []}
        for row in _rows(against):
            clear = not pd.isna(row.differs) and bool(row.differs)
            less = row.difference_s < 0 or row.at_most_s < 0
            median = duration_text(float(row.median_s)) if math.isfinite(row.median_s) else row.median
            groups["helped: " if clear and less else "made it worse: " if clear else "not told from none: "].append(
                f"{visible(row.remedy)} ({median})"
            )
        none = next((row.median for row in _rows(table) if row.remedy == "none" and row.n), "not known")
        if not len(against):
            continue
        what = "the longest wait" if waited else "ready"
        words = "; ".join(f"{verb}{', '.join(names)}" for verb, names in groups.items() if names)
        where = f"Remedies, kernel {visible(kernel)}, {asks_words(part['asked'].iloc[0])}"
        said.append(sentence("<b>{}</b>: {} with none is {}; {}.", where, what, none, escape(words, limit=None)))
    return said


def _after(median: str) -> str:
    """When guests were ready, in words; one beyond the budget, without an interval, is no time after which they were."""
    never = median.startswith("> ") and "(" not in median
    return f"not within {median.removeprefix('> ')}" if never else f"after {median}"


def _key(row: Any, names: list[str]) -> tuple[object, ...]:
    return tuple(None if pd.isna(getattr(row, name)) else getattr(row, name) for name in names)


def _change(row: Any, waited: bool) -> str:
    """The size of a difference, with its interval; a bound is said only where it tells the direction."""
    if math.isfinite(row.difference_s):
        size = "no difference" if row.difference_s == 0 else _direction(row.difference_s, waited)
    elif row.at_most_s < 0:
        size = f"at least {_direction(row.at_most_s, waited)}"
    elif row.at_least_s > 0:
        size = f"at least {_direction(row.at_least_s, waited)}"
    else:
        return "how large the difference is cannot be told"
    if pd.isna(row.differs):
        return f"{size} (too few boots for an interval)"
    return size if row.differs else f"{size}, which its 95 % interval does not tell from none"


def _direction(change_s: float, waited: bool) -> str:
    less, more = ("shorter", "longer") if waited else ("sooner", "later")
    return f"{duration_text(abs(change_s))} {less if change_s < 0 else more}"


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples(index=False))
