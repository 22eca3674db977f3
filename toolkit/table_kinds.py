"""What tables are made of: columns with their unit and meaning, and the table itself. The tables are :mod:`toolkit.tables`'."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from toolkit.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["T_NS", "UTC", "WHEN", "Table", "column", "made_table", "real", "text", "truth", "whole"]

UTC = pa.timestamp("ns", tz="UTC")


def column(name: str, kind: pa.DataType, meaning: str, unit: str = "", *, null: bool = True) -> pa.Field:
    """A column of any type; ``null`` says whether a value may be missing."""
    return pa.field(name, kind, nullable=null, metadata={"unit": unit, "meaning": meaning})


def text(name: str, meaning: str, *, null: bool = True) -> pa.Field:
    """A column of text."""
    return column(name, pa.string(), meaning, null=null)


def whole(name: str, unit: str, meaning: str, *, null: bool = True) -> pa.Field:
    """A column of whole numbers, in a unit."""
    return column(name, pa.int64(), meaning, unit, null=null)


def real(name: str, unit: str, meaning: str) -> pa.Field:
    """A column of numbers, in a unit."""
    return column(name, pa.float64(), meaning, unit)


def truth(name: str, meaning: str, *, null: bool = True) -> pa.Field:
    """A column of yes and no."""
    return column(name, pa.bool_(), meaning, null=null)


_COMMON = (
    text("run_id", "the run that measured it", null=False),
    text("host", "the host's name", null=False),
    text("guest", "the guest's name; null for the host itself"),
    text("boot_id", "the kernel's boot_id: one value a boot", null=False),
)
T_NS = whole("t_ns", "ns", "CLOCK_BOOTTIME: since boot, sleep included", null=False)
WHEN = (T_NS, column("utc", UTC, "the same moment, UTC", null=False))


@dataclass(frozen=True)
class Table:
    """A table: its name, what a row is, its schema and the order its files are sorted in.

    Attributes
    ----------
    name : str
        As in the store's folder.
    row : str
        What one row is.
    schema : pyarrow.Schema
        Columns in order; each field's metadata has ``unit`` and ``meaning``.
    order : tuple of str
        Columns that a file is sorted by: a boot of a guest is contiguous, and in time.
    """

    name: str
    row: str
    schema: pa.Schema
    order: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.schema.names)

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """The pandas dtype of each column: ``Int64`` and ``boolean`` where null is possible, so that no null becomes 0 or NaN."""
        return {field.name: _dtype(field) for field in self.schema}

    def empty(self) -> pd.DataFrame:
        """A frame with all columns, their dtypes, and no row."""
        return self.frame({})

    def frame(self, columns: dict[str, Any]) -> pd.DataFrame:
        """A frame of this table from columns, each a sequence of as many values; a column that is not given is null.

        Raises
        ------
        UsageError
            If a column is not one of the table's, or one is longer than another.
        """
        import pandas as pd

        unknown = sorted(set(columns) - set(self.columns))
        if unknown:
            raise UsageError(f"table {self.name} has no column {unknown[0]!r}", f"It has: {', '.join(self.columns)}.")
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            detail = f"the columns given for table {self.name} are of {len(lengths)} lengths"
            raise UsageError(detail, "Give as many values in each.")
        # Column by column, each straight to its dtype: a list with a None would pass through float64 and lose nanoseconds.
        made = {name: pd.Series(values, dtype=self.dtypes[name]) for name, values in columns.items()}
        return pd.DataFrame(made).reindex(columns=self.columns).astype(self.dtypes)


def _dtype(field: pa.Field) -> str:
    if pa.types.is_string(field.type):
        return "str"
    if pa.types.is_boolean(field.type):
        return "boolean"
    if pa.types.is_floating(field.type):
        return "float64"
    if pa.types.is_timestamp(field.type):
        return "datetime64[ns, UTC]"
    return "Int64" if field.nullable else "int64"


def made_table(name: str, row: str, *columns: pa.Field, order: tuple[str, ...] = ()) -> Table:
    """A table, with the columns that every table begins with, sorted by guest, boot and time, and then as ``order`` says."""
    timed = ("t_ns",) if any(column.name == "t_ns" for column in columns) else ()
    return Table(name, row, pa.schema((*_COMMON, *columns)), ("guest", "boot_id", *timed, *order))
