"""Layers: byte for byte where a plain walk says that each byte lies."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings
from pandas.testing import assert_frame_equal

from toolkit import compose
from toolkit.conform import to_arrow
from toolkit.errors import UsageError
from toolkit.tables import TABLES

Extent = tuple[int, int | None, int] | tuple[int, int | None, int, str]


def extents(*rows: Extent, file: str = "f", layer: int = 0) -> pd.DataFrame:
    """Of each row: logical byte, physical byte, length, flags."""
    n = len(rows)
    full = [(*row, "")[:4] for row in rows]
    columns = (
        dict(zip(("logical_byte", "physical_byte", "length_bytes", "flags"), zip(*full, strict=True), strict=True)) if rows else {}
    )
    same = {"run_id": f"run of {file}", "host": "h", "boot_id": "b", "file": file, "layer": layer}
    return TABLES["extents"].frame({**{name: [value] * n for name, value in same.items()}, **columns})


def pieces(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    plain = frame[["logical_byte", "physical_byte", "length_bytes", "flags"]].astype(object)
    return [tuple(row) for row in plain.where(plain.notna(), None).itertuples(index=False)]


IMAGE = extents((0, 1000, 100), (100, 5000, 50), (200, 300, 100, "unwritten,last"), file="disk.img")


def test_an_extent_is_split_where_the_layer_below_is() -> None:
    assert pieces(compose(extents((0, 50, 80)), IMAGE)) == [(0, 1050, 50, ""), (50, 5000, 30, "")]


def test_a_hole_below_has_no_place() -> None:
    assert pieces(compose(extents((0, 140, 80, "last")), IMAGE)) == [
        (0, 5040, 10, ""), (10, None, 50, "unmapped"), (60, 300, 20, "last,unwritten"),
    ]  # fmt: skip
    assert pieces(compose(extents((0, 900, 8)), IMAGE)) == [(0, None, 8, "unmapped")]
    assert pieces(compose(extents((0, 7, 8)), extents())) == [(0, None, 8, "unmapped")]


@pytest.mark.parametrize("flags", ["encoded", "unknown,delalloc", "last,data_inline,not_aligned"])
def test_bytes_that_do_not_lie_one_for_one_have_no_place(flags: str) -> None:
    assert pieces(compose(extents((0, 0, 10, flags)), IMAGE)) == [(0, None, 10, flags)]
    below = extents((0, 700, 10, flags), file="disk.img")
    assert pieces(compose(extents((0, 0, 10)), below)) == [(0, None, 10, flags.removeprefix("last,"))]


def test_an_extent_without_a_place_of_its_own_stays_without() -> None:
    assert pieces(compose(extents((0, None, 10)), IMAGE)) == [(0, None, 10, "")]


def test_the_rows_are_the_outer_files_one_layer_down() -> None:
    both = pd.concat([extents((0, 0, 10), file="b"), extents((0, 20, 10), file="a")])
    found = compose(both, IMAGE)
    assert found[["run_id", "file", "layer"]].values.tolist() == [["run of a", "a", 1], ["run of b", "b", 1]]
    to_arrow("extents", found)


def test_no_extent_gives_none() -> None:
    assert compose(extents(), IMAGE).empty


def test_one_file_below_whose_extents_do_not_overlap_is_demanded() -> None:
    with pytest.raises(UsageError, match="2 files"):
        compose(extents(), pd.concat([IMAGE, extents((0, 0, 1))]))
    with pytest.raises(UsageError, match="overlap"):
        compose(extents(), extents((0, 0, 10), (9, 50, 10)))


@st.composite
def layouts(draw: st.DrawFn, file: str, size: int = 40) -> pd.DataFrame:
    """Extents of a file: some bytes in holes, each other byte somewhere."""
    edges = sorted(draw(st.sets(st.integers(0, size), max_size=10)))
    rows: list[Extent] = []
    for a, b in pairwise(edges):
        if draw(st.booleans()):
            rows.append(
                (a, draw(st.none() | st.integers(0, size)), b - a, draw(st.sampled_from(["", "", "encoded", "shared", "last"])))
            )
    return extents(*draw(st.permutations(rows)), file=file)


def walked(frame: pd.DataFrame) -> dict[int, tuple[int | None, bool]]:
    """Where each byte of the file lies, and whether it is shared."""
    found = {}
    for row in frame.itertuples():
        known = not pd.isna(row.physical_byte) and "encoded" not in row.flags
        for i in range(row.length_bytes):
            found[row.logical_byte + i] = (int(row.physical_byte) + i if known else None, "shared" in row.flags)
    return found


@given(outer=layouts("f"), inner=layouts("disk.img"))
@settings(max_examples=150, deadline=None)
def test_each_byte_lies_where_a_walk_through_the_layers_finds_it(outer: pd.DataFrame, inner: pd.DataFrame) -> None:
    found = compose(outer, inner)
    below = walked(inner)
    expected = {}
    for byte, (place, shared) in walked(outer).items():
        lower = (None, False) if place is None else below.get(place, (None, False))
        expected[byte] = (lower[0], shared or lower[1])
    assert walked(found) == expected
    assert found["length_bytes"].sum() == outer["length_bytes"].sum()
    assert (found["length_bytes"] > 0).all()


@given(a=layouts("f"), b=layouts("disk.img"), c=layouts("backing.img"))
@settings(max_examples=60, deadline=None)
def test_three_layers_are_the_same_in_either_order_of_work(a: pd.DataFrame, b: pd.DataFrame, c: pd.DataFrame) -> None:
    left, right = compose(compose(a, b), c), compose(a, compose(b, c))
    assert b.empty or set(left["layer"]) | set(right["layer"]) <= {2}
    assert {byte: place for byte, (place, _) in walked(left).items()} == {byte: place for byte, (place, _) in walked(right).items()}


def test_the_same_from_dask() -> None:
    import dask.dataframe as dd

    file = extents((0, 50, 80), (80, 0, 20))
    assert_frame_equal(compose(dd.from_pandas(file, npartitions=2), dd.from_pandas(IMAGE, npartitions=2)), compose(file, IMAGE))
