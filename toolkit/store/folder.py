"""The store as people use it: open, append, read, scan."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from toolkit import conform
from toolkit.errors import NotMeasuredWarning, UsageError
from toolkit.runs import storable
from toolkit.store.growing import Growing
from toolkit.store.layout import make_store
from toolkit.store.reading import Where, parts, paths, read_part, rows_of
from toolkit.store.writing import append as append_rows
from toolkit.tables import TABLES, Table
from toolkit.tables import table as table_of

if TYPE_CHECKING:
    import dask.dataframe as dd

__all__ = ["Store", "open_store"]

Names = str | Iterable[str] | None
Moment = str | datetime | pd.Timestamp | None


def open_store(path: str | Path, create: bool = True) -> Store:
    """Open the store in a folder; a new or empty folder becomes one.

    Parameters
    ----------
    path : str or Path
        The folder.
    create : bool
        Whether a folder that is missing or empty is made a store.

    Raises
    ------
    StoreError
        If it holds something else, is not there, is of a newer version, or may not be opened.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     store.tables()
    []
    """
    given = Path(path)
    # Only the user's own home is meant by a tilde: any other may begin a name.
    root = (given.expanduser() if given.parts[:1] == ("~",) else given).absolute()
    make_store(root, create=create)
    return Store(root)


class Store:
    """A folder of Parquet files, one folder a table. Made by :func:`open_store`.

    It holds nothing but its path: open it as often as you like, in as many processes, and read while others append.

    Attributes
    ----------
    path : Path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def append(self, table: str, frame: pd.DataFrame) -> list[Path]:
        """Append a frame to a table, one file for each of its hosts; a file is there whole or not at all.

        The files are put in place one right after the other: where the process is killed or the machine loses power in between,
        those of some hosts are there and those of others are not. An append of one host is there or is not.

        Parameters
        ----------
        table : str
            Its name.
        frame : pandas.DataFrame
            Its rows, in any order; see :mod:`toolkit.conform` for what fits. One without rows changes nothing.

        Returns
        -------
        list of Path
            The files, which are on the disk when this returns.

        Raises
        ------
        TableError
            If the frame does not fit its table; nothing is written.
        StoreError
            If the system refuses (no room, no permission, …); nothing is in the store then.
        """
        rows = conform.to_arrow(table, frame)
        return append_rows(self.path, table_of(table), rows) if rows.num_rows else []

    def growing(self, table: str, host: str) -> Growing:
        """A file of one host's rows that grows, for rows that come every second; see :mod:`toolkit.store.growing`.

        Raises
        ------
        UsageError
            If there is no such table.
        """
        return Growing(self.path, table_of(table), host)

    def read(
        self,
        table: str,
        *,
        columns: Iterable[str] | None = None,
        host: Names = None,
        guest: Names = None,
        run: Names = None,
        since: Moment = None,
        until: Moment = None,
    ) -> pd.DataFrame:
        """Rows of a table. What is not asked for is not read, as far as folders and statistics can tell.

        Parameters
        ----------
        table : str
            Its name.
        columns : iterable of str, optional
            These columns alone, in this order.
        host, guest, run : str or iterable of str, optional
            Rows of these alone; None for all. ``guest=HOST_ITSELF`` (the empty name) is for rows of the host itself.
        since, until : str, datetime or Timestamp, optional
            Rows from ``since`` on and before ``until``; without a time zone they are UTC. By ``utc``, or ``started_utc`` of
            ``runs``; in a table without either by when the row's run began, and rows whose run is not in ``runs`` are left out
            with a :class:`~toolkit.errors.NotMeasuredWarning`.

        Returns
        -------
        pandas.DataFrame
            With exactly the dtypes of ``TABLES[name].dtypes``; file by file in the order of their names, sorted within each. Names
            begin with host, day and the clock's time of the append, so that a clock set back changes the order and loses nothing.

        Raises
        ------
        UsageError
            If there is no such table or column, or a time cannot be meant.
        StoreError
            If the store went away, or this process may open no more files.

        Warns
        -----
        DamagedFileWarning
            Once for each file that cannot be read or does not belong; the rest is read.
        """
        made = table_of(table)
        wanted = _columns(made, columns)
        given = {"host": _names(host), "guest": _names(guest), "run_id": _names(run)}
        names: dict[str, Collection[str]] = {key: found for key, found in given.items() if found is not None}
        since_ns, until_ns = _moment_ns(since), _moment_ns(until)
        timed = next((column for column in ("utc", "started_utc") if column in made.columns), None)
        bounded = since_ns is not None or until_ns is not None
        chosen = parts(paths(self.path, made, names.get("host")), made)
        if bounded and timed is None:
            rows = rows_of(chosen, made, list(dict.fromkeys([*wanted, "run_id"])), Where(names))
            rows = self._begun(made, rows, since_ns, until_ns).select(wanted)
        else:
            rows = rows_of(chosen, made, wanted, Where(names, timed if bounded else None, since_ns, until_ns))
        return conform.to_pandas(table, rows)

    def scan(self, table: str, columns: Iterable[str] | None = None) -> dd.DataFrame:
        """A table as a Dask DataFrame, one partition a file; nothing but footers is read until it is computed.

        Parameters
        ----------
        table : str
            Its name.
        columns : iterable of str, optional
            These columns alone. What a computation does not use is not read in any case.

        Returns
        -------
        dask.dataframe.DataFrame
            As :meth:`read` gives, but ``run_id``, ``host``, ``guest`` and ``boot_id`` are categoricals, of other categories in
            each partition: taken from the files as they are, so that an analysis works on their codes.

        Warns
        -----
        DamagedFileWarning
            As :meth:`read`; also when a partition is computed.
        """
        import dask
        import dask.dataframe as dd
        from dask.dataframe.utils import clear_known_categories

        made = table_of(table)
        wanted = _columns(made, columns)
        files = [str(part.path) for part in parts(paths(self.path, made), made)]
        empty = conform.to_pandas(table, made.schema.empty_table().select(wanted), categorical=conform.ID_COLUMNS)
        meta = clear_known_categories(empty)  # type: ignore[no-untyped-call]
        if not files:
            nothing: dd.DataFrame = dd.from_pandas(meta, npartitions=1)  # type: ignore[no-untyped-call]
            return nothing
        with dask.config.set({"dataframe.convert-string": False}):  # the frames have their dtypes already
            scanned: dd.DataFrame = dd.from_map(  # type: ignore[no-untyped-call]
                read_part, files, columns=wanted, args=[table], meta=meta, label=f"scan-{table}"
            )
        return scanned

    def tables(self) -> list[str]:
        """The names of the tables of which there is a file, in the order of ``TABLES``."""
        return [name for name, made in TABLES.items() if next(paths(self.path, made), None) is not None]

    def files(self, table: str) -> list[Path]:
        """The files of a table, whole ones that are its own, in the order in which they are read."""
        made = table_of(table)
        return [part.path for part in parts(paths(self.path, made), made)]

    def runs(self) -> pd.DataFrame:
        """The table ``runs``, the latest last."""
        return self.read("runs").sort_values(["started_utc", "run_id"], ignore_index=True)

    def _begun(self, made: Table, rows: pa.Table, since_ns: int | None, until_ns: int | None) -> pa.Table:
        """Those of the rows whose run began in that time."""
        runs = TABLES["runs"]
        known = rows_of(parts(paths(self.path, runs), runs), runs, ["run_id", "started_utc"], Where({}))
        begun = Where({}, "started_utc", since_ns, until_ns).of(known)
        told = pc.is_in(rows["run_id"], value_set=_texts(known["run_id"]))
        unknown = rows.num_rows - (pc.sum(told).as_py() or 0)
        if unknown:
            what = (
                f"{unknown} rows of {made.name} were left out: their run is not in the table runs, so nothing says when they were"
            )
            warnings.warn(NotMeasuredWarning(what), stacklevel=3)
        return rows.filter(pc.is_in(rows["run_id"], value_set=_texts(begun["run_id"])))


def _texts(column: pa.ChunkedArray) -> pa.Array:
    return column.cast(pa.string()).combine_chunks()


def _columns(made: Table, columns: Iterable[str] | None) -> list[str]:
    if columns is None:
        return made.columns
    wanted = [columns] if isinstance(columns, str) else list(columns)
    for name in wanted:
        if name not in made.columns:
            raise UsageError(f"table {made.name} has no column {name!r}", f"It has: {', '.join(made.columns)}.")
    if len(set(wanted)) < len(wanted):
        raise UsageError(f"a column is asked for twice: {', '.join(wanted)}", "Name each once.")
    return wanted


def _names(given: Names) -> set[str] | None:
    if given is None:
        return None
    names = {given} if isinstance(given, str) else set(given)
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"{name!r} is not a name", "Give text, or None for no filter; HOST_ITSELF is for the host itself.")
        if storable(name) != name:
            raise UsageError(f"{name!r} is not UTF-8, as all text in a store is", f"There it is written {storable(name)!r}.")
    return names


def _moment_ns(given: Moment) -> int | None:
    if given is None:
        return None
    try:
        moment = pd.Timestamp(given)
        if pd.isna(moment):
            raise ValueError("not a time")
        moment = moment.tz_localize(UTC) if moment.tzinfo is None else moment.tz_convert(UTC)
        return int(moment.as_unit("ns").value)
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{given!r} is not a time", "Write it as 2026-01-31 or 2026-01-31T12:00:00+00:00.") from error
