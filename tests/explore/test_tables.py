"""Tables in a notebook: units in the headers, numbers that sort, text that does nothing, and missing that is not zero."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.plots import made
from toolkit.explore.tables import MOST_ROWS, as_html, readable
from toolkit.tables import TABLES


def test_units_stand_in_the_headers_and_suit_the_values() -> None:
    frame = pd.DataFrame(
        {
            "size_bytes": [2**20, 2**28],
            "allocate_ns": [300_000.0, 500_000.0],
            "sync_s_median": [0.02, 0.03],
            "bytes_per_second": [5e8, 6e8],
            "bytes_per_second_low": [5e8, 6e8],
            "lowest_bits": [0, 256],
        }
    )
    shown = readable(frame)
    assert list(shown) == ["size (MiB)", "allocate (µs)", "sync median (ms)", "rate (MB/s)", "rate low (MB/s)", "lowest (bits)"]
    assert list(shown["allocate (µs)"]) == [300.0, 500.0]


def test_sizes_get_the_unit_of_the_least_so_that_none_is_a_fraction() -> None:
    shown = readable(pd.DataFrame({"block_bytes": [64, 4096, 65536]}))
    assert shown.to_dict("list") == {"block (bytes)": [64.0, 4096.0, 65536.0]}


def test_an_interval_is_in_the_unit_of_its_median_and_what_is_unknown_in_the_unit_of_its_column() -> None:
    frame = pd.DataFrame(
        {
            "difference_s": [-0.16], "difference_low_s": [-2.0], "difference_high_s": [1.97], "median_s": [2.5], "low_s": [0.001],
            "virtio_rng_max_bytes": pd.array([None], dtype="Int64"), "virtio_rng_period_ms": [4000],
        }
    )  # fmt: skip
    assert readable(frame).round(3).to_dict("list") == {
        "difference (s)": [-0.16], "difference low (s)": [-2.0], "difference high (s)": [1.97], "median (s)": [2.5],
        "low (s)": [0.001], "virtio rng max (bytes)": [pytest.approx(float("nan"), nan_ok=True)], "virtio rng period (s)": [4.0],
    }  # fmt: skip


def test_short_text_is_on_one_line_and_long_text_has_room() -> None:
    text = as_html(pd.DataFrame({"a": ["x" * 130], "b": ["y" * 131]}))
    assert '"className": "dt-nowrap", "targets": [0]' in text
    assert '"className": "virt-toolkit-long", "targets": [1]' in text
    assert "min-width" in text
    assert "min-width: 26em" not in as_html(pd.DataFrame({"a": ["x"]}))


def test_missing_is_a_dash_and_never_zero() -> None:
    text = as_html(
        pd.DataFrame({"a": ["x", None], "b": [1.5, None], "c": pd.array([1, None], dtype="Int64"), "d": pd.array([True, None])})
    )
    assert "NaN<" not in text
    assert '[\\"NaN\\"' not in text
    assert "<NA>" not in text
    assert text.count("–") >= 4


def test_numbers_keep_four_digits_and_their_order() -> None:
    text = as_html(pd.DataFrame({"value": [0.000123456, 12345.678, 2.5]}))
    for number in ("0.000123", "12,346", "2.5"):
        assert number in text
    assert "0.000123456" in text  # by which it is sorted


def test_text_of_a_machine_does_nothing() -> None:
    text = as_html(pd.DataFrame({"host": ["</script><script>alert(1)</script>", "a\u202eb", "<img src=x onerror=alert(1)>"]}))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "\u202e" not in text
    assert "<i>" not in as_html(pd.DataFrame({"<i>name</i>": [1]}), caption="<i>caption</i>")


def test_more_rows_than_a_page_carries_are_counted() -> None:
    text = as_html(pd.DataFrame({"n": range(MOST_ROWS + 1)}), caption="Numbers.")
    assert f"The first {MOST_ROWS:,} of {MOST_ROWS + 1:,} rows." in text


@pytest.mark.parametrize("name", list(TABLES))
def test_every_table_can_be_shown_empty_and_asks_no_address(name: str) -> None:
    text = as_html(TABLES[name].empty())
    assert "http" not in text.replace("http://www.w3.org", "")


def test_a_whole_table_can_be_shown() -> None:
    assert "new ITable(" in as_html(made.allocations())
