"""From what channels received to the store: all of it at once, about every second, in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from toolkit.guests.already import InStore
from toolkit.guests.channel import Channel, Counts, Event, Received, Session
from toolkit.guests.records import Rows, rows_of, state_rows
from toolkit.runs import Run, storable
from toolkit.store import Store
from toolkit.store.growing import Growing, Whose
from toolkit.tables import TABLES

__all__ = ["Flush", "Taken"]


@dataclass
class Taken:
    """What one channel had at one moment, and is now another thread's to store.

    Attributes
    ----------
    channel, pending, states, events, counts
        Of the channel.
    earlier : Counts
        Of flushes since the last row of ``channel_health``.
    host_says : dict
        Columns ``virtio_rng_*`` of ``rng_state``, as the host knows them.
    requests : frozenset of int
        Made of this guest.
    rows : Rows or None
        Once stored, what became of it.
    """

    channel: Channel
    pending: list[Received]
    states: list[tuple[Session, dict[str, Any]]]
    events: list[Event]
    counts: Counts
    earlier: Counts
    host_says: Mapping[str, Any] = field(default_factory=dict)
    requests: frozenset[int] = frozenset()
    rows: Rows | None = None

    @classmethod
    def of(cls, channel: Channel, earlier: Counts, host_says: Mapping[str, Any], requests: frozenset[int]) -> Taken:
        """Take what a channel has."""
        taken = cls(channel, channel.pending, channel.new_states, channel.events, channel.counts, earlier, host_says, requests)
        channel.pending, channel.new_states, channel.events, channel.counts = [], [], [], Counts()
        return taken


class Flush:
    """Stores what was taken from channels.

    Parameters
    ----------
    store : Store
        The store.
    run : Run
        The run that receives.
    """

    def __init__(self, store: Store, run: Run) -> None:
        self._store = store
        self._run = run
        self._growing: dict[str, Growing] = {}
        self._already: dict[str, InStore] = {}

    def store(self, taken: Iterable[Taken], *, healthy: bool) -> None:
        """Store all of it; what each :class:`Taken` then has as ``rows`` says what became of its records.

        Parameters
        ----------
        taken : iterable of Taken
            Of several channels.
        healthy : bool
            Whether a row of ``channel_health`` is due.

        Raises
        ------
        StoreError
            If the system refuses. What is in the store then is whole, and what is not was not acknowledged.
        """
        added: dict[str, dict[Whose, list[pa.Table]]] = {}
        now = (time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())
        for one in taken:
            guest = one.channel.guest
            already = self._already.setdefault(guest, InStore(self._store, self._run.host, guest))
            one.rows = made = rows_of(one.pending, already, one.requests)
            for table, boots in made.rows.items():
                for boot_id, rows in boots.items():
                    added.setdefault(table, {}).setdefault(self._whose(guest, boot_id), []).extend(rows)
            for session, state in one.states:
                row = state_rows(state, one.host_says)
                added.setdefault("rng_state", {}).setdefault(self._whose(guest, session.boot_id), []).append(row)
            one.counts.records -= made.refused + made.repeated
            one.counts.refused_records += made.refused
            one.counts.repeated_records += made.repeated
            here = self._whose(guest, self._run.boot_id)
            if one.events:
                added.setdefault("channel_events", {})[here] = [_events(one.events)]
            if healthy:
                second = Counts(**vars(one.earlier))
                second.add(one.counts)
                added.setdefault("channel_health", {})[here] = [_health(now, second)]
        for table, whose in sorted(added.items()):
            growing = self._growing.get(table)
            if growing is None:
                growing = self._growing[table] = self._store.growing(table, self._run.host)
            growing.add({key: pa.concat_tables(rows) for key, rows in whose.items()})

    def _whose(self, guest: str, boot_id: str) -> Whose:
        return Whose(self._run.run_id, self._run.host, guest, boot_id)


def _columns(table: str, columns: dict[str, list[Any]]) -> pa.Table:
    fields = [field for field in TABLES[table].schema if field.name in columns]
    arrays = [
        pa.array(columns[field.name], pa.int64()).cast(field.type)
        if field.name == "utc"
        else pa.array(columns[field.name], field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _events(events: list[Event]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "t_ns": [event.t_ns for event in events],
        "utc": [event.utc_ns for event in events],
        "event": [event.event for event in events],
        "detail": [storable(event.detail) for event in events],
    }
    return _columns("channel_events", columns)


def _health(now: tuple[int, int], counts: Counts) -> pa.Table:
    row: dict[str, Any] = {"t_ns": now[0], "utc": now[1], **vars(counts)}
    return _columns("channel_health", {name: [value] for name, value in row.items()})
