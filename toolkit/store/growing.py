"""Rows that come every second, for hours: into files that grow, rather than into a file a second.

A file grows by a new revision of it, which is written whole and put in place beside the last one, which is then removed: a reader
finds one or the other and never both (:func:`toolkit.store.layout.newest`), and whoever had found the one that went finds its
successor. Once a file has enough rows, or a day ends, the next is begun.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from toolkit.conform import ID_COLUMNS
from toolkit.ownership import as_owner_of
from toolkit.store.layout import date_folder, host_folder, new_part, revision, superseded
from toolkit.store.writing import put
from toolkit.tables import Table

__all__ = ["Growing", "Whose"]

#: A file has this many rows at most, or those of one addition: each second rewrites half of them, which must cost little.
MOST_ROWS = 200_000


class Whose(NamedTuple):
    """Whose rows they are: the columns that every table begins with."""

    run_id: str
    host: str
    guest: str | None
    boot_id: str


class Growing:
    """The newest rows of one table and host, as a file that grows. One writer has it, and no other.

    Parameters
    ----------
    root : Path
        The store.
    table : Table
        The table.
    host : str
        The host of all its rows.
    """

    def __init__(self, root: Path, table: Table, host: str, most_rows: int = MOST_ROWS) -> None:
        self._root = root
        self._table = table
        self._host = host
        self._most_rows = most_rows
        self._chunks: dict[Whose, list[pa.Table]] = {}
        self._rows = self._revision = 0
        self._part = new_part()
        self._day: date | None = None
        self._last: Path | None = None

    def add(self, added: Mapping[Whose, pa.Table]) -> int:
        """Add rows; they are on the disk when this returns.

        Parameters
        ----------
        added : mapping
            For each of whom, a table with the other columns, with exactly their types.

        Returns
        -------
        int
            How many.

        Raises
        ------
        StoreError
            If the system refuses; then none of them is in the store.
        """
        count: int = sum(rows.num_rows for rows in added.values())
        if not count:
            return 0
        today = datetime.now(UTC).date()
        if self._rows and (self._rows + count > self._most_rows or self._day != today):
            self._begin()
        chunks = {whose: list(rows) for whose, rows in self._chunks.items()}
        for whose, rows in added.items():
            if rows.num_rows:
                chunks.setdefault(whose, []).append(rows)
        place = self._place(today)
        put(self._root, self._table, self._host, _together(self._table, chunks), place)
        last, self._last = self._last, place
        with as_owner_of(self._root), contextlib.suppress(OSError):  # what stays is passed over by readers, and swept later
            if last is None:
                for old in superseded(place.parent):
                    old.unlink()
            else:
                last.unlink()
        self._chunks, self._rows, self._day = chunks, self._rows + count, today
        return count

    def _begin(self) -> None:
        self._chunks, self._part, self._last = {}, new_part(), None
        self._rows = self._revision = 0

    def _place(self, today: date) -> Path:
        self._revision += 1
        name = revision(self._part, self._revision)
        return self._root / self._table.name / host_folder(self._host) / date_folder(today) / name


def _together(table: Table, chunks: Mapping[Whose, list[pa.Table]]) -> pa.Table:
    """All rows, a guest's boot in one piece, with whose they are."""
    order = sorted(chunks, key=lambda whose: (whose.guest is not None, whose.guest or "", whose.boot_id, whose.run_id))
    rows = pa.concat_tables([rows for whose in order for rows in chunks[whose]])
    counts = [sum(part.num_rows for part in chunks[whose]) for whose in order]
    columns = {}
    for place, name in enumerate(ID_COLUMNS):
        encoded = pa.array([whose[place] for whose in order], pa.string()).dictionary_encode()
        codes = np.repeat(np.asarray(encoded.indices.fill_null(-1)), counts).astype(np.int32)
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), encoded.dictionary)
    fields = [pa.field(name, columns[name].type, field.nullable) for name, field in zip(ID_COLUMNS, table.schema, strict=False)]
    fields += [field for field in table.schema if field.name not in ID_COLUMNS]
    arrays = [*columns.values(), *(rows[field.name] for field in fields[len(ID_COLUMNS) :])]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
