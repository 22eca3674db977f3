"""What came from guests as rows for the store: each record looked at, since a guest may say anything.

A record is refused where it cannot be: time that runs backwards within a boot, a truth that is neither, a size below zero. A
guest's clock that is off by more than a day is not believed; the host's is used instead, and that is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from toolkit.guests import wire
from toolkit.guests.channel import Received, Session
from toolkit.guests.wire import LAYOUTS
from toolkit.runs import storable
from toolkit.tables import TABLES

__all__ = ["Already", "Rows", "rows_of", "state_rows"]

_TABLES = {
    wire.SAMPLES: "entropy_samples",
    wire.SYSTEM: "system_samples",
    wire.SOURCE_READS: "source_reads",
    wire.ALLOCATIONS: "allocations",
}


def _dtype(kind: int) -> np.dtype[Any]:
    described: Any = LAYOUTS[kind].dtype()
    made: np.dtype[Any] = np.dtype(described)
    return made


_DTYPES = {kind: _dtype(kind) for kind in (*_TABLES, wire.DONE)}

_DAY_NS = 86_400 * 10**9
# Nobody's machine runs for a century.
_MOST_T_NS = 2**61
_NO_COUNT = ("request", "pad", "t_ns", "utc_ns")

_Rows = npt.NDArray[np.void]
_Columns = dict[str, npt.NDArray[Any]]
_Numbers = npt.NDArray[np.int64]


@dataclass
class Rows:
    """What a flush has of one channel: rows by table and session, what requests ended, and what was not stored.

    Attributes
    ----------
    rows : dict
        Of each table and session, rows without the common columns.
    done : list of dict
        Ends of requests, as :data:`toolkit.guests.wire.DONE` has them.
    anomalies : list of str
        What cannot be, for people.
    refused, repeated : int
        Records that cannot be; records that were in the store already.
    """

    rows: dict[str, dict[str, list[pa.Table]]] = field(default_factory=dict)
    done: list[dict[str, Any]] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)
    refused: int = 0
    repeated: int = 0


class Already(Protocol):
    """What the store has of a session's guest and boot, put there by a receiver that did not come to say so."""

    def latest_t_ns(self, boot_id: str, table: str) -> int:
        """The latest ``t_ns`` in a table; -1 where there is none."""

    def allocations(self, boot_id: str) -> set[tuple[int, ...]]:
        """Of each allocation: position, allocate_ns, sync_ns; null as -1."""


def rows_of(pending: Iterable[Received], already: Already, requests: frozenset[int]) -> Rows:
    """Rows of what a channel received.

    Parameters
    ----------
    pending : iterable of Received
        In the order in which it came.
    already : Already
        Asked where another receiver may have stored some of it.
    requests : frozenset of int
        That were made of this guest: rows of others were not asked for.
    """
    made = Rows()
    for (_, kind), group in groupby(pending, key=lambda received: (id(received.session), received.kind)):
        together = list(group)
        payload = b"".join(received.payload for received in together)
        if kind == wire.DONE:
            made.done += LAYOUTS[kind].unpack(payload)
        else:
            _take(made, together[0].session, kind, together, np.frombuffer(payload, _DTYPES[kind]), already, requests)
    return made


def _take(
    made: Rows,
    session: Session,
    kind: int,
    together: list[Received],
    records: _Rows,
    already: Already,
    requests: frozenset[int],
) -> None:
    """Take records of one session and kind: those that can be, and are new, become rows."""
    table = _TABLES[kind]
    # Each column by itself, in one piece: a record's fields lie beside each other.
    columns = {name: np.ascontiguousarray(records[name]) for name, _ in LAYOUTS[kind].fields}
    good = _plausible(columns, kind)
    maybe = _maybe_stored(session, together)
    if kind in (wire.SOURCE_READS, wire.ALLOCATIONS):
        asked = np.isin(columns["request"], np.fromiter(requests, np.uint64, len(requests)))
        good &= asked if maybe is None else asked | maybe
    made.refused += len(good) - int(good.sum())
    if maybe is not None:
        again = good & maybe & _again(columns, kind, table, session, already)
        made.repeated += int(again.sum())
        good &= ~again
    if "t_ns" in columns:
        forward = _forward(columns["t_ns"], good, session.last_t_ns.get(kind, -1), strictly=kind != wire.SOURCE_READS)
        backwards = int((good & ~forward).sum())
        if backwards:
            made.refused += backwards
            made.anomalies.append(f"time ran backwards in {backwards:,} records")
            good &= forward
        if good.any():
            session.last_t_ns[kind] = int(columns["t_ns"][np.flatnonzero(good)[-1]])
    if "utc_ns" in columns:
        columns["utc_ns"] = _utc(made, columns["t_ns"], columns["utc_ns"], together)
    if not good.all():
        columns = {name: values[good] for name, values in columns.items()}
    if good.any():
        made.rows.setdefault(table, {}).setdefault(session.boot_id, []).append(_table(table, columns))


def _maybe_stored(session: Session, together: list[Received]) -> npt.NDArray[np.bool_] | None:
    """Those that a receiver before this one may have stored; None where that is none of them."""
    if min(received.first for received in together) >= session.maybe_stored:
        return None
    numbers = np.concatenate([np.arange(received.first, received.first + received.records) for received in together])
    maybe: npt.NDArray[np.bool_] = numbers < session.maybe_stored
    return maybe


def state_rows(state: Mapping[str, Any], host_says: Mapping[str, Any]) -> pa.Table:
    """A generator's state, as a guest said it, with what its host knows of the device, as a row of ``rng_state``."""
    row = {**dict.fromkeys(TABLES["rng_state"].columns[4:]), **state, **host_says}
    for name, value in row.items():
        # Whole numbers and seconds here are counts: what is below zero, or without end, was not measured.
        if isinstance(value, (int, float)) and not 0 <= value < math.inf:
            row[name] = None
    for name in ("crng_ready", "cpu_rdrand", "cpu_rdseed", "trust_cpu"):
        row[name] = None if row[name] is None else row[name] == 1
    arrays = [
        pa.array([storable(row[field.name]) if isinstance(row[field.name], str) else row[field.name]], field.type)
        for field in _fields("rng_state")
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(_fields("rng_state")))


def _fields(table: str) -> list[pa.Field]:
    return list(TABLES[table].schema)[4:]


def _plausible(columns: _Columns, kind: int) -> npt.NDArray[np.bool_]:
    good = np.ones(len(next(iter(columns.values()))), bool)
    never_null = {field.name for field in _fields(_TABLES[kind]) if not field.nullable}
    for name, code in LAYOUTS[kind].fields:
        values = columns[name]
        if name == "t_ns":
            good &= (values >= 0) & (values < _MOST_T_NS)
        elif code == "b":
            good &= (values >= wire.NULL) & (values <= 1)
        elif code == "d":
            good &= ~np.isinf(values)
        elif code in "qi" and name not in _NO_COUNT:
            good &= values >= (0 if name in never_null else wire.NULL)
        elif code[-1] == "s" and name in never_null:
            good &= (values != b"\xff") & (values != b"")
    return good


def _forward(t_ns: npt.NDArray[np.int64], good: npt.NDArray[np.bool_], last: int, *, strictly: bool) -> npt.NDArray[np.bool_]:
    """Those whose time is later than that of all good ones before them."""
    seen = np.where(good, t_ns, -1)
    before = np.maximum(np.concatenate([[last], np.maximum.accumulate(seen)[:-1]]), last)
    forward: npt.NDArray[np.bool_] = t_ns > before if strictly else t_ns >= before
    return forward


def _again(columns: _Columns, kind: int, table: str, session: Session, already: Already) -> npt.NDArray[np.bool_]:
    """Those that are in the store: of a kind that has a time, all up to the latest."""
    if kind != wire.ALLOCATIONS:
        again: npt.NDArray[np.bool_] = columns["t_ns"] <= already.latest_t_ns(session.boot_id, table)
        return again
    known = already.allocations(session.boot_id)
    told = zip(*(columns[name].tolist() for name in ("position", "allocate_ns", "sync_ns")), strict=True)
    return np.array([one in known for one in told], bool)


def _utc(made: Rows, t_ns: _Numbers, utc_ns: _Numbers, together: list[Received]) -> _Numbers:
    """Each record's calendar time: the guest's, unless its clock is off by more than a day from the host's when it came.

    Then it is the host's, when the last of its frame came, less how long before that it was made.
    """
    counts = np.array([received.records for received in together])
    came = np.array([received.utc_ns for received in together])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    # Most are of now, and by a glance at each frame's first and last: floats, since a guest's numbers may overflow.
    far = [
        np.abs(edge.astype(np.float64) - came)
        for edge in (np.minimum.reduceat(utc_ns, starts), np.maximum.reduceat(utc_ns, starts))
    ]
    if max(edge.max() for edge in far) <= _DAY_NS:
        return utc_ns
    came_ns = np.repeat(came, counts)
    # What a guest kept for its host may be older than a day: it is the newest of what came together that tells the clock.
    ends = starts + counts - 1
    since = came_ns.astype(np.float64) - np.repeat(utc_ns[ends], counts)
    expected = came_ns - np.clip(np.repeat(t_ns[ends], counts) - t_ns, 0, _DAY_NS)
    off = (np.abs(since) > _DAY_NS) | (np.abs(utc_ns.astype(np.float64) - expected) > 2.0 * _DAY_NS)
    if off.any():
        worst_s = float(utc_ns[off][0]) / 1e9 - float(came_ns[off][0]) / 1e9
        made.anomalies.append(f"its clock is off by {worst_s:,.0f} s: the host's is used for {int(off.sum()):,} records")
    return np.where(off, expected, utc_ns)


def _table(table: str, columns: _Columns) -> pa.Table:
    fields = _fields(table)
    return pa.Table.from_arrays([_array(field, columns) for field in fields], schema=pa.schema(fields))


def _array(field: pa.Field, columns: _Columns) -> pa.Array:
    if field.name == "utc":
        return pa.array(columns["utc_ns"]).cast(field.type)
    if field.name not in columns:
        return pa.nulls(len(next(iter(columns.values()))), field.type)
    values = columns[field.name]
    if pa.types.is_string(field.type):
        return pa.array([_text(value) for value in values.tolist()], field.type)
    if pa.types.is_floating(field.type):
        return pa.array(values, mask=np.isnan(values))
    mask = values == wire.NULL if field.nullable else None
    if mask is not None and not mask.any():
        mask = None
    if pa.types.is_boolean(field.type):
        return pa.array(values == 1, mask=mask)
    return pa.array(values.astype(np.int64), mask=mask)


def _text(raw: bytes) -> str | None:
    return None if raw == b"\xff" else raw.decode("utf-8", "backslashreplace")
