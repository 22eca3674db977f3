"""What the store has of a guest already: a receiver that was killed between storing and saying so is told the same once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from toolkit.store import Store
from toolkit.tables import TABLES

__all__ = ["InStore"]


class InStore:
    """What the store has of one guest of this host, asked for when it is needed, once a boot and table.

    It says what was there before this receiver: what this one stores it knows by number.

    Parameters
    ----------
    store : Store
        The store.
    host, guest : str
        Whose.
    """

    def __init__(self, store: Store, host: str, guest: str) -> None:
        self._store = store
        self._whose = {"host": host, "guest": guest}
        self._latest: dict[tuple[str, str], int] = {}
        self._allocations: dict[str, set[tuple[int, ...]]] = {}

    def latest_t_ns(self, boot_id: str, table: str) -> int:
        """The latest ``t_ns`` of a boot in a table; -1 where there is none."""
        key = (boot_id, table)
        if key not in self._latest:
            # A guest keeps what was not acknowledged for hours, not for days; all of its samples may be more than memory holds.
            since = datetime.now(UTC) - timedelta(days=3) if "utc" in TABLES[table].columns else None
            rows = self._store.read(table, columns=["boot_id", "t_ns"], since=since, **self._whose)
            found = rows.loc[rows["boot_id"] == boot_id, "t_ns"]
            self._latest[key] = int(found.max()) if len(found) else -1
        return self._latest[key]

    def allocations(self, boot_id: str) -> set[tuple[int, ...]]:
        """Of each allocation of a boot: position, allocate_ns, sync_ns; null as -1."""
        if boot_id not in self._allocations:
            names = ["position", "allocate_ns", "sync_ns"]
            rows = self._store.read("allocations", columns=["boot_id", *names], **self._whose)
            found = rows.loc[rows["boot_id"] == boot_id, names].fillna(-1)
            self._allocations[boot_id] = {tuple(map(int, row)) for row in found.itertuples(index=False)}
        return self._allocations[boot_id]
