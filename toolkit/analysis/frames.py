"""What every analysis asks of the frame it is given: pandas or Dask, with certain columns. Groups, but no statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from toolkit.errors import TableError, UsageError

if TYPE_CHECKING:
    import dask.dataframe as dd

__all__ = ["Frame", "check_columns", "column_names", "gather", "groups", "is_dask"]

#: Both are taken everywhere; what is given back is pandas.
Frame: TypeAlias = "pd.DataFrame | dd.DataFrame"


def is_dask(frame: Frame) -> bool:
    """Whether it is a Dask DataFrame rather than a pandas one.

    Raises
    ------
    TableError
        If it is neither.
    """
    if isinstance(frame, pd.DataFrame):
        return False
    if hasattr(frame, "to_delayed") and hasattr(frame, "columns"):
        return True
    raise TableError(f"an analysis takes a DataFrame of pandas or Dask, not {type(frame).__name__}", "Give a table as a DataFrame.")


def check_columns(frame: Frame, needed: Iterable[str], what: str) -> None:
    """See that the frame has the columns.

    Raises
    ------
    TableError
        Naming the first that it has not.
    """
    is_dask(frame)
    for name in needed:
        if name not in frame.columns:
            raise TableError(f"{what} needs the column {name}, which the frame has not", "Give the whole table.", column=name)


def column_names(by: str | Sequence[str]) -> list[str]:
    """Columns to group by, as a list; one name may be given alone.

    Raises
    ------
    UsageError
        If there is none, or one twice.
    """
    found = [by] if isinstance(by, str) else list(by)
    if not found or len(set(found)) < len(found):
        raise UsageError(f"by={by!r} does not name columns, each once", "Name one column or several to group by.")
    return found


def gather(frame: Frame, columns: Sequence[str], what: str) -> pd.DataFrame:
    """Those columns of the frame, in memory, their categoricals as text again.

    Raises
    ------
    TableError
        If one is missing.
    """
    check_columns(frame, columns, what)
    wanted = list(dict.fromkeys(columns))
    chosen: Any = frame[wanted]
    taken: pd.DataFrame = chosen.compute() if is_dask(frame) else chosen
    texts = [name for name in wanted if isinstance(taken[name].dtype, pd.CategoricalDtype)]
    return taken.astype(dict.fromkeys(texts, "str")).reset_index(drop=True)


def groups(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Each group's values of the columns, and its rows, in the order of the values; null is a value like any other."""
    for key, rows in frame.groupby(list(by), dropna=False, sort=True):
        yield dict(zip(by, key, strict=True)), rows
