"""The views of the first notebook: what was measured, what was not and why, and the findings of every subject."""

from __future__ import annotations

import pandas as pd

from toolkit.explore import findings
from toolkit.explore.session import COMMANDS, Session
from toolkit.explore.starvation import episodes
from toolkit.explore.view import Block, View
from toolkit.markup import Fragment, bullets, paragraph, sentence

__all__ = ["found", "measured", "not_measured"]

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
            {"table": name, "holds": words, "rows": len(session.table(name)), "filled by": COMMANDS.get(name, "make report")}
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


def found(session: Session) -> View:
    """The findings of every subject, in sentences with numbers."""

    def draw() -> list[Block]:
        subjects = (
            ("File allocation", findings.fragmentation(session.table("allocations")), "allocations"),
            ("Starvation", _starvation(session), "entropy_samples"),
            ("Throughput", findings.throughput(session.table("source_reads")), "source_reads"),
        )
        return [
            Fragment(sentence("<h3>{}</h3>", title) + (bullets(said) if said else session.lacks(name) or paragraph("No finding.")))
            for title, said, name in subjects
        ]

    return View({}, draw)


def _starvation(session: Session) -> list[Fragment]:
    return findings.starvation(session.table("rng_state"), session.table("entropy_samples"), episodes(session))
