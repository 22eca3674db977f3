"""Bytes a second: failed reads cost time and bring nothing, bursts do not pass for rates, and repeats are repeats."""

from __future__ import annotations

from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from toolkit import open_store, throughput
from toolkit.errors import TableError
from toolkit.tables import TABLES

MS = 10**6


def reads(
    waits_ns: list[int | None], *, run: str = "r", source: str = "/dev/hwrng", came: Any = 64, errno: Any = None
) -> pd.DataFrame:
    n = len(waits_ns)
    columns = {
        "run_id": [run] * n, "host": ["h"] * n, "boot_id": ["b"] * n, "t_ns": np.cumsum([0, *[w or 0 for w in waits_ns[:-1]]]),
        "source": [source] * n, "block_bytes": [64] * n, "wait_ns": waits_ns,
        "read_bytes": came if isinstance(came, list) else [came] * n, "errno": errno if isinstance(errno, list) else [errno] * n,
    }  # fmt: skip
    return TABLES["source_reads"].frame(columns)


def test_a_limited_source_has_its_limit_as_rate_and_not_that_of_its_bursts() -> None:
    # 16 reads of 64 bytes at once, then silence to the end of the second: virtio-rng with 1024 bytes per 1000 ms
    period = [1000] * 15 + [1000 * MS - 15_000]
    (row,) = throughput(reads(period * 10)).to_dict("records")
    assert row["bytes_per_second"] == pytest.approx(1024, rel=0.01)
    assert row["low"] <= row["bytes_per_second"] <= row["high"]
    assert row["high"] == pytest.approx(1024, rel=0.01)
    assert (row["unit"], row["n"], row["reads"], row["failed"]) == ("block", 10, 160, 0)


def test_reads_of_one_run_are_ten_blocks_however_many_they_are() -> None:
    assert throughput(reads([MS] * 5000))["n"].tolist() == [10]
    assert throughput(reads([MS] * 4))["n"].tolist() == [4]
    assert throughput(reads([MS] * 25))["n"].tolist() == [8]


def test_with_three_runs_a_run_is_the_repeat() -> None:
    frame = pd.concat([reads([step * MS] * 50, run=f"r{step}") for step in (1, 2, 4)])
    (row,) = throughput(frame, by="source").to_dict("records")
    assert (row["unit"], row["n"], row["reads"]) == ("run", 3, 150)
    assert (row["low"], row["bytes_per_second"], row["high"]) == (16_000, 32_000, 64_000)


def test_failed_reads_cost_time_and_bring_no_byte() -> None:
    frame = reads([MS] * 3 + [7 * MS], came=[64, 64, 64, None], errno=[None, None, None, 11])
    frame = pd.concat([frame.assign(run_id=run) for run in "abc"])
    (row,) = throughput(frame).to_dict("records")
    assert row["bytes_per_second"] == pytest.approx(3 * 64 / 0.010)
    assert (row["reads"], row["failed"]) == (12, 3)
    (row,) = throughput(frame.assign(read_bytes=64)).to_dict("records")
    assert row["bytes_per_second"] == pytest.approx(3 * 64 / 0.010)


def test_a_source_that_gave_nothing_is_there_with_a_rate_of_nothing() -> None:
    (row,) = throughput(reads([1000 * MS] * 3, came=None, errno=110)).to_dict("records")
    assert (row["bytes_per_second"], row["failed"]) == (0, 3)
    (row,) = throughput(reads([None], came=None, errno=2)).to_dict("records")
    assert np.isnan(row["bytes_per_second"])
    assert (row["n"], row["failed"]) == (0, 1)


def test_the_host_and_its_guests_are_groups_of_their_own() -> None:
    frame = pd.concat([reads([MS] * 5), reads([MS] * 5).assign(guest="g")])
    found = throughput(frame)
    assert found["guest"].isna().tolist() == [False, True]
    assert list(found.columns[:4]) == ["host", "guest", "source", "block_bytes"]


def allocations(times_ns: list[int | None], method: str = "fallocate") -> pd.DataFrame:
    n = len(times_ns)
    errno = [None if t else 28 for t in times_ns]
    same = {"run_id": "r", "host": "h", "boot_id": "b", "filesystem": "xfs", "method": method}
    columns = {
        **{name: [value] * n for name, value in same.items()},
        "size_bytes": [1000] * n, "repeat": range(n), "position": range(n), "allocate_ns": times_ns, "errno": errno,
    }  # fmt: skip
    return TABLES["allocations"].frame(columns)


def test_allocations_are_their_size_over_their_time_failures_apart() -> None:
    found = throughput(pd.concat([allocations([1000, 2000, 4000, None]), allocations([10, 10], "write_4k")]))
    assert found["bytes_per_second"].tolist() == [5e8, 1e11]
    assert found[["n", "allocations", "failed"]].values.tolist() == [[3, 4, 1], [2, 2, 0]]
    assert found["low"].isna().tolist() == [False, True]
    assert found["unit"].unique().tolist() == ["allocation"]


def test_the_same_from_dask_and_from_a_store(tmp_path: Any) -> None:
    frame = pd.concat(
        [reads([MS] * 50, run=run, source=source) for run in "ab" for source in ("getrandom", "/dev/hwrng")], ignore_index=True
    )
    found = throughput(frame)
    assert_frame_equal(throughput(dd.from_pandas(frame, npartitions=3)), found, check_dtype=False)
    store = open_store(tmp_path / "store")
    for _, part in frame.groupby("run_id"):
        store.append("source_reads", part)
    assert_frame_equal(throughput(store.scan("source_reads")), found)


def test_an_empty_table_has_an_empty_answer_with_its_columns() -> None:
    assert list(throughput(TABLES["source_reads"].empty(), by="source").columns) == [
        "source", "n", "unit", "reads", "failed", "bytes_per_second", "low", "high",
    ]  # fmt: skip
    assert throughput(TABLES["allocations"].empty()).empty


def test_another_table_is_refused() -> None:
    with pytest.raises(TableError, match="neither"):
        throughput(TABLES["extents"].empty())
    with pytest.raises(TableError, match="colour"):
        throughput(reads([1]), by="colour")
