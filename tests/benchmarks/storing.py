"""Appending to the store and reading a small part of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.figures import Figure, against
from tests.benchmarks.fleet import INTERVAL_NS, made, samples
from toolkit.store import open_store

ROWS = 1_000_000
#: A fifth of the fleet's 200 guests, with the same files: as a DataFrame the whole of it must fit the memory.
GUESTS = 40
WHOLE = 20_000_000


def figures() -> Iterator[Figure]:
    """On /var/tmp; both sides end with their bytes on the disk (fsync)."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield _append(Path(folder))
        yield _one_hour(Path(folder))


def _append(folder: Path) -> Figure:
    frame = samples(1, ROWS)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    store = open_store(folder / "appended")
    plain = folder / "plain.parquet"

    def ours() -> None:
        store.append("entropy_samples", frame)

    def pyarrow() -> None:
        with plain.open("wb") as file:
            pq.write_table(table, file, compression="none")
            os.fsync(file.fileno())

    found = against(f"append of {ROWS:,} samples", ours, "pyarrow, uncompressed, fsync", pyarrow, rounds=15, goal=1.3)
    shutil.rmtree(store.path)
    return found


def _one_hour(folder: Path) -> Figure:
    store = made(folder / "fleet", WHOLE, GUESTS)
    begin = pd.Timestamp(1_700_000_001 * 10**9, unit="ns", tz="UTC")
    hour = pd.Timedelta(hours=1)
    expected = hour.value // INTERVAL_NS

    def ours() -> None:
        found = store.read("entropy_samples", guest="guest-023", since=begin + hour, until=begin + 2 * hour)
        assert len(found) == expected

    def whole() -> None:
        assert len(store.read("entropy_samples")) == WHOLE

    return against(
        f"one guest's hour out of {WHOLE:,} samples of {GUESTS} guests", ours, "the whole store read", whole, goal=1 / 50
    )
