"""Real virtio-serial ports: whatever befalls one, each record that an agent made is in the store once, or counted where it is not.

One guest with thirty-one ports does for all of it; each test has a port of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guests.asked import ask, connected
from tests.guests.inside import COMMAND
from tests.guests.receiving import Receiving, Sum, made_of, new_store, relayed, sum_of, told, until
from tests.needs import require_lab, require_tool
from toolkit.guests import scratch_disk, wire
from toolkit.guests.lab import BootedGuest, LabGuest, RngLimit, agent_command, boot, port_name
from toolkit.store import Store

pytestmark = [pytest.mark.lab, pytest.mark.slow]

MIB = 1 << 20
DAY_NS = 86_400 * 10**9

# At 50 Hz an agent takes a fifth of an emulated processor.
EVERY_MS = 20
# More than a port, QEMU and the sockets behind it hold, so that a transfer of them has a middle.
MANY = 30_000


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short path: sockets lie in it."""
    require_lab()
    with tempfile.TemporaryDirectory(prefix="ports-") as made:
        yield Path(made).resolve()


@pytest.fixture(scope="module")
def guest(folder: Path) -> Iterator[BootedGuest]:
    image = folder / "scratch"
    scratch_disk.make_image(image, 128 * MIB)
    rng = RngLimit(max_bytes=1024, period_ms=1000)
    with boot([LabGuest(name="ports", command=COMMAND, rng=rng, scratch_disk=image, ports=31)], folder) as (booted,):
        yield booted


@pytest.fixture(autouse=True)
def _nothing_left(guest: BootedGuest) -> Iterator[None]:
    yield
    _call(guest, "kill_all")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path / "store")


def _call(guest: BootedGuest, name: str, *arguments: Any) -> Any:
    """Call a function of tests.guests.inside in the guest."""
    found = ask(guest, f"{name}{arguments!r}")
    assert not (isinstance(found, str) and found.startswith("E: ")), f"{name}{arguments}: {found}\n{guest.said()[-2000:].decode()}"
    return found


def _settled(found: Sum, made: int, ended: int) -> None:
    """Each record that was made is in the store, or counted; ``ended`` are ends of requests, which are records and no rows."""
    assert found.rows + ended == made - found.lost - found.dropped - found.refused, (found, made)
    assert found.recorded == found.rows + ended, (found, made)


def test_a_port_without_its_host_refuses_what_it_must_and_never_waits(guest: BootedGuest) -> None:
    found = _call(guest, "without_host", 1)
    assert found == {
        # Readable: a read would not wait, though it gives nothing.
        "poll": ["POLLIN", "POLLHUP"],
        "open again": "EBUSY",
        "seek": "ESPIPE",
        "read": "",
        "write": "EAGAIN",
        "blocking read": "",
        "hear": [False],
        "host_is_there": False,
    }


def test_a_port_with_its_host_opens_and_closes_again_and_again_but_once_at_a_time(guest: BootedGuest) -> None:
    with connected(guest.sockets[1]) as line:
        found = _call(guest, "with_host", 1)
        assert line.recv(10) == b"here"
    assert found == {
        "open again": "EBUSY",
        "poll": ["POLLOUT"],
        "read": "EAGAIN",
        "write": 4,
        "hear": [True],
        "host_is_there": True,
    }


def test_an_agent_whose_port_is_taken_waits_and_what_it_saw_meanwhile_arrives(guest: BootedGuest, store: Store) -> None:
    _call(guest, "hold", 2)
    agent = _call(guest, "start", 2, EVERY_MS)
    until(lambda: _call(guest, "counts", agent)["made"] > 30)
    with Receiving(store, {"taken": guest.sockets[2]}) as receiving:
        assert receiving.status("taken").total.records == 0
        _call(guest, "let_go", 2)
        receiving.await_stored("taken", 60)
        counts = _call(guest, "end", agent)
        receiving.await_event("taken", "ended")
    found = sum_of(store, "taken")
    _settled(found, counts["made"], 0)
    assert made_of(store, "taken") == counts["made"] == found.rows
    assert len(told(store, "taken", "connected")) == 1


def test_what_was_seen_while_the_host_was_away_arrives_when_it_comes(guest: BootedGuest, store: Store) -> None:
    agent = _call(guest, "start", 3, EVERY_MS)
    until(lambda: _call(guest, "counts", agent)["made"] > 30)
    for again in (1, 2):
        before = _call(guest, "counts", agent)["made"]
        with Receiving(store, {"away": guest.sockets[3]}) as receiving:
            receiving.await_stored("away", 30)
            if again == 2:
                counts = _call(guest, "end", agent)
                receiving.await_event("away", "ended")
        assert sum_of(store, "away").rows >= before
    found = sum_of(store, "away")
    assert found.rows == counts["made"] == made_of(store, "away")
    assert (found.lost, found.dropped, found.refused) == (0, 0, 0)
    assert "records were not delivered yet" in told(store, "away", "connected")[0]


def test_a_host_that_goes_in_the_middle_of_frames_and_comes_back_misses_nothing(
    guest: BootedGuest, store: Store, folder: Path
) -> None:
    agent = _call(guest, "start", 4, EVERY_MS, 2048, MANY)
    with relayed(folder / "relay", guest.sockets[4]) as relay:
        relay.cuts = [100, 1_000, 100_000, 200_001]
        with Receiving(store, {"cut": relay.path}) as receiving:
            receiving.await_stored("cut", MANY)
            counts = _call(guest, "end", agent)
            receiving.await_event("cut", "ended")
        assert relay.cuts == []
    found = sum_of(store, "cut")
    _settled(found, counts["made"], 0)
    assert found.rows == counts["made"] == made_of(store, "cut")
    assert (found.lost, found.dropped, found.refused) == (0, 0, 0)


def test_what_does_not_fit_into_the_agents_memory_is_dropped_and_counted(guest: BootedGuest, store: Store) -> None:
    agent = _call(guest, "start", 5, EVERY_MS, 32, 3_000)
    dropped = until(lambda: _call(guest, "counts", agent)["dropped"])
    with Receiving(store, {"full": guest.sockets[5]}) as receiving:
        receiving.await_stored("full", 100)
        counts = _call(guest, "end", agent)
        receiving.await_event("full", "ended")
    found = sum_of(store, "full")
    _settled(found, counts["made"], 0)
    # To the agent those are dropped too which the host had, and had not said so yet.
    assert 2_000 < dropped <= found.dropped <= counts["dropped"]
    assert found.lost == found.refused == 0
    assert made_of(store, "full") == counts["made"]


def test_an_agent_whose_port_is_unplugged_in_the_middle_idles_until_it_is_back_and_loses_nothing(
    guest: BootedGuest, store: Store, folder: Path
) -> None:
    agent = _call(guest, "start", 6, EVERY_MS, 2048, MANY)
    with relayed(folder / "relay", guest.sockets[6]) as relay:
        relay.at_once, relay.pause_s = 4096, 0.02
        with Receiving(store, {"unplugged": relay.path}) as receiving:
            until(lambda: relay.passed > 100_000)
            guest.unplug_port(6)
            gone = f"not os.path.exists('/dev/virtio-ports/{port_name(6)}')"
            until(lambda: ask(guest, gone))
            before_s, since_ns, made = _usage(guest, agent)
            time.sleep(3)
            after_s, now_ns, made_since = _usage(guest, agent)
            assert made_since > made
            assert (after_s - before_s) * 1e9 < 0.7 * (now_ns - since_ns), "it spins"
            guest.plug_port(6)
            relay.pause_s = 0.0
            receiving.await_stored("unplugged", made_since)
            counts = _call(guest, "end", agent)
            receiving.await_event("unplugged", "ended")
    found = sum_of(store, "unplugged")
    _settled(found, counts["made"], 0)
    assert found.rows == counts["made"] == made_of(store, "unplugged")


def _usage(guest: BootedGuest, agent: int) -> tuple[float, int, int]:
    made = _call(guest, "counts", agent)["made"]
    return _call(guest, "busy_s", agent), _call(guest, "boottime_ns"), made


def test_a_guest_that_stood_still_and_one_whose_clock_was_set_say_when_it_really_was(guest: BootedGuest, store: Store) -> None:
    agent = _call(guest, "start", 7, EVERY_MS)
    begun_ns = time.time_ns()
    with Receiving(store, {"clock": guest.sockets[7]}) as receiving:
        receiving.await_stored("clock", 50)
        guest.stop()
        stored = until(lambda: _unchanged(lambda: receiving.status("clock").total.records))
        guest.go_on()
        receiving.await_stored("clock", stored + 50)
        for years in (20, -40, 20):
            _call(guest, "set_clock", years * 365.25 * 86_400)
            receiving.await_stored("clock", receiving.status("clock").total.records + 100)
        counts = _call(guest, "end", agent)
        receiving.await_event("clock", "ended")
    found = sum_of(store, "clock")
    _settled(found, counts["made"], 0)
    assert found.rows == counts["made"] == made_of(store, "clock")
    anomalies = told(store, "clock", "anomaly")
    assert any("its clock is off by 6" in words for words in anomalies), anomalies
    assert any("its clock is off by -6" in words for words in anomalies), anomalies
    samples = store.read("entropy_samples", guest="clock")
    utc_ns = samples["utc"].astype("datetime64[ns, UTC]").astype("int64")
    assert (utc_ns - begun_ns).abs().max() < DAY_NS
    # Its own time goes on evenly, whatever its calendar says: no hole is years long, nor any step back.
    assert 0 < samples["t_ns"].diff().min() <= samples["t_ns"].diff().max() < 60 * 10**9


def _unchanged(look: Callable[[], int]) -> int | None:
    before = look()
    time.sleep(2)
    return before if before and look() == before else None


def test_thirty_one_ports_at_once_lose_nothing(guest: BootedGuest, store: Store) -> None:
    ports = {f"port-{port}": path for port, path in enumerate(guest.sockets)}
    first = ports.pop("port-0")
    with Receiving(store, ports) as receiving:
        agents = [agent for port in range(1, 31, 5) for agent in _call(guest, "start_all", port, port + 4, 1000)]
        # The one over which all is asked lends its port, and takes it back.
        with connected(guest.sockets[0]) as line:
            line.sendall(b"lend(1000, 5)\n")
        with Receiving(new_store(store.path.with_name("first")), {"port-0": first}) as lent:
            lent.await_event("port-0", "ended")
        with connected(guest.sockets[0]) as line:
            line.sendall(b"\n")  # the end of whatever was said to the agent, and not heard
        for name in ports:
            receiving.await_stored(name, 5)
        counts = dict(zip(ports, _call(guest, "end_all", agents), strict=True))
        for name in ports:
            receiving.await_event(name, "ended")
    for name, said in counts.items():
        found = sum_of(store, name)
        assert found.rows == said["made"] == made_of(store, name), name
        _settled(found, said["made"], 0)
    assert sum_of(lent.store, "port-0").rows == made_of(lent.store, "port-0") > 5


def test_a_host_that_reads_slowly_or_not_at_all_does_not_hold_the_agent_up(guest: BootedGuest, store: Store, folder: Path) -> None:
    agent = _call(guest, "start", 9, EVERY_MS, 2048, MANY)
    with relayed(folder / "relay", guest.sockets[9]) as relay, Receiving(store, {"slow": relay.path}) as receiving:
        relay.at_once, relay.pause_s = 7, 0.001
        until(lambda: relay.passed > 1_000)
        relay.paused = True
        for _ in range(2):
            before = _call(guest, "counts", agent)
            until(lambda before=before: _call(guest, "counts", agent)["made"] > before["made"] + 30)
        assert before["acknowledged"] < MANY, "nothing was held up, so this shows nothing"
        relay.paused = False
        until(lambda: relay.passed > 3_000)
        relay.at_once, relay.pause_s = 65_536, 0.0
        receiving.await_stored("slow", before["made"])
        counts = _call(guest, "end", agent)
        receiving.await_event("slow", "ended")
    found = sum_of(store, "slow")
    _settled(found, counts["made"], 0)
    assert found.rows == counts["made"] == made_of(store, "slow")
    assert (found.lost, found.dropped, found.refused, found.repeated, found.corrupt_frames) == (0, 0, 0, 0, 0)


def test_megabytes_pass_unchanged_both_ways(guest: BootedGuest) -> None:
    size, digest = 4 * MIB, 64
    sent = os.urandom(size)
    _call(guest, "megabytes", 10, size)
    with connected(guest.sockets[10]) as line, line.makefile("rb") as said:
        line.sendall(sent)
        assert said.read(digest).decode() == hashlib.sha256(sent).hexdigest()
        came = said.read(size)
        assert said.read(digest).decode() == hashlib.sha256(came).hexdigest()
    assert len(came) == size


_RECEIVER = """
import asyncio, sys
from pathlib import Path
from toolkit.guests.receiver import Guest, Receiver
from toolkit.runs import begin
from toolkit.store import open_store
receiver = Receiver(open_store(sys.argv[1]), begin("killed"))
receiver.add(Guest("killed", Path(sys.argv[2])))
asyncio.run(receiver.run(until=asyncio.sleep(600)))
"""


def test_a_receiver_that_is_killed_loses_two_seconds_at_most_and_the_next_one_has_them(guest: BootedGuest, store: Store) -> None:
    agent = _call(guest, "start", 11, EVERY_MS)
    late_s = []
    for _ in range(3):
        stored = len(store.read("entropy_samples", guest="killed"))
        words = [sys.executable, "-c", _RECEIVER, str(store.path), str(guest.sockets[11])]
        with subprocess.Popen(words) as process:
            try:
                until(lambda stored=stored: len(store.read("entropy_samples", guest="killed")) > stored + 100)
                now_ns = _call(guest, "boottime_ns")
            finally:
                process.send_signal(signal.SIGKILL)
        late_s.append((now_ns - int(store.read("entropy_samples", guest="killed")["t_ns"].max())) / 1e9)
    # A machine that is busy with other things may be late once, or twice.
    assert min(late_s) < 2, late_s
    in_store = sum_of(store, "killed").rows
    waiting = until(lambda: _undelivered(guest, agent))
    with Receiving(store, {"killed": guest.sockets[11]}) as receiving:
        receiving.await_stored("killed", 100)
        counts = _call(guest, "end", agent)
        receiving.await_event("killed", "ended")
    found = sum_of(store, "killed")
    assert in_store < found.rows == counts["made"] == made_of(store, "killed")
    assert (found.lost, found.dropped, found.refused) == (0, 0, 0)
    connections = told(store, "killed", "connected")
    assert len(connections) == 4
    found_waiting = re.search(r"; ([\d,]+) records were not delivered yet", connections[-1])
    assert found_waiting is not None, connections
    assert int(found_waiting[1].replace(",", "")) >= waiting


def _undelivered(guest: BootedGuest, agent: int) -> int:
    counts = _call(guest, "counts", agent)
    return int(counts["made"] - counts["acknowledged"])


def test_what_the_host_asks_for_is_done_with_leave_and_its_rows_come_back(guest: BootedGuest, store: Store) -> None:
    require_tool("mkfs.ext4")
    leave = """
allow = ["sources", "allocation"]
[sources]
devices = ["/dev/hwrng"]
budget_s = 20
[allocation]
directories = ["/run/files"]
disk = true
size_mib = 8
"""
    assert ask(guest, "os.mkdir('/run/files')") is None
    assert ask(guest, f"Path('/run/agent.toml').write_text({leave!r})") == len(leave)
    device = f"/dev/virtio-ports/{port_name(12)}"
    with Receiving(store, {"leave": guest.sockets[12]}) as receiving:
        agent = _call(guest, "spawn", *agent_command("--port", device, "--every-ms", "100", "--config", "/run/agent.toml"))
        receiving.await_stored("leave", 1)
        read = {"source": "/dev/hwrng", "block_bytes": 64, "budget_ns": 15 * 10**9, "most_reads": 5}
        allocate = {"method": "posix_fallocate", "size_bytes": 4 * MIB, "repeats": 2, "position": 0}
        ended = [
            receiving.ask("leave", wire.READ_SOURCES, **read),
            receiving.ask("leave", wire.ALLOCATE, place="/run/files", **allocate),
            receiving.ask("leave", wire.ALLOCATE, place="disk:ext4", **{**allocate, "position": 2}),
        ]
        assert [(one["words"], one["records"]) for one in ended] == [(None, 5), (None, 2), (None, 2)]
        refused = [
            receiving.ask("leave", wire.READ_SOURCES, **{**read, "source": "/etc/shadow"}),
            receiving.ask("leave", wire.ALLOCATE, place="/root", **allocate),
            receiving.ask("leave", wire.ALLOCATE, place="/run/files", **{**allocate, "size_bytes": 9 * MIB}),
        ]
        for one, why in zip(refused, ("not among the devices", "not among the directories", "beyond the 8 MiB"), strict=True):
            assert one["words"].startswith("refused: ")
            assert why in one["words"]
        assert _call(guest, "ended_status", agent) == 0
        receiving.await_event("leave", "ended")
    found = sum_of(store, "leave")
    _settled(found, made_of(store, "leave"), len(ended) + len(refused))
    reads = store.read("source_reads", guest="leave")
    assert reads["source"].tolist() == ["/dev/hwrng"] * 5
    assert reads["read_bytes"].gt(0).all()
    files = store.read("allocations", guest="leave")
    assert sorted(files["filesystem"]) == ["ext4", "ext4", "tmpfs", "tmpfs"]
    assert sorted(files["position"]) == [0, 1, 2, 3]
    assert files["errno"].isna().all()
    assert files["allocated_bytes"].ge(4 * MIB).all()
    assert ask(guest, "os.listdir('/run/files')") == []
    assert "/dev/vda" not in ask(guest, "open('/proc/mounts').read()")


def test_what_is_not_allowed_is_refused_with_the_reason(guest: BootedGuest, store: Store) -> None:
    agent = _call(guest, "start", 13, EVERY_MS)
    with Receiving(store, {"none": guest.sockets[13]}) as receiving:
        receiving.await_stored("none", 1)
        read = receiving.ask("none", wire.READ_SOURCES, source="getrandom", block_bytes=64, budget_ns=10**9, most_reads=5)
        allocate = {"place": "/run", "method": "posix_fallocate", "size_bytes": 4096, "repeats": 1, "position": 0}
        allocated = receiving.ask("none", wire.ALLOCATE, **allocate)
        counts = _call(guest, "end", agent)
        receiving.await_event("none", "ended")
    assert read["words"] == 'refused: reading sources is not allowed: the configuration has no "sources" in allow'
    assert allocated["words"] == 'refused: allocating files is not allowed: the configuration has no "allocation" in allow'
    found = sum_of(store, "none")
    _settled(found, counts["made"], 2)
    assert (found.by_table["source_reads"], found.by_table["allocations"]) == (0, 0)
