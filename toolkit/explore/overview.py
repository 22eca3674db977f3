"""The views of the first notebook: what was measured, what was not and why, and the findings of every subject."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets
import pandas as pd

from toolkit.explore import apart, findings
from toolkit.explore.session import COMMANDS, MEASURE, Session
from toolkit.explore.starvation import episodes, watched_machines
from toolkit.explore.view import Block, View, static
from toolkit.markup import Fragment, bullets, paragraph, sentence
from toolkit.plots import allocation_time, pool, rates, style

__all__ = ["found", "key_figures", "measured", "not_measured"]

_SUBJECTS = {
    "entropy_samples": "the entropy pool over time",
    "rng_state": "the state of each random number generator",
    "source_reads": "reads of the random sources",
    "allocations": "files allocated",
    "extents": "maps of files",
    "system_samples": "processor, memory and power beside it",
}


def measured(session: Session) -> View:
    """What was measured: a row a table, with how many rows it has and what fills it."""

    def draw() -> list[Block]:
        rows = [
            {"table": name, "holds": words, "rows": len(session.table(name)), "filled by": COMMANDS.get(name, MEASURE)}
            for name, words in _SUBJECTS.items()
        ]
        return [pd.DataFrame(rows)]

    return View({}, draw)


def not_measured(session: Session) -> View:
    """What was not measured, why, and how to get it."""

    def draw() -> list[Block]:
        lacking = [said for name in _SUBJECTS if (said := session.lacks(name)) is not None]
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
        return [
            Fragment(sentence("<h3>{}</h3>", title) + findings.shown(said, session.lacks(name), name))
            for title, said, name in subjects
        ]

    return View({}, draw)


def _starvation(session: Session) -> list[Fragment]:
    return findings.starvation(watched_machines(session), session.table("entropy_samples"), episodes(session))
