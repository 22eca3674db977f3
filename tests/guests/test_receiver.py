"""The receiver with many guests, good and bad: each apart, every record in the store or counted where it is missing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.guests.peers import BOOT, Peer, agents, hello, sample
from toolkit import explore
from toolkit.guests import wire
from toolkit.guests.package import agent_pyz
from toolkit.guests.receiver import Guest, Receiver, Status
from toolkit.guests.wire import LAYOUTS
from toolkit.runs import begin
from toolkit.store import Store, open_store

pytestmark = pytest.mark.timeout(300)

_LOSSES = ["lost_records", "dropped_in_guest", "refused_records", "repeated_records", "corrupt_frames", "refused_frames"]


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "agent.pyz"
    path.write_bytes(agent_pyz())
    return path


def _receive(store: Store, guests: list[Guest], until: Callable[[Receiver], Awaitable[Any]], **options: Any) -> list[Status]:
    async def run() -> list[Status]:
        receiver = Receiver(store, begin("test"), **options)
        for guest in guests:
            receiver.add(guest)
        await receiver.run(until(receiver))
        return receiver.status()

    return asyncio.run(run())


def _stored(store: Store) -> pd.Series:
    """Rows of each guest."""
    tables = [name for name in store.tables() if name in ("entropy_samples", "system_samples", "source_reads")]
    return pd.concat([store.read(name, columns=["guest"]) for name in tables]).groupby("guest").size()


def _sums(store: Store) -> pd.DataFrame:
    return store.read("channel_health").groupby("guest")[["records", *_LOSSES]].sum()


def _made(store: Store) -> dict[str, int]:
    """The records of each guest's agent, as it said at its end."""
    ended = store.read("channel_events").query("event == 'ended'")
    return {row.guest: int(row.detail.split(" after ")[1].split()[0].replace(",", "")) for row in ended.itertuples()}


async def _end_all(started: dict[str, Any]) -> None:
    """Have the agents end of their own will, and wait until what they said is heard."""
    for _, process in started.values():
        process.terminate()
    while any(process.poll() is None for _, process in started.values()):
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)


@pytest.mark.slow
def test_31_guests_at_1_khz_for_a_minute_lose_nothing(pyz: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    names = [f"guest-{number}" for number in range(31)]
    with agents(pyz, names, every_ms=1) as started:

        async def a_minute(receiver: Receiver) -> None:
            while not all(status.total.records for status in receiver.status()):
                await asyncio.sleep(0.1)
            await asyncio.sleep(60)
            await _end_all(started)

        _receive(store, [Guest(name, ours) for name, (ours, _) in started.items()], a_minute)
    sums, stored, made = _sums(store), _stored(store), _made(store)
    assert set(made) == set(names)
    assert stored.to_dict() == made
    assert sums["records"].to_dict() == made
    assert sums[_LOSSES].sum().sum() == 0
    samples = store.read("entropy_samples", columns=["guest", "t_ns"])
    per_guest = samples.groupby("guest")["t_ns"]
    assert not samples.duplicated().any()
    # A moment that passed while the machine was busy is a gap in the times, and no loss: nobody looked. Most were looked at.
    assert (per_guest.count() / ((per_guest.max() - per_guest.min()) / 1e6)).median() > 0.5
    # Files that grow, rather than one a second.
    assert len(store.files("entropy_samples")) < 40


@pytest.mark.slow
def test_one_floods_one_sends_garbage_one_is_hung_and_28_others_lose_nothing(pyz: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")

    def flood(peer: Peer) -> None:
        peer.greet()
        number = 0
        while True:
            records = [sample(number + place) for place in range(1000)]
            peer.say(wire.SAMPLES, *records, first=number, oldest=number)
            number += len(records)

    def garbage(peer: Peer) -> None:
        while True:
            peer.socket.sendall(os.urandom(65536))

    def hung(peer: Peer) -> None:
        peer.ending.wait()

    bad = {"floods": Peer(flood), "garbage": Peer(garbage), "hung": Peer(hung)}
    good = [f"good-{number}" for number in range(28)]
    seen: dict[str, Status] = {}
    with contextlib.ExitStack() as stack:
        for peer in bad.values():
            stack.callback(peer.end)
        started = stack.enter_context(agents(pyz, good, every_ms=10))

        async def a_while(receiver: Receiver) -> None:
            while not all(status.total.records for status in receiver.status() if status.guest in good):
                await asyncio.sleep(0.1)
            await asyncio.sleep(15)
            seen.update({status.guest: status for status in receiver.status()})
            await _end_all(started)

        guests = [Guest(name, ours) for name, (ours, _) in started.items()] + [Guest(name, peer.host) for name, peer in bad.items()]
        _receive(store, guests, a_while)
    sums, stored, made = _sums(store), _stored(store), _made(store)
    assert set(made) == set(good)
    assert stored[good].to_dict() == made
    assert sums.loc[good, _LOSSES].sum().sum() == 0
    # None of them was heard late, whatever the flood: the last of each was seconds ago at most.
    assert max(seen[name].last_seen_s or 99 for name in good) < 5
    assert sums.loc["floods", "records"] == stored["floods"] > 0
    assert sums.loc["garbage", "corrupt_frames"] > 0
    assert sums.loc["garbage", "records"] == sums.loc["hung", "records"] == 0


def _talk(store: Store, talk: Callable[[Peer], None], name: str = "guest", seconds: float = 30) -> list[Status]:
    """Receive from one peer until it has said its words."""
    spoken = []

    def act(peer: Peer) -> None:
        try:
            talk(peer)
        finally:
            spoken.append(True)

    peer = Peer(act)
    try:

        async def until(receiver: Receiver) -> None:
            deadline = time.monotonic() + seconds
            while not spoken and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)

        return _receive(store, [Guest(name, peer.host)], until)
    finally:
        peer.end()


def _anomalies(store: Store) -> str:
    events = store.read("channel_events")
    return " | ".join(events.loc[events["event"].isin(["anomaly", "refused"]), "detail"])


def test_names_of_a_hostile_guest_reach_no_path_and_no_page_unescaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(tmp_path / "store")
    named = "../../x<script>alert(1)</script>\x1b[2J"

    def talk(peer: Peer) -> None:
        peer.greet(host_name="../../" + "y" * 10_000, kernel="<script>alert(2)</script>", agent_version="\x1b[31m\udcff")
        raw = LAYOUTS[wire.STATE].pack(**dict.fromkeys([name for name, _ in LAYOUTS[wire.STATE].fields]))
        peer.socket.sendall(peer.frame(wire.STATE, b"\xfe\xfd" + raw[2:]))
        peer.say(wire.SAMPLES, sample(1), first=0)
        peer.hear(wire.ACK)

    (status,) = _talk(store, talk, named)
    assert store.read("entropy_samples", guest=named)["t_ns"].tolist() == [1]
    assert {path.parts[-3] for path in store.path.glob("entropy_samples/*/*/*")} == {
        next(store.path.glob("entropy_samples/*")).name
    }
    assert not (tmp_path / "x").exists()
    from toolkit import spoken_channels
    from toolkit.terminal import say, show

    show(spoken_channels.channel_table([status]), spoken_channels.FORMATS)
    say(*spoken_channels.remarks([status]))
    assert "\x1b[2J" not in capsys.readouterr().out
    view = explore.channels.events(explore.open(store.path))
    view.redraw()
    shown = "".join(output["data"]["text/html"] for output in view.output.outputs)
    assert "<script>alert" not in shown
    assert "alert(2)" in shown
    with pytest.raises(ValueError, match="no guest's name"):
        Receiver(store, begin("test")).add(Guest("x" * 10_000, tmp_path / "port"))


def test_boot_ids_that_change_and_thousands_of_hellos_are_bounded_and_shown(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")

    def talk(peer: Peer) -> None:
        peer.greet()
        for number in range(5000):
            peer.say(wire.HELLO, hello(boot_id=f"{number:08x}{BOOT[8:]}", answers=number), session=number)
        for number in range(26):
            # While the flood is still being gone through, a hello may be one of too many, and get no answer.
            peer.greet(boot_id=f"{number:08x}{BOOT[8:]}", session=number, insist=True)
            time.sleep(0.25)
            peer.say(wire.HELLO, hello())

    (status,) = _talk(store, talk)
    assert status.total.refused_frames > 4000
    assert len(store.read("channel_events")) < 100
    assert "it has said 16 boot_ids" in _anomalies(store)
    assert "times without waiting for an answer" in _anomalies(store)


@pytest.mark.parametrize("boot_id", ["../../etc/passwd", "", BOOT.upper().replace("0", "A"), "\udcff" * 36])
def test_a_boot_id_that_is_none_is_refused_with_all_that_comes_after_it(tmp_path: Path, boot_id: str) -> None:
    store = open_store(tmp_path / "store")

    def talk(peer: Peer) -> None:
        peer.greet(boot_id=boot_id)
        peer.say(wire.SAMPLES, sample(1), first=0)

    _talk(store, talk)
    assert "entropy_samples" not in store.tables()
    assert "boot_id is none" in _anomalies(store)


def test_time_that_runs_backwards_is_refused_and_shown_and_the_rest_is_kept_in_order(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")

    def talk(peer: Peer) -> None:
        peer.greet()
        times = [5, 6, 4, 7, -1, 2**62, 8]
        peer.say(wire.SAMPLES, *[sample(t_ns) for t_ns in times], first=0)
        peer.hear(wire.ACK)
        peer.say(wire.SAMPLES, sample(3), sample(9), first=7)
        peer.hear(wire.ACK)

    _talk(store, talk)
    assert store.read("entropy_samples")["t_ns"].tolist() == [5, 6, 7, 8, 9]
    assert _sums(store).loc["guest", ["records", "refused_records"]].tolist() == [5, 4]
    assert "backwards" in _anomalies(store)


@pytest.mark.parametrize("utc_ns", [253_402_300_799 * 10**9 % 2**63, 0, 2**63 - 1, -(2**63) + 1])
def test_a_clock_that_is_off_by_more_than_a_day_is_not_believed(tmp_path: Path, utc_ns: int) -> None:
    store = open_store(tmp_path / "store")
    began = pd.Timestamp.now("UTC")

    def talk(peer: Peer) -> None:
        peer.greet(utc_ns=utc_ns)
        peer.say(wire.SAMPLES, sample(10**9, utc_ns), sample(3 * 10**9, utc_ns), first=0)
        peer.hear(wire.ACK)

    _talk(store, talk)
    utc = store.read("entropy_samples")["utc"]
    assert (utc.iloc[1] - utc.iloc[0]) == pd.Timedelta("2s")
    assert began - pd.Timedelta("3s") < utc.iloc[0] < pd.Timestamp.now("UTC")
    assert "clock is off" in _anomalies(store)


def test_values_that_cannot_be_are_refused_and_null_stays_null(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")

    def talk(peer: Peer) -> None:
        peer.greet()
        records = [
            sample(1, bits=None, ready=None, readable=None),
            sample(2, bits=-5),
            sample(3, ready=7),
            sample(4, bits=0, ready=False),
        ]
        peer.say(wire.SAMPLES, *records, first=0)
        peer.hear(wire.ACK)

    _talk(store, talk)
    rows = store.read("entropy_samples")
    assert rows["t_ns"].tolist() == [1, 4]
    assert rows[["entropy_avail_bits", "crng_ready", "random_readable"]].iloc[0].isna().all()
    assert (rows["entropy_avail_bits"].iloc[1], rows["crng_ready"].iloc[1]) == (0, False)
    assert _sums(store).loc["guest", "refused_records"] == 2


def test_every_gap_is_counted_once_where_it_was_made(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")

    def talk(peer: Peer) -> None:
        peer.greet()
        peer.say(wire.SAMPLES, sample(1), sample(2), first=0, oldest=0)
        peer.say(wire.SAMPLES, sample(8), first=7, oldest=4)  # 2 and 3 were dropped there, 4 to 6 lost on the way
        peer.say(wire.SAMPLES, sample(7), sample(8), sample(9), first=6, oldest=4)  # 6 and 7 are known by now
        peer.say(wire.SAMPLES, sample(99), first=2**61, oldest=0)  # cannot be
        peer.say(wire.SAMPLES, sample(10), first=9, oldest=9)
        peer.hear(wire.ACK)

    _talk(store, talk)
    assert store.read("entropy_samples")["t_ns"].tolist() == [1, 2, 8, 9, 10]
    sums = _sums(store).loc["guest"]
    assert sums[["records", "dropped_in_guest", "lost_records", "repeated_records", "refused_frames"]].tolist() == [5, 2, 3, 2, 1]


def test_rows_of_requests_that_nobody_made_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    read = {"request": 5, "t_ns": 1, "source": "/dev/hwrng", "block_bytes": 64, "read_bytes": 64, "wait_ns": 10, "errno": None}

    def talk(peer: Peer) -> None:
        peer.greet()
        peer.say(wire.SOURCE_READS, read, first=0)
        peer.say(wire.DONE, {"request": 5, "records": 1, "errno": None, "words": None}, first=1)
        peer.hear(wire.ACK)

    _talk(store, talk)
    assert "source_reads" not in store.tables()
    assert _sums(store).loc["guest", "refused_records"] == 1


def test_what_a_killed_receiver_stored_and_did_not_acknowledge_is_not_stored_twice(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")

    def first(peer: Peer) -> None:
        peer.greet()
        peer.say(wire.SAMPLES, *[sample(t_ns) for t_ns in range(1, 6)], first=0)
        peer.hear(wire.ACK)

    def as_if_it_had_not_heard(peer: Peer) -> None:
        peer.greet(made=8)
        peer.say(wire.SAMPLES, *[sample(t_ns) for t_ns in range(1, 9)], first=0)
        peer.hear(wire.ACK)

    _talk(store, first)
    _talk(store, as_if_it_had_not_heard)
    assert store.read("entropy_samples")["t_ns"].tolist() == list(range(1, 9))
    assert _sums(store).loc["guest", ["records", "repeated_records"]].tolist() == [8, 5]
    assert "8 records were not delivered yet" in " ".join(store.read("channel_events")["detail"])


def test_a_store_that_goes_away_ends_the_receiver_with_an_error_and_acknowledges_nothing(tmp_path: Path) -> None:
    from toolkit.errors import StoreError

    store = open_store(tmp_path / "store")
    heard: list[int] = []

    def talk(peer: Peer) -> None:
        peer.greet()
        store.path.rename(tmp_path / "gone")
        peer.say(wire.SAMPLES, sample(1), first=0)
        heard.append(peer.hear(wire.ACK).kind)

    with pytest.raises(StoreError, match="not there any more"):
        _talk(store, talk)
    assert not heard
