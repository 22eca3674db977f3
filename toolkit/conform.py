"""Between frames and Arrow: a frame is made to fit its table without loss, or refused with the column and the reason.

Here is what fits and what does not. What the tables are is said in :mod:`toolkit.tables`; how they are kept on disk in
:mod:`toolkit.store`.

A value is never changed into another. Whole floats become integers up to 2 ** 53, beyond which floats no longer tell one whole
number from the next; integers become floats under the same rule; NaN is null; infinities are refused, since no measurement gives
one and every statistic after it would be spoilt; timestamps keep their instant and must say their time zone; text must be UTF-8
and names of runs, hosts, guests and boots must not be empty. A column without any value fits wherever null is allowed, whatever
its dtype. The frame's index is not part of its table and is not kept; the order of its columns does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.errors import TableError
from toolkit.signals import held_back
from toolkit.tables import Table, table

__all__ = ["ID_COLUMNS", "to_arrow", "to_pandas"]

#: The columns that say whose row it is: few values, many rows; never empty text.
ID_COLUMNS = ("run_id", "host", "guest", "boot_id")

_EXACT = 2**53
_NOT_A_TIME = np.iinfo(np.int64).min


@held_back()
def to_arrow(name: str, frame: pd.DataFrame) -> pa.Table:
    """The frame as Arrow, with exactly its table's schema.

    Parameters
    ----------
    name : str
        The table's name.
    frame : pandas.DataFrame
        Its rows; any dtype whose values fit the column without loss.

    Returns
    -------
    pyarrow.Table
        The rows in the frame's order, the columns in the table's.

    Raises
    ------
    TableError
        If the frame does not fit; ``column`` names the first column at fault.
    UsageError
        If there is no such table.

    Examples
    --------
    >>> from toolkit.tables import TABLES
    >>> frame = TABLES["free_extents"].frame(
    ...     {"run_id": ["r"], "host": ["h"], "boot_id": ["b"], "filesystem": ["xfs"], "physical_byte": [0], "length_bytes": [512]}
    ... )
    >>> to_arrow("free_extents", frame).num_rows
    1
    >>> to_arrow("free_extents", frame.assign(length_bytes=1.5))
    Traceback (most recent call last):
        ...
    toolkit.errors.TableError: column length_bytes of table free_extents: 1.5 is not a whole number. Give whole numbers.
    """
    made = table(name)
    if not isinstance(frame, pd.DataFrame):
        raise TableError(f"table {name} takes a pandas DataFrame, not {type(frame).__name__}", "Give a DataFrame.")
    _check_columns(made, frame)
    arrays = [_column(made, field, frame[field.name]) for field in made.schema]
    return pa.Table.from_arrays(arrays, schema=made.schema)


@held_back()
def to_pandas(name: str, rows: pa.Table, *, categorical: Sequence[str] = ()) -> pd.DataFrame:
    """Arrow as a frame with exactly the table's dtypes.

    Parameters
    ----------
    name : str
        The table's name.
    rows : pyarrow.Table
        Rows with some or all of its columns; text may be dictionary-encoded.
    categorical : sequence of str
        Text columns to give as categoricals rather than ``str``.

    Returns
    -------
    pandas.DataFrame
        The columns of ``rows``, in their order, with a plain range as index.
    """
    dtypes = table(name).dtypes
    columns = {
        column: _categories(rows[column]) if column in categorical else _back(rows[column], dtypes[column])
        for column in rows.column_names
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(rows.num_rows), columns=pd.Index(rows.column_names), copy=False)


def _check_columns(made: Table, frame: pd.DataFrame) -> None:
    names = list(frame.columns)
    has = f"It has: {', '.join(made.columns)}."
    for label in names:
        if not isinstance(label, str) or label not in made.columns:
            raise TableError(f"table {made.name} has no column {label!r}", has, column=str(label))
    for column in made.columns:
        if column not in names:
            raise TableError(f"table {made.name} needs the column {column}, which the frame has not", has, column=column)
        if names.count(column) > 1:
            raise TableError(f"the frame has the column {column} more than once", "Give each column once.", column=column)


def _column(made: Table, field: pa.Field, series: pd.Series[Any]) -> pa.Array:
    def refuse(reason: str, remedy: str) -> NoReturn:
        raise TableError(f"column {field.name} of table {made.name}: {reason}", remedy, column=field.name)

    if isinstance(series.dtype, pd.SparseDtype):
        series = pd.Series(series.sparse.to_dense())  # type: ignore[attr-defined]  # the stubs know no accessor here
    if isinstance(series.dtype, pd.CategoricalDtype) and series.dtype.categories.dtype == object:
        series = series.astype(object)  # Arrow would guess one type for all of them, and cut nanoseconds off for it
    nulls = series.isna()
    if nulls.all() and len(series):
        array = pa.nulls(len(series), field.type)
    else:
        try:
            array = _array(field, series, refuse)
        except (pa.ArrowException, OverflowError, UnicodeError, pd.errors.OutOfBoundsDatetime) as error:
            refuse(_reason(error, series), f"Give values of {made.dtypes[field.name]}.")
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.null_count and not field.nullable:
        place = int(np.flatnonzero(np.asarray(pc.is_null(array)))[0])
        refuse(f"null in row {place}, where null never is", "Leave the row out, or say what its value is.")
    if field.name in ID_COLUMNS and pc.any(pc.equal(array, "")).as_py():
        refuse("it is empty in some row, and a name never is", "Give the name; for the host itself guest is null.")
    return array


def _reason(error: Exception, series: pd.Series[Any]) -> str:
    if isinstance(error, UnicodeError):
        return "some text is not valid Unicode (a lone surrogate) and cannot be written as UTF-8"
    if isinstance(error, (OverflowError, pd.errors.OutOfBoundsDatetime)):
        return "some value is out of range"
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"its values ({series.dtype}) do not fit: {first}"


_Refuse = Callable[[str, str], NoReturn]


def _array(field: pa.Field, series: pd.Series[Any], refuse: _Refuse) -> pa.Array:
    """The series as an array of the field's type, by what kind of values it holds."""
    if series.dtype == object:
        return _from_objects(field.type, series, refuse)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        array = pa.array(series.dt.tz_convert("UTC").dt.as_unit("ns"))
    else:
        array = pa.array(series, from_pandas=True)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_null(array.type):
        return array.cast(field.type)
    if pa.types.is_string(field.type):
        return _text(array, refuse)
    if pa.types.is_timestamp(field.type):
        return _instants(array, field.type, refuse)
    if pa.types.is_boolean(field.type):
        if not pa.types.is_boolean(array.type):
            refuse(f"{array.type} is not true or false", "Give booleans.")
        return array
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        refuse(f"{array.type} is not a number", "Give numbers.")
    return _whole(array, refuse) if pa.types.is_integer(field.type) else _real(array, refuse)


def _text(array: pa.Array, refuse: _Refuse) -> pa.Array:
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type)):
        refuse(f"{array.type} is not text", "Give text.")
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        refuse("some text is not valid UTF-8", "Decode it first, for example with errors='backslashreplace'.")
    return array.cast(pa.string())


def _instants(array: pa.Array, kind: pa.DataType, refuse: _Refuse) -> pa.Array:
    if not pa.types.is_timestamp(array.type):
        refuse(f"{array.type} is not a timestamp", "Give timestamps with their time zone.")
    if array.type.tz is None:
        refuse("its timestamps do not say their time zone", "Say which it is, for example with .dt.tz_localize('UTC').")
    array = array.cast(kind)
    if pc.any(pc.equal(array.cast(pa.int64()), _NOT_A_TIME)).as_py():
        refuse("some timestamp is out of range", "Give timestamps between 1677 and 2262.")
    return array


def _whole(array: pa.Array, refuse: _Refuse) -> pa.Array:
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    array = _finite(array, refuse)
    fraction = array.filter(pc.not_equal(pc.trunc(array), array))
    if len(fraction):
        refuse(f"{fraction[0].as_py()!r} is not a whole number", "Give whole numbers.")
    _within_exact(array, refuse)
    return array.cast(pa.int64())


def _real(array: pa.Array, refuse: _Refuse) -> pa.Array:
    if pa.types.is_integer(array.type):
        _within_exact(array, refuse)
        return array.cast(pa.float64())
    return _finite(array, refuse)


def _finite(array: pa.Array, refuse: _Refuse) -> pa.Array:
    array = array.cast(pa.float64())
    if pc.any(pc.is_nan(array)).as_py():  # dtypes of Arrow and of pandas' masks can hold NaN beside null
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)
    if pc.any(pc.is_inf(array)).as_py():
        refuse("some value is infinite, which no measurement is", "Leave it null, or leave the row out.")
    return array


def _within_exact(array: pa.Array, refuse: _Refuse) -> None:
    beyond = array.filter(pc.or_(pc.greater(array, _EXACT), pc.less(array, -_EXACT)))
    if len(beyond):
        refuse(
            f"{beyond[0].as_py()!r} is beyond 2**53, where a float no longer tells one whole number from the next",
            "Give it in the column's own dtype from the start.",
        )


def _from_objects(kind: pa.DataType, series: pd.Series[Any], refuse: _Refuse) -> pa.Array:
    """Python objects: each must be of the column's kind; nothing is guessed from the others."""
    values = [None if missing else value for value, missing in zip(series.array, series.isna(), strict=True)]
    wanted, words = _object_kind(kind)
    for found in {type(value) for value in values} - {type(None)}:
        truth = issubclass(found, (bool, np.bool_))
        if not issubclass(found, wanted) or (truth and not pa.types.is_boolean(kind)):
            refuse(f"it holds {found.__name__} among its objects, where {words} belongs", f"Give {words} alone.")
    if pa.types.is_timestamp(kind):
        return pa.array([None if value is None else _instant(value, refuse) for value in values], kind)
    if pa.types.is_floating(kind):
        for value in values:
            if value is not None and float(value) != value:
                refuse(f"{value!r} cannot be kept in 64 bits of float without loss", "Give a float.")
        return _finite(pa.array([None if value is None else float(value) for value in values], kind), refuse)
    if pa.types.is_integer(kind):
        return pa.array([None if value is None else int(value) for value in values], kind)
    if pa.types.is_boolean(kind):
        return pa.array([None if value is None else bool(value) for value in values], kind)
    return pa.array([None if value is None else str.__str__(value) for value in values], kind)


def _object_kind(kind: pa.DataType) -> tuple[tuple[type, ...], str]:
    if pa.types.is_timestamp(kind):
        return (datetime,), "a datetime with its time zone"
    if pa.types.is_floating(kind):
        return (float, int, np.floating, np.integer), "a number"
    if pa.types.is_integer(kind):
        return (int, np.integer), "a whole number"
    if pa.types.is_boolean(kind):
        return (bool, np.bool_), "true or false"
    return (str,), "text"


def _instant(value: datetime, refuse: _Refuse) -> int:
    if value.utcoffset() is None:
        refuse("its timestamps do not say their time zone", "Give datetimes with tzinfo.")
    return int(pd.Timestamp(value).tz_convert("UTC").as_unit("ns").value)


def _categories(column: pa.ChunkedArray) -> pd.Categorical:
    """Text by its codes; built by hand, since Arrow's own way looks at every code twice more."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    values = column.chunk(0).dictionary if column.num_chunks else []
    codes = [np.asarray(chunk.indices.fill_null(-1) if chunk.null_count else chunk.indices) for chunk in column.chunks]
    kind = pd.CategoricalDtype(pd.Index(np.asarray(values), dtype="str"))
    return pd.Categorical.from_codes(np.concatenate([np.zeros(0, np.int8), *codes]), dtype=kind, validate=False)


def _back(column: pa.ChunkedArray, dtype: str) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if dtype == "float64" or (dtype == "int64" and column.null_count == 0):
        return column.to_numpy()
    return pd.api.types.pandas_dtype(dtype).__from_arrow__(column)  # type: ignore[union-attr]
