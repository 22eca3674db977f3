"""Views of readers at once: sources and a stretch of time to choose from, their waits, and the shares of guests."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import pandas as pd

from toolkit.analysis.waits import SHARED
from toolkit.analysis.waits import fairness as shared
from toolkit.analysis.waits import waits as waited
from toolkit.explore import findings_lab
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, nothing_chosen
from toolkit.markup import Fragment, bullets, paragraph, sentence
from toolkit.plots.drain import drain
from toolkit.plots.drain import fairness as drawn
from toolkit.plots.fragmentation import ordered
from toolkit.plots.style import SOURCE_LOOKS
from toolkit.units import duration_text

__all__ = ["fairness", "found", "readers"]

_STEPS = 200
_STREAM = ["run_id", "host", "guest", "boot_id", "repeat"]


def readers(session: Session) -> View:
    """How long the reads of several readers of one guest waited, over time."""
    rows = session.table("drain_reads")
    missing = session.lacks("drain_reads")
    if missing is not None:
        return View({}, lambda: [missing])
    rows = rows[rows["scenario"] != SHARED]
    if rows.empty:
        return View({}, lambda: [_none("No readers at once in one guest are")])
    since_s = (rows["t_ns"] - rows.groupby(_STREAM, dropna=False)["t_ns"].transform("min")).astype("float64") / 1e9
    longest_s = max(float(since_s.max()), 0.001)
    controls = {
        "sources": choice("Sources", [(name, name) for name in ordered(rows["source"], SOURCE_LOOKS)]),
        "range_s": widgets.FloatRangeSlider(
            value=(0.0, longest_s),
            min=0.0,
            max=longest_s,
            step=longest_s / _STEPS,
            description="Time since the readers began (s)",
            readout_format=".3g",
            continuous_update=False,
            style={"description_width": "initial"},
            layout=widgets.Layout(width="36em", max_width="100%"),
        ),
    }

    def draw(sources: Sequence[str], range_s: tuple[float, float]) -> list[Block]:
        if not sources:
            return nothing_chosen("Sources")
        some = rows[rows["source"].isin(sources) & since_s.between(*range_s)]
        if some.empty:
            return [
                paragraph(
                    f"No read began between {duration_text(range_s[0])} and {duration_text(range_s[1])}: choose a longer time."
                )
            ]
        return [drain(some), summary(some)]

    return View(controls, draw)


def summary(drain_reads: pd.DataFrame) -> pd.DataFrame:
    """The table behind the figure, as :func:`toolkit.waits` has it."""
    return waited(drain_reads).rename(columns={"low": "bytes_per_second_low", "high": "bytes_per_second_high"})


def fairness(session: Session) -> View:
    """What each guest got of a source that several shared, and Jain's index of it."""
    rows = session.table("drain_reads")
    missing = session.lacks("drain_reads")
    if missing is not None:
        return View({}, lambda: [missing])
    rows = rows[rows["scenario"] == SHARED]
    if rows.empty:
        return View({}, lambda: [_none("No guests that share a source of the host are")])
    counts = sorted(int(count) for count in rows["guests_at_once"].unique())

    def draw(counts: Sequence[int]) -> list[Block]:
        if not counts:
            return nothing_chosen("Guests at once")
        some = rows[rows["guests_at_once"].isin(counts)]
        return [drawn(some), shared(some)]

    return View({"counts": choice("Guests at once", [(str(count), count) for count in counts])}, draw)


def found(session: Session) -> View:
    """The findings on readers at once, in sentences."""
    rows = session.table("drain_reads")
    missing = session.lacks("drain_reads")
    return View({}, lambda: [missing or bullets([*findings_lab.waits(rows), *findings_lab.fairness(rows)])])


def _none(what: str) -> Fragment:
    return paragraph(sentence("{} in this store: run <code>toolkit lab drain</code>.", what.replace(" are", " is not", 1)))
