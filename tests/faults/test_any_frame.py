"""Any frame that pandas can hold is stored and read back equal, or refused with a reason and the store as it was."""

from __future__ import annotations

import datetime as dt
import math
import os
import tempfile
import warnings
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import HealthCheck, event, given, settings

from toolkit.errors import TableError
from toolkit.store import Store, open_store
from toolkit.store.layout import MARKER, host_folder
from toolkit.tables import TABLES, Table

# What is drawn: values that fit their column, then mutations

LATER, ODD = dt.timezone(dt.timedelta(hours=5, minutes=30)), dt.timezone(dt.timedelta(seconds=-12_345, microseconds=678))
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [dt.UTC, LATER, ODD, BERLIN, ZoneInfo("America/St_Johns"), None]
TEXTS = st.one_of(
    st.sampled_from(
        ["a", "b", "web-1", "..", "/", "\0", "a\0b", "x" * 10_000, "\u202enp.exe\u2066", "ü" * 300, "a\r\n", "<script>"]
    ),
    st.text(max_size=8),
)
NAMES = st.sampled_from(["h", "h", "web-1", "../x", "ü", "\u202e", "x" * 300]) | st.text(min_size=1, max_size=4)
WHOLE = (
    st.integers(-3, 300) | st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1]) | st.integers(-(2**63), 2**63 - 1)
)
REAL = st.sampled_from([0.0, -0.0, 0.5, 1e300, 5e-324, -1.5, 2.0**53]) | st.floats(allow_nan=False, allow_infinity=False)
FIRST, LAST = (dt.datetime(year, 1, 1) for year in (1678, 2262))  # noqa: DTZ001
INSTANTS = st.integers(-(2**63) + 1, 2**63 - 1).map(lambda ns: pd.Timestamp(ns, tz="UTC")) | st.datetimes(
    FIRST, LAST, timezones=st.sampled_from([zone for zone in ZONES if zone])
)
NULLS = [None, np.nan, pd.NaT, pd.NA, float("nan"), np.datetime64("NaT"), Decimal("NaN"), np.float32("nan")]
NUMBERS = [
    *(True, np.False_, 0, 1, -1, 2**63, -(2**63) - 1, 2**64 - 1, 2**70, 10**400, np.uint64(2**64 - 1), np.int8(-5)),
    *(1.5, -0.0, 2.0**60, math.inf, -math.inf, np.float32(0.1), np.float16(2), np.longdouble(1) + np.longdouble(2) ** -60),
    *(1 + 2j, Decimal(1), Decimal("0.1"), Fraction(1, 3)),
]
WORDS = ["", "1", "\udc80", "a\ud800", "\0", np.str_("numpy"), b"bytes", bytearray(b"x"), np.bytes_(b"x")]
MOMENTS = [
    *(dt.date(2026, 1, 1), dt.time(12), dt.timedelta(1), FIRST, dt.datetime(1, 1, 1, tzinfo=LATER)),
    *(
        dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=23))),
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    ),
    *(
        pd.Timestamp.max,
        pd.Timestamp.min.tz_localize("UTC"),
        pd.Timestamp("9999-12-31", tz="UTC"),
        pd.Timestamp("2026-01-01", tz=ODD),
    ),
    *(np.datetime64("2026-01-01"), np.timedelta64(1, "s"), pd.Timedelta(1), pd.Period("2026"), pd.Interval(0, 1), pd.DateOffset(1)),
]
THINGS = [
    *([], ["a"], {}, {"a": 1}, (1,), {1}, object(), int, len, Ellipsis, slice(3), range(3)),
    *(np.array([1, 2]), np.array(7), np.array([]), pd.Series([1]), pd.DataFrame()),
]
NASTY = st.one_of(
    *(st.sampled_from(kind) for kind in (NULLS, NUMBERS, WORDS, MOMENTS, THINGS)),
    *(TEXTS, WHOLE, REAL, INSTANTS, st.datetimes(timezones=st.sampled_from(ZONES))),
)

UNITS = ("s", "ms", "us", "ns")
ARROW = [
    *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.bool_(), pa.null(), pa.decimal128(38, 3)),
    *(pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    *(pa.date32(), pa.time64("ns"), pa.duration("ns"), pa.list_(pa.int64()), pa.struct([("a", pa.int64())])),
    *(pa.dictionary(pa.int8(), kind) for kind in (pa.string(), pa.int64(), pa.timestamp("s", "UTC"))),
    *(pa.timestamp(unit, zone) for unit in UNITS for zone in (None, "UTC", "Asia/Tokyo", "+05:30", "No/Where")),
]
DTYPES: list[Any] = [
    *(
        object,
        "str",
        pd.StringDtype("python"),
        pd.StringDtype("pyarrow"),
        "category",
        "bool",
        "boolean",
        "complex128",
        np.longdouble,
    ),
    *(f"{kind}{bits}" for kind in ("int", "uint", "Int", "UInt") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "Float32", "Float64", "Sparse[float64]", "Sparse[int64]", "Sparse[bool]", "Sparse[object]"),
    *(f"datetime64[{unit}]" for unit in UNITS),
    *(pd.DatetimeTZDtype(unit, zone) for unit in UNITS for zone in ("UTC", "Asia/Kolkata", "America/St_Johns")),
    *("timedelta64[ns]", "timedelta64[s]", "period[D]", "interval"),
    *(pd.ArrowDtype(kind) for kind in ARROW),
]
#: Of these some keep what a column holds, so that frames of them are stored.
KEEPING = {
    "string": [
        object,
        "str",
        "category",
        pd.StringDtype("python"),
        pd.ArrowDtype(pa.large_string()),
        pd.ArrowDtype(pa.string_view()),
    ],
    "int64": [object, "Int64", "float64", "category", "Sparse[int64]", pd.ArrowDtype(pa.int64()), "uint64", "Float64"],
    "double": [object, "Float64", "Sparse[float64]", "category", pd.ArrowDtype(pa.float64())],
    "bool": [object, "boolean", "category", pd.ArrowDtype(pa.bool_())],
    "timestamp[ns, tz=UTC]": [
        object,
        "category",
        pd.DatetimeTZDtype("ns", BERLIN),
        pd.ArrowDtype(pa.timestamp("ns", "Asia/Tokyo")),
    ],
}
LABELS = [5, None, "colour", ("host",), "\udc80", "Host", b"host", float("nan"), pd.Timestamp(0), True]


def fitting(field: pa.Field, rows: int) -> st.SearchStrategy[list[Any]]:
    """Values of a column that fit it."""
    kind = str(field.type)
    known = {"string": TEXTS, "int64": WHOLE, "double": REAL, "bool": st.booleans(), "timestamp[ns, tz=UTC]": INSTANTS}[kind]
    if field.name in ("run_id", "host", "guest", "boot_id"):
        known = NAMES
    return st.lists(st.none() | known if field.nullable else known, min_size=rows, max_size=rows)


def series(values: list[Any], kind: Any) -> pd.Series[Any] | None:
    """The values as that dtype, or None where pandas has it not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = pd.Series(_boxed(values), dtype=object)
            return made if kind is object else pd.Series(list(made), dtype=kind) if kind != "category" else made.astype(kind)
        except Exception:  # noqa: BLE001  # what pandas cannot hold is no frame
            return None


def _boxed(values: list[Any]) -> np.ndarray[Any, Any]:
    boxed = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        boxed[place] = value
    return boxed


@st.composite
def frames(draw: st.DrawFn) -> tuple[str, pd.DataFrame]:
    """A frame of some table, and up to three things done to it."""
    table = draw(st.sampled_from([*TABLES, "system_samples", "system_samples", "system_samples"]))  # with floats
    made, rows = TABLES[table], draw(st.integers(0, 5))
    values = {field.name: draw(fitting(field, rows)) for field in made.schema}
    dtypes: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(sorted({str(field.type) for field in made.schema})))
        field = draw(st.sampled_from([field for field in made.schema if str(field.type) == kind]))
        what = draw(st.sampled_from(["keep", "keep", "keep", "retype", "spoil", "null", "replace", "integers"]))
        if what == "keep":
            dtypes[field.name] = draw(st.sampled_from(KEEPING[str(field.type)]))
        elif what == "integers":
            values[field.name] = draw(st.lists(WHOLE, min_size=rows, max_size=rows))
            dtypes[field.name] = draw(st.sampled_from(["int64", "Int64", object, pd.ArrowDtype(pa.int64())]))
        elif what == "retype":
            dtypes[field.name] = draw(st.sampled_from(DTYPES))
        elif what == "replace":
            values[field.name] = draw(st.lists(NASTY, min_size=rows, max_size=rows))
            dtypes[field.name] = draw(st.sampled_from([object, object, "category"]))
        elif rows:
            value = draw(st.sampled_from(NULLS)) if what == "null" else draw(NASTY)
            values[field.name][draw(st.integers(0, rows - 1))] = value
            dtypes[field.name] = object
    columns = {}
    for name, kind in made.dtypes.items():
        found = series(values[name], dtypes.get(name, kind))
        columns[name] = series(values[name], object) if found is None else found
    frame = pd.DataFrame(columns, columns=made.columns)
    return table, draw(shaped(frame))


@st.composite
def shaped(draw: st.DrawFn, frame: pd.DataFrame) -> pd.DataFrame:
    """Columns and index otherwise than they were made, now and then."""
    names, rows = list(frame.columns), len(frame)
    what = draw(
        st.sampled_from(
            ["as it is"] * 6 + ["order", "index", "levels", "label", "drop", "extra", "twice", "tuples", "flags", "class"]
        )
    )
    if what == "order":
        return frame[draw(st.permutations(names))]
    if what == "index":
        return frame.set_axis(pd.Index(draw(st.lists(NASTY.filter(_hashable), min_size=rows, max_size=rows)), dtype=object))
    if what == "levels":
        return frame.set_axis(pd.MultiIndex.from_product([["x"], [1.5] * rows]) if rows else frame.index)
    if what == "label":
        return frame.set_axis(pd.Index([*names[:-1], draw(st.sampled_from(LABELS))], dtype=object, tupleize_cols=False), axis=1)
    if what == "drop":
        return frame.drop(columns=draw(st.sampled_from(names)))
    if what == "extra":
        labels = pd.Index([*names, draw(st.sampled_from(LABELS))], dtype=object, tupleize_cols=False)
        return pd.concat([frame, pd.Series([0] * rows)], axis=1).set_axis(labels, axis=1)
    if what == "twice":
        return pd.concat([frame, frame[[draw(st.sampled_from(names))]]], axis=1)
    if what == "tuples":
        return frame.set_axis(pd.MultiIndex.from_product([names, [1]]), axis=1)
    if what == "flags":
        return frame.set_flags(allows_duplicate_labels=False).rename_axis(columns="host")
    return Odd(frame) if what == "class" else frame


class Odd(pd.DataFrame):
    """A frame of a class of its own."""


def _hashable(value: Any) -> bool:
    return isinstance(value, (str, int, float, bytes, type(None)))


# What equal means


def same(field: pa.Field, before: Any, after: Any) -> bool:
    """Whether a value that was read is the one that was stored: none is changed into another, nor into one of another kind."""
    if _null(before) or after is None:
        return _null(before) and after is None
    kind = str(field.type)
    if kind == "string":
        return isinstance(before, str) and isinstance(after, str) and str(before) == after
    if kind == "bool":
        return isinstance(before, (bool, np.bool_)) and isinstance(after, bool) and bool(before) is after
    if kind.startswith("timestamp"):
        return isinstance(before, dt.datetime) and before.utcoffset() is not None and _ns(before) == after.value
    if isinstance(before, (bool, np.bool_)) or not isinstance(before, (int, float, np.integer, np.floating)):
        return False
    if kind == "int64":
        return type(after) is int and before == after and int(before) == after
    if isinstance(before, (int, np.integer)):
        return isinstance(after, float) and int(before) == after
    return isinstance(after, float) and before == after and bool(np.signbit(before) == np.signbit(after))


def _null(value: Any) -> bool:
    return value is None or (not isinstance(value, str) and np.isscalar(pd.isna(value)) and bool(pd.isna(value)))


def _ns(moment: dt.datetime) -> int:
    """Nanoseconds since 1970, in whole numbers all the way."""
    since = dt.datetime(
        moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond, dt.UTC
    )
    past = since - dt.datetime(1970, 1, 1, tzinfo=dt.UTC) - (moment.utcoffset() or dt.timedelta())
    return (past.days * 86_400_000_000 + past.seconds * 1_000_000 + past.microseconds) * 1000 + getattr(moment, "nanosecond", 0)


def in_order(made: Table, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as a store should give them: host by host, in their table's order, null before any name, equal ones as they came."""
    rows = [dict(zip(made.columns, row, strict=True)) for row in zip(*(list(frame[name]) for name in made.columns), strict=True)]
    key = ["host", *made.order]
    none_first = [[(not _null(row[name]), None if _null(row[name]) else row[name]) for name in key[1:]] for row in rows]
    order = sorted(
        range(len(rows)), key=lambda place: (host_folder(rows[place]["host"]), [_comparable(each) for each in none_first[place]])
    )
    return [rows[place] for place in order]


def _comparable(each: tuple[bool, Any]) -> tuple[bool, Any]:
    return each if each[0] else (False, 0)


def _check_equal(made: Table, frame: pd.DataFrame, again: pd.DataFrame) -> None:
    assert {name: str(kind) for name, kind in again.dtypes.items()} == made.dtypes
    expected = in_order(made, frame)
    plain = again.astype(object).where(again.notna(), None)
    for before, after in zip(expected, plain.to_dict("records"), strict=True):
        for field in made.schema:
            assert same(field, before[field.name], after[field.name]), (field.name, before[field.name], after[field.name])


def _refusal(store: Store, table: str, frame: pd.DataFrame) -> TableError | None:
    try:
        store.append(table, frame)
    except TableError as refused:
        return refused
    return None


def test_any_frame_is_stored_and_read_back_equal_or_refused_with_a_reason() -> None:
    outcomes: Counter[str] = Counter()

    @given(drawn=frames())
    @settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    def any_frame(drawn: tuple[str, pd.DataFrame]) -> None:
        table, frame = drawn
        made = TABLES[table]
        refused = _refusal(store, table, frame)
        if refused is None:
            again = store.read(table)
            for path in store.files(table):
                path.unlink()
            _check_equal(made, frame, again)
            outcome = "stored" if len(frame) else "stored, without rows"
        else:
            assert refused.what
            assert refused.remedy
            outcome = "refused"
        assert [path.name for path in store.path.rglob("*") if path.is_file()] == [MARKER]
        outcomes[outcome] += 1
        event(outcome)

    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # a disk would spend its time on thousands of fsyncs
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        store = open_store(Path(folder) / "store")
        any_frame()
    assert outcomes["stored"] > 100, outcomes
    assert outcomes["refused"] > 100, outcomes
