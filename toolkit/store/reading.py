"""Finds the files of a table, says which are damaged and why, and reads no more of the others than was asked for.

What can be told without opening a file is told from its folder (``host=``), then from its footer (whose it is, its schema), then
from the statistics of each row group; only row groups that may hold a wanted row are read, and only the columns wanted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit import conform
from toolkit.errors import DamagedFileWarning
from toolkit.store.layout import check_still_there, host_folder, newest, store_error, successor
from toolkit.store.seal import is_broken
from toolkit.store.writing import METADATA_KEY
from toolkit.tables import SCHEMA_VERSION, TABLES, Table, table

__all__ = ["HOST_ITSELF", "Part", "Where", "parts", "paths", "read_part", "rows_of"]

#: As ``guest``: the host itself, whose rows have null there. No guest has an empty name.
HOST_ITSELF = ""

_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class Where:
    """Which rows are wanted; None where it does not matter.

    Attributes
    ----------
    names : dict
        For some of ``run_id``, ``host``, ``guest``: the names wanted. ``HOST_ITSELF`` among the guests' is null.
    timed : str or None
        The column of time that ``since_ns`` and ``until_ns`` (from, up to and not with) are about.
    """

    names: dict[str, Collection[str]]
    timed: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that must be read to tell."""
        return [*self.names, *([self.timed] if self.timed else [])]

    def may_match(self, group: pq.RowGroupMetaData, place: dict[str, int]) -> bool:
        """Whether the statistics leave open that the row group has a wanted row."""
        for name, wanted in self.names.items():
            known = group.column(place[name]).statistics
            if known is None or not known.has_null_count:
                continue
            if HOST_ITSELF in wanted and known.null_count:
                continue
            if known.has_min_max and not any(known.min <= value <= known.max for value in wanted):
                return False
            if known.null_count == group.num_rows:
                return False
        known = group.column(place[self.timed]).statistics if self.timed else None
        if known is None or not known.has_min_max:
            return True
        after = self.since_ns is None or known.max_raw >= self.since_ns
        return after and (self.until_ns is None or known.min_raw < self.until_ns)

    def of(self, rows: pa.Table) -> pa.Table:
        """The wanted ones of these rows."""
        for name, wanted in self.names.items():
            mask = pc.is_in(rows[name], value_set=pa.array(sorted(set(wanted) - {HOST_ITSELF}), pa.string()))
            if HOST_ITSELF in wanted:
                mask = pc.or_(mask, pc.is_null(rows[name]))
            rows = rows.filter(mask)
        if self.timed is None:
            return rows
        for bound, compare in ((self.since_ns, pc.greater_equal), (self.until_ns, pc.less)):
            if bound is not None:
                rows = rows.filter(compare(rows[self.timed], pa.scalar(bound, rows.schema.field(self.timed).type)))
        return rows


@dataclass(frozen=True)
class Part:
    """A file of a store whose footer was read and found to be its table's."""

    path: Path
    table: Table
    metadata: pq.FileMetaData
    name: str

    def constant(self, name: str) -> pa.DictionaryArray | None:
        """A column of text as its statistics tell it, where in each row group all its values are one; None where they are not."""
        groups = [self.metadata.row_group(i) for i in range(self.metadata.num_row_groups)]
        place = self.table.columns.index(name)
        values: list[str | None] = []
        for group in groups:
            known = group.column(place).statistics
            if known is None or not known.has_null_count:
                return None
            if known.null_count == group.num_rows:
                values.append(None)
            elif known.null_count == 0 and known.has_min_max and known.min == known.max:
                values.append(known.min)
            else:
                return None
        encoded = pa.array(values, pa.string()).dictionary_encode()
        # As narrow as they fit, as pandas has them: what is as long as the rows and is not needed would cost more than it tells.
        kind = np.min_scalar_type(-len(encoded.dictionary) - 1)
        codes = np.repeat(np.asarray(encoded.indices.fill_null(-1)).astype(kind), [group.num_rows for group in groups])
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0 if None in values else None), encoded.dictionary)

    def read(self, columns: list[str], where: Where, *, threads: bool = True) -> pa.Table | None:
        """The wanted rows, as Arrow; None where the statistics already say that there are none."""
        place = {name: i for i, name in enumerate(self.table.columns)}
        groups = [i for i in range(self.metadata.num_row_groups) if where.may_match(self.metadata.row_group(i), place)]
        if not groups:
            return None
        needed = [name for name in self.table.columns if name in columns or name in where.columns]
        with _source(self.path) as source, pq.ParquetFile(source, metadata=self.metadata, page_checksum_verification=True) as file:
            return where.of(file.read_row_groups(groups, columns=needed, use_threads=threads)).select(columns)


def paths(root: Path, made: Table, hosts: Collection[str] | None = None) -> Iterator[Path]:
    """The files of a table in the order of their names, those of some hosts alone where given; what is foreign is warned of."""
    check_still_there(root)
    wanted = None if hosts is None else {host_folder(host) for host in hosts}
    if not os.path.lexists(root / made.name):
        return
    if (root / made.name).is_symlink():
        _warn(root / made.name, "it is a symbolic link")
        return
    for host in _entries(root / made.name, "host=", folders=True):
        if wanted is not None and host.name not in wanted:
            continue
        for day in _entries(host, "date=", folders=True):
            yield from map(day.joinpath, newest([path.name for path in _entries(day, "part-", folders=False)]))


def parts(files: Iterable[Path], made: Table) -> list[Part]:
    """Those of the files that are whole and the table's own, each once; the others are warned of, each with the reason."""
    found: dict[str, Part] = {}
    for path in files:
        part = _look_again(path, made)
        if isinstance(part, str):
            _warn(path, part)
            continue
        twin = found.get(part.name)
        if twin is None:
            found[part.name] = part
            continue
        kept, copy = (part, twin) if part.path.name == part.name != twin.path.name else (twin, part)
        found[part.name] = kept
        _warn(copy.path, f"it is a copy of {kept.path.name}, and its rows would count twice")
    return list(found.values())


def rows_of(chosen: Iterable[Part], made: Table, columns: list[str], where: Where, *, threads: bool = True) -> pa.Table:
    """The wanted rows of several files, in their order; a file found damaged on the way is warned of and left out."""
    read = []
    for part in chosen:
        try:
            rows = _read_again(part, columns, where, threads=threads)
        except _BROKEN as error:
            _warn(part.path, _why(part.path, error))
        else:
            if rows is not None:
                read.append(rows)
    return pa.concat_tables(read) if read else made.schema.empty_table().select(columns)


def _read_again(part: Part, columns: list[str], where: Where, *, threads: bool) -> pa.Table | None:
    """What a file has, or its successor where it grew meanwhile."""
    while True:
        try:
            return part.read(columns, where, threads=threads)
        except FileNotFoundError:
            later = successor(part.path)
            found = None if later is None else _look_again(later, part.table)
            if not isinstance(found, Part):
                raise
            part = found


def read_part(path: str, name: str, columns: list[str] | None = None) -> pd.DataFrame:
    """One file as a frame, its common text columns as categoricals: a partition of a scan, wherever it is computed."""
    made = table(name)
    wanted = made.columns if columns is None else list(columns)
    found = parts([Path(path)], made)
    told = {column: found[0].constant(column) for column in conform.ID_COLUMNS if found and column in wanted}
    known = pa.table({column: values for column, values in told.items() if values is not None})
    untold = [column for column in wanted if column not in known.column_names]
    # A partition is one thread's work already, so Arrow is not to start its own.
    rows = rows_of(found, made, untold, Where({}), threads=False) if untold else known
    for column in known.column_names if untold else ():
        rows = rows.append_column(column, known[column][: rows.num_rows])  # none of a file found damaged
    return conform.to_pandas(name, rows.select(wanted), categorical=conform.ID_COLUMNS)


def _entries(folder: Path, prefix: str, *, folders: bool) -> list[Path]:
    """What of a folder belongs to a store, sorted by name; hidden names are passed over, anything else is warned of."""
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        _warn(folder, _why(folder, error))
        return []
    good = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        kind = entry.is_dir(follow_symlinks=False) if folders else entry.is_file(follow_symlinks=False)
        if entry.is_symlink():
            _warn(Path(entry.path), "it is a symbolic link")
        elif not kind or not entry.name.startswith(prefix) or not (folders or entry.name.endswith(".parquet")):
            _warn(Path(entry.path), "it is nothing that a store holds there")
        else:
            good.append(Path(entry.path))
    return good


def _look_again(path: Path, made: Table) -> Part | str:
    """The file, or its successor where it grew meanwhile."""
    while True:
        later = None if path.exists() else successor(path)
        if later is None:
            found = _look(path, made)
            if isinstance(found, Part) or path.exists() or successor(path) is None:
                return found
        else:
            path = later


def _look(path: Path, made: Table) -> Part | str:
    """The file with its footer, or why it is not one of the table's."""
    try:
        if path.stat().st_size == 0:
            return "it is empty (0 bytes)"
        if is_broken(path):
            return "it is not a whole Parquet file (its footer is not the one that was written)"
        with _source(path) as source:
            metadata = pq.read_metadata(source)
        schema = metadata.schema.to_arrow_schema()
    except _BROKEN as error:
        return _why(path, error)
    try:
        described = json.loads((metadata.metadata or {})[METADATA_KEY])
        version, of, host, name = (described[key] for key in ("schema_version", "table", "host", "part"))
        folder = host_folder(str.__str__(host))
        str.__str__(name)
    except KeyError:
        return "it is Parquet, but not written by this toolkit"
    except (ValueError, TypeError, RecursionError):
        return "what it says of itself is damaged"
    if version != SCHEMA_VERSION:
        return f"its tables are of version {version!r}, and this toolkit knows version {SCHEMA_VERSION}"
    if of != made.name:
        return f"it is of table {of!r}"
    if schema.names != made.columns:
        return f"its columns are not those of table {made.name}"
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if kind != made.schema.field(field.name).type:
            return f"its column {field.name} is {kind} where table {made.name} has {made.schema.field(field.name).type}"
    if path.parts[-3] != folder:
        return f"it is of host {host!r}, and lies in the folder of another"
    return Part(path, made, metadata, name)


@contextlib.contextmanager
def _source(path: Path) -> Iterator[Path | IO[bytes]]:
    """A file as Arrow takes it: by its path, unless that is no UTF-8, which Arrow cannot open."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield file
    else:
        yield path


def _why(path: Path, error: Exception) -> str:
    """Why a file or folder was left out; an error that is not its own fault comes out as one of the store's."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise store_error(f"{path} cannot be opened", path, error) from error
    if isinstance(error, FileNotFoundError):
        check_still_there(next(place.parent for place in (path, *path.parents) if place.name in TABLES))
        return "it was removed while the store was read"
    if isinstance(error, PermissionError):
        return "this user may not read it"
    if isinstance(error, OSError) and error.errno:
        return f"it cannot be read: {os.strerror(error.errno)}"
    if isinstance(error, MemoryError):
        return "reading it takes more memory than there is"
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"it is not a whole Parquet file ({first})"


def _warn(path: Path, why: str) -> None:
    warning = DamagedFileWarning(f"{str(path)!r} was left out: {why}")
    if "distributed.worker" in sys.modules:
        from distributed import warn  # on a cluster's worker, tells the client too; elsewhere the same as below

        warn(warning)
    else:
        warnings.warn(warning, stacklevel=3)
