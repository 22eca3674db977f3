"""Frames fit their table without loss, or are refused with the column and the reason."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import hypothesis.extra.pandas as pdst
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from pandas.testing import assert_frame_equal

from toolkit.conform import to_arrow, to_pandas
from toolkit.errors import TableError, UsageError
from toolkit.tables import TABLES

IDS = {"run_id": "r", "host": "h", "guest": None, "boot_id": "b"}


def samples(**columns: Any) -> pd.DataFrame:
    """Entropy samples of three rows, some columns replaced."""
    when = pd.date_range("2026-01-01", periods=3, freq="s", tz="UTC")
    given = {
        **IDS, "t_ns": [1, 2, 3], "utc": when, "entropy_avail_bits": [256, None, 0], "crng_ready": [True, None, False],
        "random_readable": [True, True, None],
    }  # fmt: skip
    return pd.DataFrame({**{name: pd.Series(value, index=range(3)) for name, value in given.items()}, **columns})


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_frame_of_each_table_comes_back_with_its_dtypes(name: str) -> None:
    empty = TABLES[name].empty()
    assert_frame_equal(to_pandas(name, to_arrow(name, empty)), empty)


def test_the_schema_has_the_units_of_its_table() -> None:
    made = to_arrow("entropy_samples", samples())
    assert made.schema.equals(TABLES["entropy_samples"].schema, check_metadata=True)
    assert made.schema.field("t_ns").metadata[b"unit"] == b"ns"


def test_the_order_of_columns_and_the_index_do_not_matter() -> None:
    frame = samples()
    turned = frame[frame.columns[::-1]].set_axis([7, 7, 7])
    assert to_arrow("entropy_samples", turned).equals(to_arrow("entropy_samples", frame))


NULL_TEXT = pd.Series([None] * 3, dtype="float64")

KEPT = [
    ("guest", pd.Series(["a", None, "b"], dtype="category"), ["a", None, "b"]),
    ("guest", pd.Series(["a", "ü\0\n", "b"], dtype=pd.ArrowDtype(pa.string())), ["a", "ü\0\n", "b"]),
    ("guest", pd.Series(["a", np.nan, pd.NA], dtype=object), ["a", None, None]),
    ("guest", NULL_TEXT, [None, None, None]),
    ("t_ns", pd.Series([1.0, 2.0, 2.0**53]), [1, 2, 2**53]),
    ("t_ns", pd.Series([1, 2, 3], dtype="uint8"), [1, 2, 3]),
    ("t_ns", pd.Series([-(2**63), 0, 2**63 - 1]), [-(2**63), 0, 2**63 - 1]),
    ("t_ns", pd.Series([1, 2, np.int8(3)], dtype=object), [1, 2, 3]),
    ("t_ns", pd.Series([1, 2, 3], dtype="category"), [1, 2, 3]),
    ("t_ns", pd.Series(pd.arrays.SparseArray([0, 0, 3])), [0, 0, 3]),
    ("entropy_avail_bits", pd.Series([1.0, np.nan, 3.0], dtype="float32"), [1, None, 3]),
    ("entropy_avail_bits", pd.Series([None] * 3, dtype=object), [None] * 3),
    ("entropy_avail_bits", pd.Series([pd.NaT] * 3), [None] * 3),
    ("crng_ready", pd.Series([True, None, np.False_], dtype=object), [True, None, False]),
]


@pytest.mark.parametrize(("column", "values", "expected"), KEPT)
def test_other_dtypes_are_kept_where_nothing_is_lost(column: str, values: pd.Series, expected: list[Any]) -> None:
    assert to_arrow("entropy_samples", samples(**{column: values}))[column].to_pylist() == expected


NAIVE = dt.datetime(2026, 1, 1)  # noqa: DTZ001
LATER = dt.timezone(dt.timedelta(hours=5, minutes=30))
REFUSED = [
    ("t_ns", [1.5, 2.0, 3.0], "1.5 is not a whole number"),
    ("t_ns", [1, None, 3], "null in row 1"),
    ("t_ns", [1.0, 2.0, 2.0**53 + 2], "2\\*\\*53"),
    ("t_ns", [1.0, np.inf, 3.0], "infinite"),
    ("t_ns", pd.Series([1, 2, 2**63], dtype="uint64"), "do not fit|out of range"),
    ("t_ns", pd.Series([1, 2, 2**70], dtype=object), "out of range"),
    ("t_ns", [True, False, True], "not a number"),
    ("t_ns", ["1", "2", "3"], "not a number"),
    ("t_ns", pd.Series([1, True, 3], dtype=object), "bool among its objects"),
    ("t_ns", pd.Series([1, 2.0, 3], dtype=object), "float among its objects"),
    ("t_ns", pd.to_timedelta([1, 2, 3]), "not a number"),
    ("t_ns", pd.Series([Decimal(1)] * 3, dtype=object), "Decimal among its objects"),
    ("t_ns", pd.Series([1 + 2j] * 3), "complex"),
    ("t_ns", pd.Series([1, 2, 3], dtype=np.longdouble), "float128|longdouble"),
    ("utc", pd.date_range("2026-01-01", periods=3), "time zone"),
    ("utc", pd.Series([NAIVE] * 3, dtype=object), "time zone"),
    ("utc", pd.Series([dt.date(2026, 1, 1)] * 3, dtype=object), "date among its objects"),
    ("utc", ["2026-01-01"] * 3, "not a timestamp"),
    ("utc", pd.Series(["9999-01-01"] * 3).astype("datetime64[s]").dt.tz_localize("UTC"), "out of range"),
    ("utc", pd.Series([dt.datetime(9999, 1, 1, tzinfo=dt.UTC)] * 3, dtype=object), "out of range"),
    (
        "utc",
        pd.Series([-(2**63)] * 3, dtype="int64[pyarrow]").astype(pd.ArrowDtype(pa.timestamp("ns", "UTC"))),
        "null|out of range",
    ),
    ("crng_ready", [1, 0, 1], "not true or false"),
    ("crng_ready", pd.Series([True, "yes", None], dtype=object), "str among its objects"),
    ("host", [1, 2, 3], "not text"),
    ("host", ["a", None, "b"], "null in row 1"),
    ("host", ["a", "", "b"], "empty"),
    ("guest", ["a", "", "b"], "empty"),
    ("guest", pd.Series(["a", b"b", None], dtype=object), "bytes among its objects"),
    ("guest", pd.Series(["a", "\udc80", None], dtype=object), "Unicode"),
    ("guest", pd.Series(["a", ["b"], None], dtype=object), "list among its objects"),
    (
        "t_ns",
        pd.Series([1, 2.0, 3.5], dtype=object).astype(pd.CategoricalDtype(pd.Index([1, 2.0, 3.5], dtype=object))),
        "float among",
    ),
    ("guest", pd.Series(pd.array([1, 2, 3])), "not text"),
]


@pytest.mark.parametrize(("column", "values", "reason"), REFUSED)
def test_what_does_not_fit_is_refused_with_its_column_and_reason(column: str, values: Any, reason: str) -> None:
    with pytest.raises(TableError, match=reason) as caught:
        to_arrow("entropy_samples", samples(**{column: pd.Series(values)}))
    assert caught.value.column == column
    assert caught.value.remedy


def test_bytes_that_are_not_utf8_are_refused() -> None:
    broken = pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"a\xffb")])
    with pytest.raises(TableError, match="UTF-8"):
        to_arrow("entropy_samples", samples(guest=pd.Series(pd.arrays.ArrowExtensionArray(broken))))


def test_infinity_and_integers_too_large_for_a_float_are_refused_where_a_float_belongs() -> None:
    row = {**IDS, "t_ns": 1, "utc": pd.Timestamp("2026-01-01", tz="UTC"), "memory_available_bytes": 1, "power_watts": None}
    for value, reason in ((np.inf, "infinite"), (2**53 + 1, "2\\*\\*53"), ("1", "not a number")):
        with pytest.raises(TableError, match=reason):
            to_arrow("system_samples", pd.DataFrame([{**row, "cpu_busy_fraction": value}]))


def test_nan_is_null_in_any_kind_of_float() -> None:
    row = {**IDS, "t_ns": 1, "utc": pd.Timestamp("2026-01-01", tz="UTC"), "memory_available_bytes": 1, "power_watts": 1.0}
    masked = pd.Series(pd.arrays.ArrowExtensionArray(pa.array([float("nan"), 0.5])))
    made = to_arrow("system_samples", pd.DataFrame([row, row]).assign(cpu_busy_fraction=masked))
    assert made["cpu_busy_fraction"].to_pylist() == [None, 0.5]


def test_instants_are_kept_whatever_their_zone_and_unit() -> None:
    made = to_arrow("entropy_samples", samples(utc=pd.Series([dt.datetime(2026, 1, 1, 5, 30, tzinfo=LATER)] * 3, dtype=object)))
    assert made["utc"][0].value == pd.Timestamp("2026-01-01", tz="UTC").value
    odd = pd.Timestamp("2026-01-01T00:00:00.000000001Z")
    mixed = pd.Series([odd, odd.tz_convert("Asia/Kolkata"), odd + pd.Timedelta(1)], dtype=object).astype("category")
    assert to_arrow("entropy_samples", samples(utc=mixed))["utc"][0].value == odd.value
    seconds = pd.Series(pd.date_range("2026-01-01", periods=3, tz="Asia/Kolkata", unit="s"))
    assert to_arrow("entropy_samples", samples(utc=seconds))["utc"][0].value == seconds[0].as_unit("ns").value


@pytest.mark.parametrize(
    ("change", "column", "reason"),
    [
        (lambda frame: frame.drop(columns="utc"), "utc", "needs the column utc"),
        (lambda frame: frame.assign(colour=1), "colour", "has no column 'colour'"),
        (lambda frame: pd.concat([frame, frame[["host"]]], axis=1), "host", "more than once"),
        (lambda frame: frame.rename(columns={"utc": 5}), "5", "has no column 5"),
        (lambda frame: frame.set_axis(pd.MultiIndex.from_product([["x"], frame.columns]), axis=1), None, "has no column"),
    ],
)
def test_the_columns_must_be_the_tables(change: Any, column: str | None, reason: str) -> None:
    with pytest.raises(TableError, match=reason) as caught:
        to_arrow("entropy_samples", change(samples()))
    assert column is None or caught.value.column == column


def test_what_is_no_frame_or_no_table_is_refused() -> None:
    with pytest.raises(TableError, match="not list"):
        to_arrow("entropy_samples", [1])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no table 'nothing'"):
        to_arrow("nothing", samples())


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.binary(max_size=3), st.decimals(),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC, LATER])), st.just(pd.NA), st.just(pd.NaT), st.complex_numbers(),
)  # fmt: skip
COLUMNS = st.one_of(
    pdst.series(elements=VALUES, dtype=object, index=pdst.range_indexes(min_size=3, max_size=3)),
    *(
        pdst.series(dtype=kind, index=pdst.range_indexes(min_size=3, max_size=3))
        for kind in (
            "int8",
            "uint64",
            "int64",
            "float16",
            "float32",
            "float64",
            "bool",
            "datetime64[ns]",
            "timedelta64[ns]",
            "complex128",
        )
    ),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=3, max_size=3).map(lambda v: pd.Series(v, dtype="Int64")),
    st.lists(st.booleans() | st.none(), min_size=3, max_size=3).map(lambda v: pd.Series(v, dtype="boolean")),
    st.lists(st.text(max_size=9) | st.none(), min_size=3, max_size=3).map(lambda v: pd.Series(v, dtype="category")),
)


@given(column=st.sampled_from(["guest", "t_ns", "utc", "memory_available_bytes", "cpu_busy_fraction"]), values=COLUMNS)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_column_is_kept_equal_or_refused(column: str, values: pd.Series) -> None:
    frame = TABLES["system_samples"].frame(
        {**{name: pd.Series([value] * 3, dtype="str") for name, value in IDS.items()}, "t_ns": [1, 2, 3], "utc": samples()["utc"]}
    )
    try:
        made = to_arrow("system_samples", frame.assign(**{column: values}))
    except TableError as refused:
        said = refused.column
    else:
        said = None
    if said is not None:
        assert said == column
        return
    for before, after in zip(values, made[column].to_pylist(), strict=True):
        assert (pd.isna(before) and after is None) or before == after
    again = to_pandas("system_samples", made)
    assert {name: str(kind) for name, kind in again.dtypes.items()} == TABLES["system_samples"].dtypes
    assert to_arrow("system_samples", again).equals(made)
