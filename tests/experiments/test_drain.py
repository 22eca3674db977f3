"""Readers at once, in real guests: who waits is who reads the device, and guests on one source both get theirs."""

from __future__ import annotations

import os
import select
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.needs import require_lab
from tests.traces import processes_in, traces
from toolkit.analysis.waits import fairness as shares_of
from toolkit.analysis.waits import waits
from toolkit.errors import NotMeasuredWarning, UsageError
from toolkit.experiments import drain as experiment
from toolkit.experiments.drain import Drain, fairness, measure_drain, readers_at_once
from toolkit.guests.devices import Backend, RngLimit, Unlimited
from toolkit.runs import begin
from toolkit.store import open_store
from toolkit.tables import TABLES

LIMIT = RngLimit(max_bytes=1024, period_ms=1000, backend="/dev/urandom")
PERIOD_NS = 10**9


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="drain-") as made:
        yield Path(made).resolve()


@pytest.mark.lab
@pytest.mark.slow
def test_who_reads_the_device_waits_for_its_limit_and_guests_share_a_source(tmp_path: Path, root: Path) -> None:
    require_lab()
    store, run = open_store(tmp_path / "store"), begin("test", seed=1)
    (together,) = [each for each in readers_at_once(["getrandom", "/dev/hwrng"], LIMIT, 3.5, 1) if len(each.sources) == 2]
    told: list[tuple[float, float]] = []
    reads = measure_drain(
        [together, *fairness([2], "/dev/urandom", 1.0, 1)],
        store,
        run,
        progress=lambda now, whole, _words: told.append((now, whole)),
        folder=root,
    )
    assert traces(root) == []
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    assert {name: str(kind) for name, kind in reads.dtypes.items()} == TABLES["drain_reads"].dtypes
    assert len(store.read("drain_reads")) == len(reads)
    assert len(store.read("rng_state")) == 3
    assert reads["errno"].isna().all()
    assert (reads["wait_ns"] >= 0).all()
    assert reads.loc[reads["read_bytes"].isna(), "wait_censored"].all()
    assert (reads["block_bytes"] == 64).all()

    mine = reads[reads["scenario"] == "readers"]
    assert mine[["guests_at_once", "readers_at_once", "virtio_rng_max_bytes"]].drop_duplicates().to_numpy().tolist() == [
        [1, 2, 1024]
    ]
    longest = mine.groupby("reader")["wait_ns"].max()
    assert set(longest.index) == {"getrandom", "/dev/hwrng"}
    # A period, less what the burst took; more where the kernel's own reader took a burst.
    assert 0.5 * PERIOD_NS < longest["/dev/hwrng"] < 3.5 * PERIOD_NS
    assert longest["getrandom"] < longest["/dev/hwrng"] / 2
    bytes_of = mine.groupby("reader")["read_bytes"].sum()
    assert 1024 <= bytes_of["/dev/hwrng"] <= 6 * 1024
    table = waits(reads).set_index("reader")
    assert set(table.index) == {"getrandom", "/dev/hwrng"}

    (row,) = shares_of(reads).to_dict("records")
    assert (row["guests_at_once"], row["incomplete"]) == (2, 0)
    both = reads[reads["scenario"] == "fairness"].groupby("guest")["read_bytes"].sum()
    assert set(both.index) == {"fairness-0", "fairness-1"}
    assert (both > 0).all()
    assert 0.5 <= row["jain"] <= 1
    assert reads[reads["scenario"] == "fairness"]["boot_id"].nunique() == 2


@pytest.mark.lab
@pytest.mark.slow
def test_one_two_and_four_guests_on_one_source_share_what_it_gives(tmp_path: Path, root: Path) -> None:
    require_lab()
    backend: Backend = "/dev/hwrng" if Path("/dev/hwrng").exists() else "/dev/urandom"
    store, run = open_store(tmp_path / "store"), begin("test", seed=1)
    reads = measure_drain(fairness([1, 2, 4], backend, 3.0, 1), store, run, folder=root)
    table = shares_of(reads).set_index("guests_at_once")
    assert table.index.tolist() == [1, 2, 4]
    assert (table["incomplete"] == 0).all()
    assert (reads["virtio_rng_backend"] == backend).all()
    assert table.loc[1, "jain"] == 1
    for guests in (2, 4):
        # None gets all: with one guest that has everything Jain's index is one over their number.
        assert 0.6 < table.loc[guests, "jain"] <= 1
        assert table.loc[guests, "smallest_share"] > 0.25 / guests
        # They share it: what all get together is not as much as each would get alone.
        if backend == "/dev/hwrng":
            assert table.loc[guests, "all_bytes_per_second"] < 0.8 * guests * table.loc[1, "all_bytes_per_second"]


@pytest.mark.lab
@pytest.mark.slow
def test_two_readers_of_the_device_share_its_limit_and_one_of_random_does_not_wait_for_it(tmp_path: Path, root: Path) -> None:
    require_lab()
    store, run = open_store(tmp_path / "store"), begin("test", seed=1)
    reads = measure_drain(
        [Drain("readers", 1, ("/dev/random", "/dev/hwrng", "/dev/hwrng"), LIMIT, 4.0, 1)], store, run, folder=root
    )
    device = reads[reads["source"] == "/dev/hwrng"]
    assert device["reader"].nunique() == 2
    assert (device.groupby("reader")["read_bytes"].sum() > 0).all()
    assert 1024 <= device["read_bytes"].sum() <= 6 * 1024  # of both together: a period's bytes for each of them
    assert device["wait_ns"].max() > 0.4 * PERIOD_NS
    random = reads[reads["source"] == "/dev/random"]
    assert random["wait_ns"].max() < device["wait_ns"].max()
    assert random["read_bytes"].sum() > 0


def test_a_source_that_the_host_has_not_is_left_out_and_the_store_tells_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: there(path) and path != Path("/dev/hwrng"))  # as on a host without one
    store, run = open_store(tmp_path / "store"), begin("test", seed=1)
    with pytest.warns(NotMeasuredWarning, match=r"2 guests on the host's /dev/hwrng was not measured: .*no /dev/hwrng"):
        reads = measure_drain(fairness([2]), store, run, folder=tmp_path)
    assert reads.empty
    assert list(reads.columns) == list(TABLES["drain_reads"].dtypes)
    (row,) = store.read("capabilities").to_dict("records")
    assert (row["capability"], row["available"]) == ("2 guests on the host's /dev/hwrng", False)
    assert row["detail"] == "This host has no /dev/hwrng to feed a guest's virtio-rng"
    assert row["remedy"] == "Give another backend."
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_readers_of_one_source_are_numbered_from_one() -> None:
    sources = ("getrandom", "/dev/hwrng", "/dev/random", "/dev/hwrng")
    assert [experiment._name(sources, place) for place in range(4)] == ["getrandom", "/dev/hwrng 1", "/dev/random", "/dev/hwrng 2"]


def test_each_source_is_measured_alone_too_and_one_alone_once() -> None:
    found = readers_at_once(["getrandom", "/dev/hwrng", "/dev/hwrng"], LIMIT)
    assert [each.sources for each in found] == [("getrandom",), ("/dev/hwrng",), ("getrandom", "/dev/hwrng", "/dev/hwrng")]
    assert [each.sources for each in readers_at_once(["getrandom"], LIMIT)] == [("getrandom",)]
    assert [each.guests for each in fairness([1, 2, 4])] == [1, 2, 4]
    assert str(fairness([1])[0]) == "1 guest on the host's /dev/hwrng"


@pytest.mark.parametrize(
    ("drain", "why"),
    [
        (Drain("readers", 1, ("telepathy",)), "'telepathy' is no source"),
        (Drain("readers", 1, ()), "1 guests of 0 readers"),
        (Drain("readers", 1, ("getrandom",) * 65), "1 guests of 65 readers"),
        (Drain("fairness", 0, ("getrandom",)), "0 guests"),
        (Drain("fairness", 17, ("getrandom",)), "17 guests"),
        (Drain("readers", 1, ("getrandom",), repeats=0), "0 rounds"),
        (Drain("readers", 1, ("getrandom",), watch_s=0.4), "measure nothing"),
        (Drain("readers", 1, ("getrandom",), watch_s=3601.0), "measure nothing"),
        (Drain("readers", 1, ("getrandom",), watch_s=float("nan")), "measure nothing"),
        (Drain("readers", 1, ("getrandom",), RngLimit(max_bytes=0, period_ms=1)), "at least 1 byte"),
        (Drain("readers", 1, ("getrandom",), Unlimited(backend="no")), "is no backend"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_meant_is_refused(drain: Drain, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        drain.check()


@pytest.mark.parametrize(
    ("drain", "held"),
    [
        (Drain("readers", 1, ("/dev/hwrng",), repeats=27), True),
        (Drain("readers", 1, ("/dev/hwrng",), repeats=28), False),
        (Drain("readers", 1, ("/dev/hwrng",) * 4, repeats=10), False),
        (Drain("readers", 1, ("/dev/hwrng",) * 4, LIMIT, repeats=300), True),  # a limit lets come less
        (Drain("readers", 1, ("getrandom",) * 4, repeats=300), True),  # readers that rest
        (Drain("readers", 1, ("getrandom",) * 64, watch_s=3600.0), False),
    ],
    ids=str,
)
def test_what_a_guest_could_not_tell_at_the_end_is_refused_before_it_boots(drain: Drain, held: bool) -> None:
    if held:
        drain.check()
    else:
        with pytest.raises(UsageError, match=r"could have to tell .* may tell 64 MiB.*Give fewer or shorter rounds"):
            drain.check()


@pytest.mark.lab
@pytest.mark.slow
def test_a_guest_that_ends_between_rounds_is_left_out_and_says_so(tmp_path: Path, root: Path) -> None:
    require_lab()

    def kill(_done: float, _whole: float, words: str) -> None:
        """Before the guest is told to begin."""
        if "round 1" in words:
            (qemu,) = [int(each.partition(":")[0]) for each in processes_in(root) if "-sandbox" in each]
            handle = os.pidfd_open(qemu)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            assert select.select([handle], [], [], 60)[0]
            os.close(handle)

    store = open_store(tmp_path / "store")
    with pytest.warns(NotMeasuredWarning, match=r"'readers-0' (does not listen to 'round 0'|ended before it said 'over')"):
        reads = measure_drain(
            [Drain("readers", 1, ("getrandom",), repeats=1)], store, begin("test", seed=1), progress=kill, folder=root
        )
    assert reads.empty
    assert store.read("capabilities")["available"].tolist() == [False]
    assert traces(root) == []


@pytest.mark.parametrize(
    "text", [b"", b".", b"1", b"1.", b".5", b"-1.5", b"1e3.0", b"12345678901.0", "²".encode() + b".1", b"1.5.5"]
)
def test_a_moment_that_is_none_is_not_known(text: bytes) -> None:
    assert experiment._seconds_ns(text) is None
    assert experiment._seconds_ns(b"12.34\n") == 12_340_000_000


def test_records_of_a_hostile_guest_are_rows_that_fit_the_table() -> None:
    wild = b"".join(value.to_bytes(8, "little", signed=True) for value in (1, 2**63 - 1, 2**63 - 1, 2**63 - 1, 0, 0))
    drain = Drain("readers", 1, ("getrandom", "getrandom"))
    files = {"reads.0.0": wild, "reads.0.1": b"x" * 1000, "reads.1.0": bytes(24), "ended.0": b"999999999.99", "ended.1": b"soon"}
    rows = experiment._rows(drain, files)
    frame = begin("test", seed=1).frame("drain_reads", [{**row, "guest": "a", "boot_id": "b"} for row in rows])
    assert len(frame) >= 2
    assert (frame["wait_ns"] >= 0).all()
    assert isinstance(waits(frame), pd.DataFrame)
