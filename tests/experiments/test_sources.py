"""Reads of sources as rows."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from toolkit.errors import UsageError
from toolkit.experiments.sources import read_sources
from toolkit.runs import begin
from toolkit.sensors.sources import BLOCKS_BYTES, SOURCES
from toolkit.store import open_store
from toolkit.tables import TABLES


def test_rows_are_those_of_the_table_with_their_run() -> None:
    run = begin("a test")
    reads = read_sources(["getrandom", "/dev/urandom"], [64, 4096], 0.02, run=run)
    assert {name: str(kind) for name, kind in reads.dtypes.items()} == TABLES["source_reads"].dtypes
    assert set(reads["run_id"]) == {run.run_id}
    assert reads["guest"].isna().all()
    assert list(reads[["source", "block_bytes"]].drop_duplicates().itertuples(index=False, name=None)) == [
        ("getrandom", 64),
        ("getrandom", 4096),
        ("/dev/urandom", 64),
        ("/dev/urandom", 4096),
    ]
    assert reads["t_ns"].is_monotonic_increasing


def test_a_source_that_gives_nothing_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    os.mkfifo(silent)
    reads = read_sources([str(silent), str(tmp_path / "missing"), "getrandom"], [64], 0.05)
    nothing = reads[reads["source"] != "getrandom"]
    assert nothing["errno"].tolist() == [errno.ETIMEDOUT, errno.ENOENT]
    assert nothing["read_bytes"].isna().all()
    assert (nothing["wait_ns"] > 0).all()
    given = reads[reads["source"] == "getrandom"]
    assert len(given) > 0
    assert given["errno"].isna().all()


def test_all_sources_and_block_sizes_are_read_by_default() -> None:
    reads = read_sources(budget_s=0.02)
    pairs = set(reads[["source", "block_bytes"]].itertuples(index=False, name=None))
    assert pairs == {(source, size) for source in SOURCES for size in BLOCKS_BYTES}


def test_progress_is_told_before_each_and_at_the_end() -> None:
    told: list[tuple[float, float]] = []
    read_sources(["getrandom"], [64, 128], 0.02, progress=lambda done, total, _words: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_no_source_gives_no_row() -> None:
    assert read_sources([]).empty


def test_one_text_is_not_taken_for_a_list_of_letters() -> None:
    with pytest.raises(UsageError, match="getrandom"):
        read_sources("getrandom")


def test_the_store_takes_them_and_gives_them_back(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    reads = read_sources(["getrandom", str(tmp_path / "missing")], [64], 0.02)
    store.append("source_reads", reads)
    kept = store.read("source_reads").sort_values("t_ns", ignore_index=True)
    assert kept.equals(reads.sort_values("t_ns", ignore_index=True))
