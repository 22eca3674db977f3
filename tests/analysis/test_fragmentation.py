"""Pieces of files: null is not comparable and never none."""

from __future__ import annotations

import pandas as pd
import pytest

from toolkit import fragmentation
from toolkit.errors import TableError
from toolkit.tables import TABLES


def files(
    method: str, extents: list[int | None], discontinuities: list[int | None], errno: list[int | None] | None = None
) -> pd.DataFrame:
    n = len(extents)
    same = {"run_id": "r", "host": "h", "boot_id": "b", "filesystem": "btrfs", "method": method, "size_bytes": 4096}
    return TABLES["allocations"].frame(
        {**{name: [value] * n for name, value in same.items()}, "repeat": range(n), "position": range(n),
         "extents": extents, "discontinuities": discontinuities, "errno": errno or [None] * n}
    )  # fmt: skip


def test_medians_leave_out_what_cannot_be_compared_and_count_it() -> None:
    (row,) = fragmentation(files("a", [3, 5, 4, 9], [2, None, None, 8])).to_dict("records")
    assert (row["n"], row["not_comparable"], row["not_listed"]) == (4, 2, 0)
    assert (row["extents"], row["discontinuities"]) == (4.5, 5.0)
    assert (row["extents_low"], row["extents_high"]) == (3, 9)
    assert pd.isna(row["discontinuities_low"])


def test_no_comparable_file_gives_no_number_rather_than_none() -> None:
    (row,) = fragmentation(files("a", [None] * 3, [None] * 3)).to_dict("records")
    assert pd.isna(row["discontinuities"])
    assert pd.isna(row["extents"])
    assert (row["not_listed"], row["not_comparable"]) == (3, 3)


def test_failed_allocations_are_counted_apart() -> None:
    (row,) = fragmentation(files("a", [1, None], [0, None], [None, 28])).to_dict("records")
    assert (row["n"], row["failed"], row["not_comparable"], row["discontinuities"]) == (1, 1, 0, 0)


def test_a_row_a_group() -> None:
    found = fragmentation(pd.concat([files("a", [1], [0]), files("b", [2], [1])]), by=["method"])
    assert found[["method", "extents"]].values.tolist() == [["a", 1.0], ["b", 2.0]]


def test_another_table_is_refused() -> None:
    with pytest.raises(TableError, match="extents"):
        fragmentation(TABLES["runs"].empty(), by="host")
