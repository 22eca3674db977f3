"""Views of readers at once: sources and a stretch of time to choose from, their waits, and the shares of guests."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import pandas as pd

from toolkit.analysis.waits import DEVICE, SHARED
from toolkit.analysis.waits import fairness as shared
from toolkit.analysis.waits import waits as waited
from toolkit.explore import findings_lab
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, nothing_chosen, static
from toolkit.markup import Fragment, bullets, paragraph, sentence, visible
from toolkit.plots.drain import drain, since_s
from toolkit.plots.drain import fairness as drawn
from toolkit.plots.fragmentation import ordered
from toolkit.plots.rates import limit_words
from toolkit.plots.style import SOURCE_LOOKS
from toolkit.units import duration_text

__all__ = ["fairness", "found", "readers"]

_STEPS = 200


def readers(session: Session) -> View:
    """How long the reads of several readers of one guest waited, over time; the table tells also those that read alone."""
    rows = session.table("drain_reads")
    missing = session.lacks("drain_reads")
    if missing is not None:
        return View({}, lambda: [missing])
    rows = rows[rows["scenario"] != SHARED]
    if rows.empty:
        return View({}, lambda: [_none("No readers at once in one guest are")])
    groups = rows["readers_at_once"].astype(str) + " at once, " + _devices(rows)
    most_first = rows.assign(group=groups).sort_values(["readers_at_once", "group"], ascending=[False, True], kind="stable")
    names = list(dict.fromkeys(most_first["group"]))
    since = since_s(rows)
    longest_s = max(float(since.max()), 0.001)
    controls = {
        "group": _one_of("Readers", names),
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

    def draw(group: str, sources: Sequence[str], range_s: tuple[float, float]) -> list[Block]:
        if not sources:
            return nothing_chosen("Sources")
        of_sources = rows["source"].isin(sources) & since.between(*range_s)
        some = rows[of_sources & (groups == group)]
        if some.empty:
            first, last = (duration_text(edge) for edge in range_s)
            return [paragraph(f"Of these no read began between {first} and {last}: choose a longer time.")]
        return [drain(some, rows), summary(rows[of_sources])]

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
    devices = _devices(rows)
    names = sorted(devices.unique())
    counts = sorted(int(count) for count in rows["guests_at_once"].unique())

    def draw(device: str, counts: Sequence[int]) -> list[Block]:
        if not counts:
            return nothing_chosen("Guests at once")
        some = rows[(devices == device) & rows["guests_at_once"].isin(counts)]
        if some.empty:
            return [paragraph("So many guests were not booted with this device: choose more.")]
        return [drawn(some), shared(some)]

    at_once = choice("Guests at once", [(str(count), count) for count in counts])
    if static():
        return View({}, lambda: [block for name in names for block in draw(name, counts)])
    return View({"device": _one_of("Device", names), "counts": at_once}, draw)


def _devices(rows: pd.DataFrame) -> pd.Series:
    """Of each row its guest's virtio-rng in words: backend and limit."""
    places = rows.groupby(list(DEVICE), dropna=False, sort=False).ngroup()
    first = rows[list(DEVICE)].assign(place=places).drop_duplicates("place")
    words = {
        place: f"{'no virtio-rng' if pd.isna(backend) else backend}, {limit_words(size, period)}"
        for backend, size, period, place in first.itertuples(index=False, name=None)
    }
    return places.map(words)


def _one_of(words: str, names: Sequence[str]) -> widgets.Dropdown:
    return widgets.Dropdown(
        options=[(visible(name), name) for name in names], description=words, style={"description_width": "initial"}
    )


def found(session: Session) -> View:
    """The findings on readers at once, in sentences."""
    rows = session.table("drain_reads")
    missing = session.lacks("drain_reads")
    return View({}, lambda: [missing or bullets([*findings_lab.waits(rows), *findings_lab.fairness(rows)])])


def _none(what: str) -> Fragment:
    return paragraph(sentence("{} in this store: run <code>toolkit lab drain</code>.", what.replace(" are", " is not", 1)))
