"""The views of the first notebook: what was measured, what was not and why, and the findings of every subject."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ipywidgets as widgets
import pandas as pd

from toolkit.analysis.configurations import parts
from toolkit.explore import apart, boots, findings, findings_boots, findings_lab, remedies
from toolkit.explore import rates as of_limits
from toolkit.explore.session import COMMANDS, MEASURE, Session
from toolkit.explore.starvation import episodes, watched_machines
from toolkit.explore.view import Block, View, static
from toolkit.markup import Fragment, bullets, paragraph, sentence, visible
from toolkit.plots import allocation_time, audits, limits, pool, rates, style
from toolkit.plots import boots as of_boots
from toolkit.plots.audits import newest, worst_first

__all__ = ["found", "guests", "key_figures", "measured", "not_measured"]

#: What the reads of guests behind a limit are called: they stand in a table with others.
_LIMITED = "of these, reads of guests behind a limit"
_SUBJECTS = {
    "entropy_samples": "the entropy pool over time",
    "rng_state": "the state of each random number generator",
    "source_reads": "reads of the random sources",
    "allocations": "files allocated",
    "extents": "maps of files",
    "system_samples": "processor, memory and power beside it",
    "boots": "boots of guests: when each was ready, with which source and remedy",
    "drain_reads": "readers at once, and guests that share a source",
    "audits": "verdicts on guests",
}


def measured(session: Session) -> View:
    """What was measured: a row a table, with how many rows it has and what fills it."""

    def draw() -> list[Block]:
        rows = [
            {"table": name, "holds": words, "rows": len(session.table(name)), "filled by": COMMANDS.get(name, MEASURE)}
            for name, words in _SUBJECTS.items()
        ]
        limited = {
            "table": "source_reads",
            "holds": _LIMITED,
            "rows": len(of_limits.limited(session)),
            "filled by": of_limits.COMMAND,
        }
        place = list(_SUBJECTS).index("source_reads") + 1
        return [pd.DataFrame([*rows[:place], limited, *rows[place:]])]

    return View({}, draw)


def not_measured(session: Session) -> View:
    """What was not measured, why, and how to get it."""

    def draw() -> list[Block]:
        lacking = [said for name in _SUBJECTS if (said := session.lacks(name)) is not None]
        if of_limits.limited(session).empty:
            lacking.append(of_limits.missing(session))
        capabilities = session.table("capabilities")
        unable = findings.not_measured(capabilities)
        if capabilities.empty:
            lacking.append(paragraph("Which things this machine could not measure is not recorded in this store."))
        elif not unable and not lacking:
            return [paragraph("Everything that the toolkit can measure was measured.")]
        return [*lacking, bullets(unable)] if unable else [*lacking]

    return View({}, draw)


def key_figures(session: Session) -> View:
    """The key figure of each subject, one to choose; all of them on a page."""
    drawn: dict[str, Callable[[], style.AltFigure]] = {}
    if len(allocations := apart.allocations(session)):
        drawn["time to allocate a file"] = lambda: allocation_time(allocations)
    if len(samples := session.table("entropy_samples")):
        drawn["the entropy pool over time"] = lambda: pool(samples, episodes(session), session.table("rng_state"))
    if len(reads := apart.source_reads(session)):
        drawn["rates of the random sources"] = lambda: rates(reads)
    if len(rows := boots.apart(session)):
        for words, part in parts(rows):
            drawn[f"when guests were ready, {visible(words)}"] = partial(of_boots, part)
    if len(limited := of_limits.limited(session)):
        drawn["rates behind a limit"] = lambda: limits(limited.drop(columns="limit"), session.table("rng_state"))
    if len(audited := session.table("audits")):
        drawn["verdicts on guests"] = lambda: audits(worst_first(newest(audited)))
    if not drawn:
        return View({}, lambda: [paragraph(sentence("There is nothing to draw in this store yet: run <code>{}</code>.", MEASURE))])
    if static():
        return View({}, lambda: [draw() for draw in drawn.values()])
    choice = widgets.Dropdown(options=list(drawn), description="Figure", style={"description_width": "initial"})
    return View({"subject": choice}, lambda subject: [drawn[subject]()])


def found(session: Session) -> View:
    """The findings of every subject, in sentences with numbers."""

    def draw() -> list[Block]:
        subjects = (
            ("File allocation", findings.fragmentation(apart.allocations(session)), "allocations"),
            ("Starvation", _starvation(session), "entropy_samples"),
            ("Throughput", findings.throughput(apart.source_reads(session)), "source_reads"),
        )
        said_of = [
            Fragment(sentence("<h3>{}</h3>", title) + findings.shown(said, session.lacks(name), name))
            for title, said, name in subjects
        ]
        return [*said_of, *(Fragment(sentence("<h3>{}</h3>", title) + said) for title, said in _of_guests(session))]

    return View({}, draw)


def guests(session: Session) -> View:
    """What was found of guests made for an experiment, and of audits: a sentence or two a subject, and what is not there."""

    def draw() -> list[Block]:
        said, lacking = [], []
        for name, command, sentences in _in_short(session):
            said += sentences
            if not sentences:
                lacking.append(sentence("{} (<code>{}</code>)", name, command))
        if lacking:
            said.append(sentence("Not in this store: {}.", Fragment(", ".join(lacking))))
        return [bullets(said)]

    return View({}, draw)


def _in_short(session: Session) -> list[tuple[str, str, list[Fragment]]]:
    """Of each subject its name, the command that measures it, and what was found, in short; nothing where it is not there."""
    limited, states = of_limits.limited(session), session.table("rng_state")
    drained, audited = session.table("drain_reads"), session.table("audits")
    booted, compared = boots.apart(session), remedies.planned(session)
    return [
        ("readiness by configuration", COMMANDS["boots"], findings_boots.boots_in_short(booted)),
        ("remedies", remedies.COMMAND, findings_boots.remedies_in_short(compared)),
        ("limits", of_limits.COMMAND, [] if limited.empty else [findings_lab.limits_in_short(limited, states)]),
        ("readers at once", COMMANDS["drain_reads"], [] if drained.empty else findings_lab.readers_in_short(drained)),
        ("the audit", COMMANDS["audits"], [] if audited.empty else [findings_lab.audits_in_short(audited)]),
    ]


def _of_guests(session: Session) -> list[tuple[str, Fragment]]:
    """What was found of guests made for an experiment, and of audits: in short, the notebook on starvation says all of it."""
    limited, states = of_limits.limited(session), session.table("rng_state")
    drained, audited = session.table("drain_reads"), session.table("audits")
    return [
        ("Readiness of guests", _whole(boots.in_short(session))),
        ("Remedies", _whole(remedies.in_short(session))),
        ("Limits", of_limits.missing(session) if limited.empty else bullets([findings_lab.limits_in_short(limited, states)])),
        ("Readers at once", session.lacks("drain_reads") or bullets(findings_lab.readers_in_short(drained))),
        ("Audit", session.lacks("audits") or bullets([findings_lab.audits_in_short(audited)])),
    ]


def _whole(view: View) -> Fragment:
    return Fragment("".join(str(block) for block in view.blocks()))


def _starvation(session: Session) -> list[Fragment]:
    return findings.starvation(watched_machines(session), session.table("entropy_samples"), episodes(session))
