"""A store keeps what was appended whole, reads no more than was asked for, and names each file it cannot read."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

import toolkit
from tests.needs import require_root, require_tool
from toolkit.errors import DamagedFileWarning, NotMeasuredWarning, StoreError, TableError, UsageError
from toolkit.store import HOST_ITSELF, Store, open_store, writing
from toolkit.store.layout import MARKER, host_folder
from toolkit.store.reading import Part
from toolkit.tables import TABLES

START = pd.Timestamp("2026-01-01", tz="UTC")


def samples(
    n: int = 5, *, host: str = "h", guest: str | None = None, run: str = "r", boot: str = "b", begin_s: float = 0
) -> pd.DataFrame:
    t_ns = (np.arange(n) + int(begin_s)) * 1_000_000_000
    same = {
        name: pd.Series([value] * n, dtype="str")
        for name, value in (("run_id", run), ("host", host), ("guest", guest), ("boot_id", boot))
    }
    return TABLES["entropy_samples"].frame(
        {**same, "t_ns": t_ns, "utc": START + pd.to_timedelta(t_ns, unit="ns"), "entropy_avail_bits": np.arange(n) % 257,
         "crng_ready": [None, True, False][:n] + [True] * max(0, n - 3)}
    )  # fmt: skip


def runs(*ids: str, host: str = "h", started: pd.Timestamp = START) -> pd.DataFrame:
    begun = started + pd.to_timedelta(range(len(ids)), "h")
    return TABLES["runs"].frame({"run_id": list(ids), "host": [host] * len(ids), "boot_id": ["b"] * len(ids), "started_utc": begun})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def test_what_was_appended_is_read_back_equal_and_sorted(store: Store) -> None:
    frame = pd.concat(
        [samples(guest="b"), samples(guest=None), samples(guest="a", boot="z"), samples(guest="a", boot="y")], ignore_index=True
    )
    (path,) = store.append("entropy_samples", frame.sample(frac=1, random_state=1))
    again = store.read("entropy_samples")
    assert_frame_equal(again, frame.sort_values(["guest", "boot_id", "t_ns"], na_position="first", ignore_index=True))
    assert path.relative_to(store.path).parts[:3] == ("entropy_samples", "host=h", "date=2026-01-01")


def test_every_table_is_read_back_with_its_dtypes(store: Store) -> None:
    for name, table in TABLES.items():
        row = {field.name: _some(field) for field in table.schema if not field.nullable}
        frame = table.frame({column: [value] for column, value in row.items()})
        store.append(name, frame)
        assert_frame_equal(store.read(name), frame)
    assert store.tables() == list(TABLES)


def _some(field: pa.Field) -> Any:
    return {"string": "x", "int64": -(2**63), "bool": True}.get(str(field.type), START)


def test_extreme_numbers_and_awkward_text_survive(store: Store) -> None:
    frame = samples(4, guest="\0\n<script>‮ü" + "x" * 10_000).assign(t_ns=[-(2**63), -1, 0, 2**63 - 1])
    store.append("entropy_samples", frame)
    assert_frame_equal(store.read("entropy_samples"), frame)
    assert_frame_equal(store.read("entropy_samples", guest=frame["guest"][0]), frame)


def test_a_frame_makes_one_file_a_host(store: Store) -> None:
    paths = store.append("entropy_samples", pd.concat([samples(host="a"), samples(host="b"), samples(host="a", boot="c")]))
    assert (
        sorted(path.parts[-3] for path in paths)
        == ["host=a", "host=b"]
        == sorted(path.parts[-3] for path in store.files("entropy_samples"))
    )
    assert store.read("entropy_samples", host="a")["host"].tolist() == ["a"] * 10


def test_an_empty_frame_changes_nothing(store: Store) -> None:
    assert store.append("entropy_samples", TABLES["entropy_samples"].empty()) == []
    assert os.listdir(store.path) == [MARKER]
    assert store.read("entropy_samples").empty
    assert store.scan("entropy_samples").compute().empty
    assert store.tables() == []


def test_a_frame_that_does_not_fit_leaves_nothing(store: Store) -> None:
    with pytest.raises(TableError, match="t_ns"):
        store.append("entropy_samples", samples().assign(t_ns=1.5))
    assert os.listdir(store.path) == [MARKER]


def test_folders_and_files_are_their_owners_alone(store: Store) -> None:
    store.append("entropy_samples", samples())
    for path in [store.path, *store.path.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_file_says_what_it_is(store: Store) -> None:
    (path,) = store.append("entropy_samples", samples(300_000))
    metadata = pq.read_metadata(path)
    assert metadata.num_row_groups == 3
    schema = metadata.schema.to_arrow_schema()
    assert schema.field("t_ns").metadata[b"unit"] == b"ns"
    assert b'"schema_version": 1' in schema.metadata[writing.METADATA_KEY]


HOSTS = [
    "..",
    ".",
    "../../etc/passwd",
    "/",
    "a/b",
    "host=x",
    "%2E%2E",
    "x" * 10_000,
    "ü" * 300,
    "\n",
    "\0",
    "<script>",
    "~",
    "a" * 200,
]


@pytest.mark.parametrize("host", HOSTS, ids=range(len(HOSTS)))
def test_no_name_of_a_host_leads_out_of_the_store(store: Store, tmp_path: Path, host: str) -> None:
    (path,) = store.append("entropy_samples", samples(host=host))
    assert path.parent.parent.parent == store.path / "entropy_samples"
    assert os.listdir(tmp_path) == ["store"]
    assert store.read("entropy_samples", host=host)["host"].tolist() == [host] * 5
    assert store.read("entropy_samples", host="other").empty


def test_hosts_that_look_alike_have_folders_of_their_own() -> None:
    names = [*HOSTS, "x" * 9_999, "x" * 10_001, "%2e%2e", "." * 3, host_folder("x" * 10_000).removeprefix("host=")]
    assert len({host_folder(name) for name in names}) == len(names)
    assert all(len(os.fsencode(host_folder(name))) <= 255 for name in names)


# What is asked for


@pytest.fixture
def fleet(store: Store) -> Store:
    """Two hosts; on the first two guests and itself, three row groups each guest."""
    for host in ("a", "b"):
        parts = [
            samples(5, host=host, boot=f"{host}0"),
            *(samples(300_000, host=host, guest=guest, run=f"r{guest}", boot=guest) for guest in ("g1", "g2")),
        ]
        store.append("entropy_samples", pd.concat(parts, ignore_index=True))
    return store


@pytest.fixture
def groups_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int, list[str]]]]:
    """Each reading of row groups: of which host, how many, which columns."""
    read: list[tuple[str, int, list[str]]] = []
    real = pq.ParquetFile.read_row_groups

    def spy(self: pq.ParquetFile, groups: list[int], columns: list[str], **options: Any) -> pa.Table:
        rows = real(self, groups, columns=columns, **options)
        read.append((rows["host"][0].as_py() if "host" in columns else "?", len(groups), list(columns)))
        return rows

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", spy)
    return read


def test_a_guests_minutes_are_read_from_their_row_groups_alone(fleet: Store, groups_read: list[Any]) -> None:
    since, until = START + pd.Timedelta("1000s"), START + pd.Timedelta("1060s")
    found = fleet.read("entropy_samples", host="a", guest="g1", since=since, until=until)
    assert found["t_ns"].tolist() == [second * 10**9 for second in range(1000, 1060)]
    assert set(found["guest"]) == {"g1"}
    # of five row groups the first, and the third, in which g1 ends and g2 begins
    assert [(host, count) for host, count, _ in groups_read] == [("a", 2)]


def test_another_hosts_files_are_not_even_opened(fleet: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = pq.read_metadata
    monkeypatch.setattr(pq, "read_metadata", lambda path: opened.append(path.parts[-3]) or real(path))
    fleet.read("entropy_samples", host="a", guest=HOST_ITSELF)
    assert opened == ["host=a"]


def test_only_the_columns_that_are_needed_are_read(fleet: Store, groups_read: list[Any]) -> None:
    found = fleet.read("entropy_samples", columns=["crng_ready", "t_ns"], guest="g2")
    assert list(found.columns) == ["crng_ready", "t_ns"]
    assert len(found) == 600_000
    assert {tuple(columns) for _, _, columns in groups_read} == {("guest", "t_ns", "crng_ready")}


def test_a_scan_reads_no_column_that_the_computation_does_not_use(fleet: Store, groups_read: list[Any]) -> None:
    assert fleet.scan("entropy_samples")["t_ns"].max().compute() == 299_999 * 10**9
    assert {tuple(columns) for _, _, columns in groups_read} == {("t_ns",)}


def test_a_filter_that_nothing_meets_reads_nothing(fleet: Store, groups_read: list[Any]) -> None:
    for where in ({"guest": "g3"}, {"run": "q"}, {"since": "2027-01-01"}, {"until": "2026-01-01"}, {"host": []}):
        found = fleet.read("entropy_samples", **where)  # type: ignore[arg-type]
        assert found.empty
        assert {name: str(kind) for name, kind in found.dtypes.items()} == TABLES["entropy_samples"].dtypes
    assert groups_read == []


def test_filters_take_one_name_or_several_and_the_host_itself(fleet: Store) -> None:
    assert fleet.read("entropy_samples", columns=["guest"], guest=HOST_ITSELF)["guest"].isna().sum() == 10
    both = fleet.read("entropy_samples", columns=["guest"], guest=[HOST_ITSELF, "g1"], host=("b",))
    assert both["guest"].value_counts(dropna=False).to_dict() == {"g1": 300_000, np.nan: 5}
    assert len(fleet.read("entropy_samples", columns=["t_ns"], run="rg2")) == 600_000


def test_times_may_be_text_datetimes_or_timestamps_and_the_end_is_left_out(fleet: Store) -> None:
    for since in (
        "2026-01-01T00:00:02",
        "2026-01-01T02:00:02+02:00",
        START + pd.Timedelta("2s"),
        (START + pd.Timedelta("2s")).to_pydatetime(),
    ):
        assert len(fleet.read("entropy_samples", host="a", guest=HOST_ITSELF, since=since, until="2026-01-01 00:00:04")) == 2


def test_a_table_without_utc_is_filtered_by_when_its_runs_began(store: Store) -> None:
    store.append("runs", runs("r0", "r1", "r2"))
    states = TABLES["rng_state"].frame({"run_id": ["r0", "r1", "r2", "r1"], "host": ["h"] * 4, "boot_id": ["b"] * 4})
    store.append("rng_state", states)
    found = store.read("rng_state", columns=["boot_id"], since=START + pd.Timedelta("1h"), until=START + pd.Timedelta("2h"))
    assert found.to_dict("list") == {"boot_id": ["b", "b"]}
    store.append("rng_state", states.assign(run_id="lost"))
    with pytest.warns(NotMeasuredWarning, match="4 rows of rng_state"):
        assert len(store.read("rng_state", until="2030-01-01")) == 4
    assert store.read("runs", since=START + pd.Timedelta("1h"))["run_id"].tolist() == ["r1", "r2"]


@pytest.mark.parametrize(
    "where",
    [{"columns": ["colour"]}, {"columns": ["t_ns", "t_ns"]}, {"host": 5}, {"guest": [None]}, {"since": "soon"}, {"until": pd.NaT}],
)
def test_what_cannot_be_meant_is_refused(store: Store, where: dict[str, Any]) -> None:
    with pytest.raises((UsageError, TypeError)):
        store.read("entropy_samples", **where)


def test_an_unknown_table_is_refused(store: Store) -> None:
    for ask in (store.read, store.scan, store.files):
        with pytest.raises(UsageError, match="no table"):
            ask("nothing")


def test_a_scan_is_one_partition_a_file_with_the_names_as_categoricals(fleet: Store) -> None:
    scanned = fleet.scan("entropy_samples")
    assert scanned.npartitions == 2
    kinds = {name: str(kind) for name, kind in scanned.dtypes.items()}
    assert kinds == TABLES["entropy_samples"].dtypes | dict.fromkeys(("run_id", "host", "guest", "boot_id"), "category")
    first = scanned.partitions[0].compute()
    assert {name: str(kind) for name, kind in first.dtypes.items()} == kinds
    plain = first.astype(dict.fromkeys(("run_id", "host", "guest", "boot_id"), "str"))
    assert_frame_equal(plain, fleet.read("entropy_samples", host="a"))


def test_a_name_that_the_statistics_tell_is_the_same_as_one_that_is_read(store: Store, groups_read: list[Any]) -> None:
    frame = pd.concat([samples(writing.ROW_GROUP_ROWS), samples(5, guest="g")], ignore_index=True)
    store.append("entropy_samples", frame)
    found = store.scan("entropy_samples").compute()
    assert_frame_equal(found.astype(dict.fromkeys(("run_id", "host", "guest", "boot_id"), "str")), frame)
    assert not {"run_id", "host", "guest", "boot_id"} & set(groups_read[0][2])


def test_runs_come_in_the_order_of_time(store: Store) -> None:
    store.append("runs", runs("late", started=START + pd.Timedelta("1D")))
    store.append("runs", runs("early", host="z"))
    assert store.runs()["run_id"].tolist() == ["early", "late"]


# Stores and other folders


def test_a_folder_of_something_else_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"letter\.txt"):
        open_store(tmp_path)
    assert os.listdir(tmp_path) == ["letter.txt"]


def test_a_store_that_is_not_there_is_made_only_if_wanted(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        open_store(tmp_path / "a", create=False)
    with pytest.raises(StoreError, match="empty"):
        open_store(tmp_path, create=False)
    assert open_store(tmp_path / "a" / "b").path.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="not a folder"):
        open_store(tmp_path / "file")


def test_a_store_of_a_newer_layout_or_with_a_broken_marker_is_refused(store: Store) -> None:
    (store.path / MARKER).write_text('{"format": "virt-toolkit store", "layout_version": 9}')
    with pytest.raises(StoreError, match="layout 9"):
        open_store(store.path)
    (store.path / MARKER).write_text("{}")
    with pytest.raises(StoreError, match="damaged"):
        open_store(store.path)


# Damage


def _rewrite(path: Path, **changes: Any) -> None:
    rows = pq.read_table(path)
    metadata = dict(rows.schema.metadata)
    for key, value in changes.items():
        metadata[writing.METADATA_KEY] = (
            metadata[writing.METADATA_KEY].replace(*value) if key == "says" else metadata[writing.METADATA_KEY]
        )
    rows = rows.drop_columns(changes.get("drop", []))
    pq.write_table(rows.replace_schema_metadata(metadata), path)


def _retype(path: Path) -> None:
    rows = pq.read_table(path)
    place = rows.schema.get_field_index("t_ns")
    pq.write_table(rows.set_column(place, "t_ns", rows["t_ns"].cast(pa.float64())), path)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    for place in range(100, len(damaged) // 3):
        damaged[place] ^= 0xFF
    path.write_bytes(damaged)


def _move(path: Path) -> None:
    place = path.parent.parent.parent / "host=other" / path.parent.name
    place.mkdir(parents=True)
    path.rename(place / path.name)


def _link(path: Path) -> None:
    path.rename(path.parents[4] / "away.parquet")
    path.symlink_to(path.parents[4] / "away.parquet")


def _link_folder(path: Path) -> None:
    path.parent.rename(path.parents[4] / "away")
    path.parent.symlink_to(path.parents[4] / "away")


def _foreign_parquet(path: Path) -> None:
    samples().to_parquet(path)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "truncated": (_truncate, "not a whole Parquet file"),
    "empty": (lambda path: os.truncate(path, 0), r"empty \(0 bytes\)"),
    "text": (lambda path: path.write_text("hello " * 100), "not a whole Parquet file"),
    "bits flipped": (_flip, "not a whole Parquet file"),
    "column missing": (lambda path: _rewrite(path, drop=["utc"]), "its columns are not those"),
    "column of another type": (_retype, "its column t_ns is double where"),
    "newer version": (lambda path: _rewrite(path, says=(b'"schema_version": 1', b'"schema_version": 7')), "version 7"),
    "other table": (lambda path: _rewrite(path, says=(b"entropy_samples", b"system_samples_")), "of table 'system_samples_'"),
    "nonsense in its metadata": (lambda path: _rewrite(path, says=(b"{", b"[")), "says of itself is damaged"),
    "in another host's folder": (_move, "lies in the folder of another"),
    "Parquet of someone else": (_foreign_parquet, "not written by this toolkit"),
    "symbolic link": (_link, "symbolic link"),
    "symbolic link to a folder": (_link_folder, "symbolic link"),
    "a pipe": (_fifo, "nothing that a store holds"),
    "copy": (lambda path: shutil.copy(path, path.with_name("part-copy.parquet")), "is a copy of"),
    "copy before it": (lambda path: shutil.copy(path, path.with_name("part-0.parquet")), "part-0.parquet.*is a copy of"),
    "other file": (lambda path: path.with_name("notes.txt").touch(), "nothing that a store holds"),
    "other folder": (lambda path: (path.parent.parent / "tmp").mkdir(), "nothing that a store holds"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("how", ["read", "scan"])
def test_damage_is_named_once_and_the_rest_is_read(store: Store, kind: str, how: str) -> None:
    damage, reason = DAMAGE[kind]
    whole, hurt = samples(50, run="whole"), samples(50_000, run="hurt")
    store.append("entropy_samples", whole)
    (path,) = store.append(
        "entropy_samples",
        hurt.assign(utc=hurt["utc"] + pd.Timedelta("1D"), entropy_avail_bits=np.random.default_rng(0).permutation(50_000)),
    )
    damage(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = store.read("entropy_samples") if how == "read" else store.scan("entropy_samples").compute(scheduler="synchronous")
    said = {str(warning.message) for warning in caught}
    assert len(said) == 1
    assert all(issubclass(warning.category, DamagedFileWarning) for warning in caught)
    with pytest.warns(DamagedFileWarning, match=reason):
        warnings.warn(caught[0].message, stacklevel=1)
    added = kind.startswith(("copy", "other f"))
    assert found["run_id"].value_counts().to_dict() == {"whole": 50} | ({"hurt": 50_000} if added else {})


def test_hidden_files_are_passed_over(store: Store) -> None:
    (path,) = store.append("entropy_samples", samples())
    (path.parent / ".part-x.parquet").write_bytes(b"half")
    (store.path / "entropy_samples" / ".DS_Store").touch()
    assert len(store.read("entropy_samples")) == 5


@pytest.mark.root
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    require_root()
    mount, umount = require_tool("mount"), require_tool("umount")
    subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], check=True)
    try:
        store = open_store(tmp_path / "store")
        store.append("entropy_samples", samples())
        noise = samples(100_000).assign(entropy_avail_bits=np.random.default_rng(0).integers(0, 2**60, 100_000))
        with pytest.raises(StoreError, match="No space left") as refused:
            store.append("entropy_samples", noise)
        assert "free some" in refused.value.remedy
        assert os.listdir(store.path / ".writing") == []
        assert len(store.read("entropy_samples")) == 5
        subprocess.run([mount, "-o", "remount,ro", str(tmp_path)], check=True)
        assert len(open_store(store.path).read("entropy_samples")) == 5
        with pytest.raises(StoreError, match="Read-only"):
            store.append("entropy_samples", samples())
    finally:
        subprocess.run([umount, str(tmp_path)], check=True)


def test_an_append_of_which_one_file_cannot_be_placed_leaves_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.rename

    def rename(path: Path, place: Path) -> Path:
        if "host=b" in str(place):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, place)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StoreError, match="Input/output error"):
        store.append("entropy_samples", pd.concat([samples(host="a"), samples(host="b")]))
    assert store.read("entropy_samples").empty
    assert os.listdir(store.path / ".writing") == []


def test_a_folder_that_is_a_link_is_not_written_through(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (store.path / "entropy_samples").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="not a folder"):
        store.append("entropy_samples", samples())
    assert os.listdir(tmp_path / "elsewhere") == []


# Writers at once

WRITER = """
import sys
import toolkit
from tests.test_store import samples
store = toolkit.open_store(sys.argv[1])
for i in range(int(sys.argv[3])):
    store.append("entropy_samples", samples(200, run=f"{sys.argv[2]}-{i}"))
    print(f"{sys.argv[2]}-{i}", flush=True)
"""


def _writer(store: Store, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(store.path), name, str(count)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("create", [True, False])
def test_a_folder_that_another_makes_a_store_at_this_moment_is_one(
    create: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def overtaken(folder: Path) -> Any:
        monkeypatch.undo()
        open_store(tmp_path).append("entropy_samples", samples())
        return listed(folder)

    monkeypatch.setattr(os, "scandir", overtaken)
    store = open_store(tmp_path, create=create)
    assert os.scandir is listed
    assert len(store.read("entropy_samples")) == 5


def test_writers_at_once_lose_nothing_and_a_reader_sees_whole_files_alone(store: Store) -> None:
    writers = [_writer(store, str(i), 15) for i in range(4)]
    while any(writer.poll() is None for writer in writers):
        seen = store.read("entropy_samples", columns=["run_id"])["run_id"].value_counts()
        assert (seen == 200).all()
    assert all(writer.wait() == 0 for writer in writers)
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()
    seen = store.read("entropy_samples")["run_id"].value_counts()
    assert seen.to_dict() == {f"{i}-{k}": 200 for i in range(4) for k in range(15)}
    assert os.listdir(store.path / ".writing") == []


def test_killed_writers_lose_nothing_that_was_acknowledged_and_are_cleaned_up_after(store: Store) -> None:
    acknowledged: set[str] = set()
    for i in range(4):
        writer = _writer(store, str(i), 10_000)
        assert writer.stdout is not None
        acknowledged.add(writer.stdout.readline().strip())
        time.sleep(0.02 * i)
        writer.send_signal(signal.SIGKILL)
        acknowledged.update(writer.stdout.read().split())
        writer.wait()
        writer.stdout.close()
    store.append("entropy_samples", samples(200, run="after"))
    assert os.listdir(store.path / ".writing") == []
    seen = store.read("entropy_samples")["run_id"].value_counts()
    assert (seen == 200).all()
    assert acknowledged | {"after"} <= set(seen.index)


HALF = """
import os, sys
from pathlib import Path
from toolkit.store import writing
with writing._beside(Path(sys.argv[1]), "part-half.parquet") as (path, file):
    file.write(b"half"); file.flush()
    print(path, flush=True)
    sys.stdin.read()
"""


def test_a_half_written_file_is_swept_when_its_writer_is_gone_and_not_before(store: Store) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HALF, str(store.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        half = Path(writer.stdout.readline().strip())
        foreign = half.with_name("notes")
        foreign.touch()
        store.append("entropy_samples", samples())
        assert half.read_bytes() == b"half"
        assert len(store.read("entropy_samples")) == 5
        writer.kill()
    assert half.exists()
    store.append("entropy_samples", samples())
    assert not half.exists()
    assert foreign.exists()


def test_a_file_swept_between_its_making_and_its_lock_is_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real, swept = writing.fcntl.flock, []

    def flock(file: Any, how: int) -> None:
        if not swept:
            swept.extend((store.path / ".writing").iterdir())
            swept[0].unlink()
        real(file, how)

    monkeypatch.setattr(writing.fcntl, "flock", flock)
    store.append("entropy_samples", samples())
    assert swept
    assert len(store.read("entropy_samples")) == 5


def test_a_file_that_vanishes_while_it_is_read_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append("entropy_samples", samples(run="stays"))
    (gone,) = store.append("entropy_samples", samples(run="goes"))
    real = Part.read

    def read(part: Part, *arguments: Any, **options: Any) -> pa.Table | None:
        if part.path == gone:
            gone.unlink()
        return real(part, *arguments, **options)

    monkeypatch.setattr(Part, "read", read)
    with pytest.warns(DamagedFileWarning, match="removed while"):
        assert set(store.read("entropy_samples")["run_id"]) == {"stays"}


def test_the_public_name_opens_a_store(tmp_path: Path) -> None:
    assert isinstance(toolkit.open_store(tmp_path / "s"), toolkit.Store)
