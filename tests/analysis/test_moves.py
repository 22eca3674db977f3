"""Moves from made reads: which part a byte belongs to, the gap by the host's time, and each side against its own limit."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from toolkit.analysis.moves import PARTS, parts
from toolkit.errors import TableError
from toolkit.spoken_moves import excess, moved_parts

KEY: dict[str, Any] = {"run_id": "r", "host": "h", "guest": "g", "boot_id": "b"}
S = 10**9


def reads(arrivals: list[tuple[float, int]], **more: Any) -> pd.DataFrame:
    """Reads of which each was called at the end of the one before."""
    ended = [round(at_s * S) for at_s, _ in arrivals]
    called = [0, *ended[:-1]]
    came = pd.array([size or None for _, size in arrivals], dtype="Int64")
    return pd.DataFrame(
        {
            **KEY,
            "source": "/dev/hwrng",
            "block_bytes": 64,
            "t_ns": called,
            "wait_ns": [end - begin for begin, end in zip(called, ended, strict=True)],
            "read_bytes": came,
            "errno": pd.array([None if size else 110 for _, size in arrivals], dtype="Int64"),
            **more,
        }
    )


def moves(begun_s: float, moved_s: float, stopped_ms: float = 250.0, **more: Any) -> pd.DataFrame:
    limits = {"source_max_bytes": 16, "source_period_ms": 1000, "destination_max_bytes": 64, "destination_period_ms": 1000}
    return pd.DataFrame(
        {
            **KEY,
            "begun_t_ns": [round(begun_s * S)],
            "t_ns": [round(moved_s * S)],
            "stopped_ms": [stopped_ms],
            "source_backend": "random",
            "destination_backend": "random",
            **limits,
            **more,
        }
    )


#: Six periods of 16 bytes; moved at 5.4 s; from 5.5 s on 64 bytes a period. Then a read that never returned.
ARRIVALS = [*((s, 16) for s in (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)), *((5.5 + s, 64) for s in range(6)), (11.2, 0)]


def test_each_byte_is_of_one_part_and_each_side_is_held_to_its_own_limit() -> None:
    table = parts(reads(ARRIVALS), moves(4.5, 5.4)).set_index("part")
    assert tuple(table.index) == PARTS
    assert table["read_bytes"].tolist() == [80, 16, 384]
    assert table["reads"].tolist() == [5, 1, 6]
    assert table["configured_bytes_per_second"].tolist()[::2] == [16.0, 64.0]
    assert table["bytes_per_second"].tolist()[::2] == pytest.approx([16.0, 64.0])
    assert table["holds"].tolist()[::2] == [True, True]
    assert pd.isna(table.loc["during", "holds"])
    assert table["longest_gap_ms"].tolist() == pytest.approx([1000, 1000, 1000])
    # From the last byte there to the first one here, and what no clock of the guest shows.
    assert table.loc["during", "gap_ms"] == pytest.approx(750)
    assert table["stopped_ms"].tolist() == [0, 250, 0]
    assert table.loc["during", "watched_s"] == pytest.approx(1.25)
    said = moved_parts(table.reset_index())
    assert said["verdict"].tolist() == ["holds its limit", "the limit changes in it", "holds its limit"]
    assert said["longest gap"].tolist() == ["1 s"] * 3


def test_a_destination_that_still_gave_at_the_limit_of_the_source_does_not_hold_its_own() -> None:
    arrivals = [*((s, 16) for s in (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)), *((5.5 + s, 16) for s in range(6))]
    table = parts(reads(arrivals), moves(4.5, 5.4)).set_index("part")
    assert table["holds"].tolist()[::2] == [True, False]
    assert "slower" in table.loc["after", "why"]


def test_what_the_first_period_gave_beyond_the_limit_is_not_hidden_by_the_rate_after_it() -> None:
    """As QEMU 7.2 does it for limits below what its driver asks for twice."""
    flood = [(5.5 + number / 100, 64) for number in range(90)]
    arrivals = [*((s, 16) for s in (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)), *flood, *((5.5 + s, 64) for s in range(1, 7))]
    table = parts(reads(arrivals), moves(4.5, 5.4)).set_index("part")
    assert table.loc["after", "holds"]
    assert table.loc["after", "first_period_bytes"] == 90 * 64
    assert table["first_period_bytes"].isna().tolist() == [True, True, False]
    (said,) = excess(table.reset_index())
    assert "gave 5.62 KiB, and not 64 B" in said
    assert excess(parts(reads(ARRIVALS), moves(4.5, 5.4))) == []


def test_a_guest_that_gets_nothing_any_more_has_no_gap_that_ended() -> None:
    arrivals = [*((s, 16) for s in (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)), (30.0, 0)]
    table = parts(reads(arrivals), moves(4.5, 5.4)).set_index("part")
    assert table.loc["after", "read_bytes"] == 0
    assert not table.loc["after", "holds"]
    assert pd.isna(table.loc["during", "gap_ms"])
    assert table.loc["before", "holds"]


def test_reads_of_another_boot_another_source_or_none_at_all_are_no_part() -> None:
    other = pd.concat([reads(ARRIVALS, boot_id="c"), reads(ARRIVALS, source="getrandom")])
    table = parts(other, moves(4.5, 5.4))
    assert table["read_bytes"].tolist() == [0, 0, 0]
    assert table["holds"].isna().all()
    assert parts(other, moves(4.5, 5.4).head(0)).empty


def test_a_move_from_no_limit_tells_its_rate_and_no_verdict() -> None:
    table = parts(reads(ARRIVALS), moves(4.5, 5.4, source_max_bytes=None, source_period_ms=None)).set_index("part")
    assert pd.isna(table.loc["before", "holds"])
    assert table.loc["before", "bytes_per_second"] > 0
    assert table.loc["after", "holds"]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(TableError, match="stopped_ms"):
        parts(reads(ARRIVALS), moves(4.5, 5.4).drop(columns="stopped_ms"))
