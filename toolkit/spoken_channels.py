"""What receiving from guests says to people: a table of channels as they are, and what became of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from toolkit.units import duration_text

if TYPE_CHECKING:
    from toolkit.guests.receiver import Status

__all__ = ["FORMATS", "channel_table", "remarks"]

#: How the table's columns are written.
FORMATS: Mapping[str, Callable[[Any], str]] = {
    "records/s": lambda rate: f"{rate:,.0f}",
    "last seen": lambda ago_s: f"{duration_text(max(round(ago_s, 1), 0.1))} ago",
}


def channel_table(channels: Sequence[Status]) -> pd.DataFrame:
    """The channels, a row each, for a terminal.

    Parameters
    ----------
    channels : sequence of Status
        As a receiver says.

    Returns
    -------
    pandas.DataFrame
        guest, state, records/s, last seen, records, lost, dropped, odd, refused; what was never seen is missing.
    """
    return pd.DataFrame(
        {
            "guest": [channel.guest for channel in channels],
            "state": [channel.state for channel in channels],
            "records/s": [channel.records_per_s for channel in channels],
            "last seen": [channel.last_seen_s for channel in channels],
            "records": [channel.total.records for channel in channels],
            "lost": [channel.total.lost_records for channel in channels],
            "dropped": [channel.total.dropped_in_guest for channel in channels],
            "odd": [channel.oddities for channel in channels],
            "refused": [channel.total.refused_records + channel.total.refused_frames for channel in channels],
        }
    )


def remarks(channels: Sequence[Status]) -> Iterator[str]:
    """What must be known of channels beyond their numbers, a sentence each."""
    for channel in channels:
        if channel.why and channel.state != "ended":
            yield f"{channel.guest}: {channel.why}."
        if channel.undelivered:
            yield f"{channel.guest}: {channel.undelivered:,} records had not been delivered when it was heard; it says them again."
        if channel.oddities:
            yield f"{channel.guest}: {channel.last_oddity}."
        if channel.total.corrupt_frames and not channel.oddities:
            yield f"{channel.guest}: {channel.total.corrupt_frames:,} stretches of bytes were no frame, and were passed over."
        if channel.total.dropped_in_guest:
            yield (
                f"{channel.guest}: its agent dropped {channel.total.dropped_in_guest:,} records that nobody received in time; "
                "they are counted in the table channel_health."
            )
