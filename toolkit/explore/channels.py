"""Whether what came from guests is whole: what was received, what is missing and where it went, and what was odd."""

from __future__ import annotations

import pandas as pd

from toolkit.explore.session import Session
from toolkit.explore.view import Block, View
from toolkit.guests.channel import ODD
from toolkit.markup import Fragment, bullets, paragraph, sentence

__all__ = ["events", "found", "health"]

_GUEST = ["host", "guest"]
_COUNTS = ["records", "lost_records", "dropped_in_guest", "corrupt_frames", "refused_records", "refused_frames", "repeated_records"]
_MOST = 200


def health(session: Session) -> View:
    """The channels of guests as a table, a row a guest; first in a sentence, whether anything is missing."""
    return View({}, lambda: [found(session), *_table(session)])


def found(session: Session) -> Fragment:
    """Whether anything of what the guests' agents made is missing, and what was odd about it, in sentences."""
    rows = session.table("channel_health")
    if rows.empty:
        return paragraph(
            sentence(
                "What guests sent is not in this store: run <code>toolkit lab</code>, which boots one made for the purpose, or "
                "<code>toolkit guests watch</code>, which receives from your own."
            )
        )
    sums = rows.groupby(_GUEST, dropna=False)[_COUNTS].sum()
    total = sums.sum()
    missing = int(total["lost_records"] + total["dropped_in_guest"])
    of = f"{int(total['records']):,} records of {len(sums):,} guest{'s' if len(sums) > 1 else ''}"
    said = [
        sentence("Nothing is missing: {} came, and no number in their sequence is without its record.", of)
        if not missing
        else sentence("{} came; {} are missing, as the table says.", of, f"{missing:,}")
    ]
    odd = session.table("channel_events")
    odd = odd[odd["event"].isin(ODD)]
    for (host, guest), part in odd.groupby(_GUEST, dropna=False, sort=True):
        last = part.sort_values("t_ns").iloc[-1]
        said.append(
            sentence(
                "<b>{} on {}</b>: {} anomal{}; the last, at {} UTC: {}.",
                guest,
                host,
                f"{len(part):,}",
                "y" if len(part) == 1 else "ies",
                f"{last['utc']:%Y-%m-%d %H:%M:%S}",
                last["detail"],
            )
        )
    return bullets(said)


def events(session: Session) -> View:
    """What happened to the channels: connected, closed, what was refused and what was odd; the newest first."""
    rows = session.table("channel_events")
    if rows.empty:
        return View({}, lambda: [paragraph(sentence("No event of a channel is in this store yet: run <code>toolkit lab</code>."))])
    newest = rows.sort_values("utc", ascending=False, kind="stable").head(_MOST)
    return View({}, lambda: [newest[["utc", "host", "guest", "event", "detail"]]])


def _table(session: Session) -> list[Block]:
    rows = session.table("channel_health")
    if rows.empty:
        return []
    grouped = rows.groupby(_GUEST, dropna=False, sort=True)
    sums = grouped[_COUNTS].sum().reset_index()
    watched_s = (grouped["t_ns"].max() - grouped["t_ns"].min()).to_numpy().astype("float64") / 1e9
    return [pd.DataFrame(sums).assign(watched_s=watched_s)]
