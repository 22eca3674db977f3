"""Sizes and durations, there and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.units import bytes_text, duration_text, parse_bytes, parse_duration_s, rate_text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("4KiB", 4096),
        ("4k", 4096),
        ("1.5 MiB", 1572864),
        ("1kB", 1000),
        ("1GB", 10**9),
        ("2TiB", 2 * 1024**4),
        (".5KiB", 512),
    ],
)
def test_a_size_is_read_as_written(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "4KiX", "-1", "0", "1.5", "1e3", "nan", "٤KiB", "4 4", "KiB"])
def test_what_is_no_size_is_refused_with_the_text_itself(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bytes(text)
    assert repr(text) in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "seconds"), [("100ms", 0.1), ("60s", 60), ("5m", 300), ("1.5h", 5400), ("2", 2), ("10us", 1e-5), ("1d", 86400)]
)
def test_a_duration_is_read_as_written(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0s", "-1s", "1M", "1 fortnight", "inf", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration_s(text)


@given(st.text(max_size=20))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        assert parse_bytes(text) >= 1
    except UsageError:
        pass


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_written_duration_has_a_unit_and_at_most_three_digits_before_the_point(seconds: float) -> None:
    text = duration_text(seconds)
    assert any(text.endswith(unit) for unit in (" s", " ms", " µs", " ns"))
    if seconds < 120:
        assert float(text.split()[0]) <= 1000


@given(st.integers(min_value=1, max_value=10**15))
def test_a_written_size_is_within_a_percent_of_the_size(count: int) -> None:
    assert math.isclose(parse_bytes_text(bytes_text(count)), count, rel_tol=0.01)


def parse_bytes_text(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}[unit]


def test_a_rate_is_written_in_decimal_units() -> None:
    assert rate_text(1024) == "1.02 kB/s"
    assert rate_text(0) == "0 B/s"
