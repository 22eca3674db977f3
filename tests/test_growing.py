"""Files that grow: a reader finds every row once, at any moment, and what a killed writer left is passed over."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from toolkit.store import Store, open_store
from toolkit.store.growing import Growing, Whose
from toolkit.store.layout import revision
from toolkit.tables import TABLES

TABLE = TABLES["entropy_samples"]
RED, BLUE = (Whose("run", "host", guest, "boot") for guest in ("red", "blue"))


def rows(*t_ns: int) -> pa.Table:
    fields = list(TABLE.schema)[4:]
    values = {"t_ns": list(t_ns), "utc": [10**18 + t for t in t_ns]}
    arrays = [
        pa.array(values[field.name], pa.int64()).cast(field.type) if field.name in values else pa.nulls(len(t_ns), field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def _files(store: Store) -> list[str]:
    return sorted(path.name for path in store.path.glob("entropy_samples/*/*/*"))


def test_rows_of_many_additions_are_one_file_with_each_boot_in_one_piece(store: Store) -> None:
    growing = store.growing("entropy_samples", "host")
    assert growing.add({RED: rows(1, 2), BLUE: rows(1)}) == 3
    assert growing.add({BLUE: rows(2), RED: rows(3)}) == 2
    read = store.read("entropy_samples")
    assert list(zip(read["guest"], read["t_ns"], strict=True)) == [("blue", 1), ("blue", 2), ("red", 1), ("red", 2), ("red", 3)]
    assert len(_files(store)) == len(store.files("entropy_samples")) == 1
    assert growing.add({RED: rows()}) == 0
    assert _files(store) == [path.name for path in store.files("entropy_samples")]


def test_a_file_with_enough_rows_is_left_and_the_next_begun(store: Store) -> None:
    growing = Growing(store.path, TABLE, "host", most_rows=4)
    for first in range(0, 12, 2):
        growing.add({RED: rows(first, first + 1)})
    assert len(_files(store)) == 3
    assert store.read("entropy_samples")["t_ns"].tolist() == list(range(12))


def test_of_a_file_whose_writer_was_killed_before_it_removed_the_last_revision_the_newest_counts(store: Store) -> None:
    growing = store.growing("entropy_samples", "host")
    growing.add({RED: rows(1)})
    (first,) = store.files("entropy_samples")
    kept = first.read_bytes()
    growing.add({RED: rows(2)})
    assert not first.exists()
    first.write_bytes(kept)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.read("entropy_samples")["t_ns"].tolist() == [1, 2]
        assert len(store.scan("entropy_samples").compute()) == 2
    # The next writer of that day removes it.
    store.growing("entropy_samples", "host").add({RED: rows(3)})
    assert not first.exists()
    assert store.read("entropy_samples")["t_ns"].tolist() == [1, 2, 3]


def test_a_scan_that_found_a_file_reads_what_it_grew_into(store: Store) -> None:
    growing = store.growing("entropy_samples", "host")
    growing.add({RED: rows(1)})
    scanned = store.scan("entropy_samples")
    growing.add({RED: rows(2)})
    assert scanned.compute()["t_ns"].tolist() == [1, 2]


def test_a_reader_finds_every_row_once_while_a_writer_adds(store: Store) -> None:
    growing = Growing(store.path, TABLE, "host", most_rows=40)
    added, done = 0, threading.Event()

    def write() -> None:
        nonlocal added
        for number in range(150):
            growing.add({RED: rows(number)})
            added = number + 1
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while not done.is_set():
            least = added
            read = store.read("entropy_samples")["t_ns"].tolist() if least else []
            assert sorted(read) == list(range(len(read)))
            assert len(read) >= least
            reads += 1
    writer.join()
    assert reads > 3
    assert store.read("entropy_samples")["t_ns"].tolist() == list(range(150))


def test_a_name_of_a_revision_is_no_other_files(store: Store) -> None:
    growing = store.growing("entropy_samples", "host")
    growing.add({RED: rows(1)})
    (path,) = store.files("entropy_samples")
    stem = path.name.partition(".r0")[0]
    assert path.name == revision(f"{stem}.parquet", 1)
    store.append("entropy_samples", store.read("entropy_samples"))
    assert len(store.files("entropy_samples")) == 2
