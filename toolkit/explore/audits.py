"""Views of audits: the newest verdict of each guest, with what was seen and what to do."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from toolkit.explore import findings_lab
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, nothing_chosen
from toolkit.markup import bullets, paragraph
from toolkit.plots.audits import VERDICTS, newest, worst_first
from toolkit.plots.audits import audits as drawn

__all__ = ["found", "verdicts"]

_COLUMNS = [
    "verdict", "guest", "host", "causes", "evidence", "remedy", "remedy_xml", "regime", "crng_ready", "virtio_rng_backend",
    "virtio_rng_max_bytes", "virtio_rng_period_ms", "driver_bound", "cpu_rdrand", "rdrand_lacking_on", "utc", "uri",
]  # fmt: skip


def verdicts(session: Session) -> View:
    """A row a guest, the worst on top; which verdicts are shown can be chosen."""
    missing = session.lacks("audits")
    if missing is not None:
        return View({}, lambda: [missing])
    rows = worst_first(newest(session.table("audits")))
    names = list(dict.fromkeys(rows["verdict"]))

    def draw(chosen: Sequence[str]) -> list[Block]:
        if not chosen:
            return nothing_chosen("Verdicts")
        some = rows[rows["verdict"].isin(chosen)]
        return [drawn(some), summary(some)]

    return View({"chosen": choice("Verdicts", [(name, name) for name in names])}, draw)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The table behind the figure: each verdict with its sign, the evidence and the remedy."""
    signs = [f"{VERDICTS[verdict][1]} {verdict}" if verdict in VERDICTS else verdict for verdict in rows["verdict"]]
    return rows.assign(verdict=signs)[_COLUMNS]


def found(session: Session) -> View:
    """The findings of the audit, in sentences."""
    missing = session.lacks("audits")
    said = findings_lab.audits(session.table("audits"))
    return View({}, lambda: [missing or (bullets(said) if said else paragraph("No guest was audited."))])
