"""A real live migration: a guest moves from one QEMU to another while a program in it reads /dev/hwrng, under two limits."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from tests.guests.receiving import until
from tests.needs import require_lab
from toolkit.analysis.moves import parts
from toolkit.analysis.rates import rates
from toolkit.errors import LabError, UsageError
from toolkit.experiments.migration import MovedReads, check_move, move_while_reading
from toolkit.guests import qmp
from toolkit.guests.devices import RngLimit
from toolkit.guests.moving import move
from toolkit.guests.tiny import TinyGuest, boot_tiny
from toolkit.runs import begin
from toolkit.store import Store, open_store

# Of the guests' group: no other guest keeps the processors busy meanwhile.
pytestmark = [pytest.mark.lab, pytest.mark.slow]

#: CloudStack's default, and four times as much. What the guest's kernel draws itself, 64 bytes now and then, is 2 % of the lower.
BEFORE = RngLimit(max_bytes=2048, period_ms=1000)
AFTER = RngLimit(max_bytes=8192, period_ms=1000)
#: Longer than a period: a gap in what comes that no limit explains.
HELD_S = 1.5


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[MovedReads, Store, list[tuple[float, float]]]:
    require_lab()
    told: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="move-") as folder:
        store = open_store(tmp_path_factory.mktemp("moved") / "store")
        found = move_while_reading(
            *(BEFORE, AFTER, store, begin("test")),
            before_s=5.2,
            after_s=5.2,
            held_s=HELD_S,
            progress=lambda done, total, words: told.append((done, total)),
            folder=Path(folder),
        )
        assert list(Path(folder).iterdir()) == []
    return found, store, told


def test_entropy_flows_before_during_and_after_a_move_at_the_limit_of_where_the_guest_is(
    stored: tuple[MovedReads, Store, list[tuple[float, float]]],
) -> None:
    found, _, _ = stored
    table = parts(found.source_reads, found.moves).set_index("part")
    assert (table["read_bytes"] > 0).all()
    for part, limit in (("before", BEFORE), ("after", AFTER)):
        row = table.loc[part]
        assert row["configured_bytes_per_second"] == limit.max_bytes
        # Both bounds, from the beginning of a burst to that of another, four whole periods at least.
        assert row["bursts"] >= 5
        assert row["ratio"] == pytest.approx(1, abs=0.05), row
        assert row["holds"], row["why"]
    # A full quota from the first moment, whatever was used up at the source.
    assert table.loc["after", "first_period_bytes"] == pytest.approx(AFTER.max_bytes, rel=0.05)
    # The gap: the host held the guest for longer than any limit explains, and no byte came meanwhile.
    move = found.moves.iloc[0]
    during = table.loc["during"]
    assert during["gap_ms"] == during["longest_gap_ms"] >= move["stopped_ms"] >= HELD_S * 1000
    assert during["gap_ms"] > table.loc[["before", "after"], "longest_gap_ms"].max()
    assert move["total_ms"] > move["downtime_ms"] >= HELD_S * 1000
    # While the guest's memory was sent it went on at the source, whose limit held.
    assert during["read_bytes"] <= BEFORE.max_bytes * (during["watched_s"] + 1)


def test_the_guest_is_the_same_one_and_its_own_clock_does_not_count_the_gap(
    stored: tuple[MovedReads, Store, list[tuple[float, float]]],
) -> None:
    found, store, told = stored
    (boot_id,) = {*found.source_reads["boot_id"], *found.moves["boot_id"], *found.rng_state["boot_id"]}
    assert boot_id != begin("test").boot_id
    reads = store.read("source_reads")
    assert len(reads) == len(found.source_reads)
    # One reader all the time: each call follows the end of the one before within a moment of the guest's time.
    assert reads["t_ns"].is_monotonic_increasing
    ended = reads["t_ns"].astype("int64") + reads["wait_ns"].astype("Int64").fillna(0).astype("int64")
    between_s = (reads["t_ns"].to_numpy()[1:] - ended.to_numpy()[:-1]) / 1e9
    move = found.moves.iloc[0]
    assert between_s.min() >= 0
    assert between_s.max() < HELD_S / 2
    assert reads["errno"].isna()[:-1].all()
    # The guest stood still for longer than all that its clock shows.
    assert abs(move["resumed_t_ns"] - move["t_ns"]) / 1e6 < move["stopped_ms"] / 2
    assert np.all(np.diff([done for done, _ in told]) >= 0)
    assert told[-1][0] == told[-1][1]
    # The limit was not one in this boot: nothing that asks for it is told a wrong one.
    assert found.rng_state["virtio_rng_max_bytes"].isna().all()
    assert rates(reads, store.read("rng_state"))["holds"].isna().all()


def test_a_move_that_takes_too_long_or_cannot_be_leaves_the_guest_where_it_was() -> None:
    require_lab()
    script = "tell here; while read -r word <&3; do tell $word; done"
    with tempfile.TemporaryDirectory(prefix="move-") as folder:
        # The last has another device than the guest, which QEMU finds out at the end.
        others = [TinyGuest(name="b", script="", incoming=True), TinyGuest(name="c", script="", incoming=True, rng=None)]
        with boot_tiny([TinyGuest(name="a", script=script), *others], Path(folder)) as (guest, slow, other):
            assert guest.told.line(120) == "here"
            with pytest.raises(LabError, match="was not moved in time; it was called off"):
                move(guest, slow, bytes_per_second=1 << 20, timeout_s=0.5)
            guest.told.tell("once", 20)
            assert guest.told.line(20) == "once"
            with pytest.raises(LabError, match=r"'a' cannot be moved|'c' did not go on"):
                move(guest, other, bytes_per_second=1 << 30, timeout_s=60)
            assert guest.alive()
            # It is the guest's QEMU that notices first: the other one may be about to end.
            until(lambda: not other.alive(), "the QEMU that could not take the guest still runs")
            until(lambda: qmp.execute(guest.qmp, "query-status")["status"] == "running", "the guest does not run on")
            guest.told.tell("twice", 20)
            assert guest.told.line(20) == "twice"
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize("words", [{"held_s": -1.0}, {"bytes_per_second": 5}, {"before_s": 0.1}, {"after_s": 1e9}])
def test_a_move_that_cannot_be_meant_is_refused(words: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        check_move(BEFORE, AFTER, **words)


_OWNER = """
import sys
from pathlib import Path
from toolkit.experiments.migration import move_while_reading
from toolkit.guests.devices import Unlimited
from toolkit.runs import begin
from toolkit.store import open_store
move_while_reading(
    Unlimited(), Unlimited(), open_store(Path(sys.argv[1]) / "store"), begin("test"), before_s=0.5, bytes_per_second=1 << 20,
    progress=lambda done, total, words: print(words, flush=True), folder=Path(sys.argv[1]) / "scratch",
)
"""


def test_sigterm_in_the_middle_of_a_move_leaves_nothing_behind() -> None:
    require_lab()
    with tempfile.TemporaryDirectory(prefix="move-") as made:
        root = Path(made).resolve()
        (root / "scratch").mkdir()
        with subprocess.Popen([sys.executable, "-c", _OWNER, made], stdout=subprocess.PIPE, text=True) as owner:
            try:
                assert owner.stdout is not None
                while owner.stdout.readline() != "moving the guest\n":
                    assert owner.poll() is None
                handles = [os.pidfd_open(pid) for pid in _qemus(root)]
                owner.send_signal(signal.SIGTERM)
                owner.stdout.read()
                assert owner.wait(60) == 128 + signal.SIGTERM
            finally:
                owner.kill()
        assert len(handles) == 2
        for handle in handles:
            assert select.select([handle], [], [], 30)[0]
            os.close(handle)
        deadline = time.monotonic() + 30
        while list((root / "scratch").iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list((root / "scratch").iterdir()) == []


def _qemus(folder: Path) -> list[int]:
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = each.read_bytes().split(b"\0")
            if b"qemu-system" in words[0] and any(os.fsencode(folder) in word for word in words):
                found.append(int(each.parent.name))
    return found
