"""Writers killed at any moment: what was acknowledged is there once, nothing in part, and no reader ever sees otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.faults.storm import ROWS, frame, hosts_of, whole_appends
from toolkit.store import Store, open_store

APPENDS = 2000
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def raged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Any]]:
    """A store after the storm, and what the storm says of itself."""
    path = tmp_path_factory.mktemp("storm") / "store"
    command = [sys.executable, "-W", "error", "-m", "tests.faults.storm", str(path), "7", str(APPENDS)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=240)
    return open_store(path, create=False), json.loads(done.stdout)


@pytest.mark.slow
def test_the_storm_was_one(raged: tuple[Store, dict[str, Any]]) -> None:
    _, said = raged
    assert said["begun"] == list(range(APPENDS))
    assert said["kills"] >= 200
    assert len(said["acknowledged"]) > APPENDS / 2
    assert said["kills_that_left_a_file"] > 0  # else the kills would have met no append in the middle


@pytest.mark.slow
def test_a_reader_never_saw_a_part_of_a_file_nor_missed_what_was_acknowledged(raged: tuple[Store, dict[str, Any]]) -> None:
    _, said = raged
    assert not said["reader_failed"], "the reader's own words are on standard error"
    assert said["reads"] > 5


@pytest.mark.slow
def test_what_was_acknowledged_is_there_once_and_the_rest_whole_or_not_at_all(raged: tuple[Store, dict[str, Any]]) -> None:
    store, said = raged
    there = whole_appends(store.read("entropy_samples", columns=["host", "t_ns", "entropy_avail_bits"]))
    acknowledged = {(number, host) for number in said["acknowledged"] for host in hosts_of(number)}
    assert acknowledged <= there
    assert {number for number, _ in there} <= set(said["begun"])


@pytest.mark.slow
def test_every_file_is_whole_and_the_next_append_leaves_no_trace_of_the_killed(raged: tuple[Store, dict[str, Any]]) -> None:
    store, _ = raged
    found = sorted((store.path / "entropy_samples").rglob("*.parquet"))
    assert found == sorted(store.files("entropy_samples"))
    rows = Counter(pq.read_table(path).num_rows for path in found)
    assert set(rows) == {ROWS}
    store.append("entropy_samples", frame(APPENDS + 1))
    assert os.listdir(store.path / ".writing") == []
