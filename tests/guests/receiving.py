"""The host's side of tests over real ports: a receiver in a thread, a relay that cuts or throttles, and the sum of it all."""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from toolkit.guests.receiver import Guest, Receiver, Status
from toolkit.runs import begin
from toolkit.store import Store, open_store

PATIENCE_S = 60.0
_TABLES = ("entropy_samples", "system_samples", "source_reads", "allocations")


def until(holds: Callable[[], Any], what: str = "it does not come to pass") -> Any:
    """Wait until something holds; gives it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Receiving:
    """A receiver that runs in a thread."""

    def __init__(self, store: Store, guests: Mapping[str, Path]) -> None:
        self.store = store
        self._receiver = Receiver(store, begin("test"))
        for name, path in guests.items():
            self._receiver.add(Guest(name, path))
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._receiver.run(until=self._end.wait()))
        except BaseException as error:  # noqa: BLE001 (it is raised where the thread ends)
            self._failed.append(error)
        finally:
            self._loop.close()

    def ask(self, name: str, kind: int, **request: Any) -> dict[str, Any]:
        """Ask an agent for something."""
        return asyncio.run_coroutine_threadsafe(self._receiver.ask(name, kind, **request), self._loop).result(PATIENCE_S)

    def status(self, name: str) -> Status:
        """Of one guest."""
        return next(status for status in self._receiver.status() if status.guest == name)

    def await_stored(self, name: str, records: int) -> None:
        """Until the receiver has stored so many records."""
        until(lambda: self.status(name).total.records >= records, f"{self.status(name)} does not come to {records}")

    def await_event(self, name: str, event: str) -> str:
        """Until an event of that kind is in the store; its words."""
        found: list[str] = until(lambda: told(self.store, name, event), f"no event {event!r}: {self.status(name)}")
        return found[-1]


def told(store: Store, guest: str, event: str) -> list[str]:
    """The words of a guest's events of one kind."""
    rows = store.read("channel_events", guest=guest)
    return rows.loc[rows["event"] == event, "detail"].tolist() if len(rows) else []


@dataclass(frozen=True)
class Sum:
    """What a store has of one guest, and what its channel counted."""

    rows: int
    by_table: dict[str, int]
    lost: int
    dropped: int
    refused: int
    repeated: int
    recorded: int
    corrupt_frames: int


def sum_of(store: Store, guest: str) -> Sum:
    """Add it up; no record may be there twice, and each series must be in its order."""
    by_table: dict[str, int] = {}
    for table in _TABLES:
        rows = store.read(table, guest=guest)
        by_table[table] = len(rows)
        if len(rows) and table in ("entropy_samples", "system_samples"):
            assert rows["t_ns"].is_unique, f"{table} has records twice"
            assert rows["t_ns"].is_monotonic_increasing
            assert rows["boot_id"].nunique() == 1
    health = store.read("channel_health", guest=guest)
    added: pd.Series[Any] = health.select_dtypes("number").sum()
    return Sum(
        sum(by_table.values()),
        by_table,
        int(added["lost_records"]),
        int(added["dropped_in_guest"]),
        int(added["refused_records"]),
        int(added["repeated_records"]),
        int(added["records"]),
        int(added["corrupt_frames"]),
    )


def made_of(store: Store, guest: str) -> int:
    """How many records the agent said, at its end, that it had made."""
    (ended,) = told(store, guest, "ended")
    found = re.search(r"after ([\d,]+) records", ended)
    assert found is not None, ended
    return int(found[1].replace(",", ""))


class Relay:
    """Stands between a receiver and a port: cuts the connection after so many bytes, throttles it, or stops reading.

    Attributes
    ----------
    path : Path
        Where the receiver connects.
    cuts : list of int
        After how many bytes of the guest to close each connection; once they are used up, connections last.
    paused : bool
        Whether to read nothing.
    at_once, pause_s : int, float
        How many bytes to read at a time, and how long to wait after that.
    passed : int
        Bytes of the guest so far.
    """

    def __init__(self, path: Path, port: Path) -> None:
        self.path = path
        self.cuts: list[int] = []
        self.paused = False
        self.at_once, self.pause_s = 65536, 0.0
        self.passed = 0
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._listening.settimeout(0.1)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE_S)
        self._listening.close()

    def _run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                host, _ = self._listening.accept()
                with host, socket.socket(socket.AF_UNIX) as guest:
                    guest.connect(str(self._port))
                    cut = self.cuts.pop(0) if self.cuts else None
                    with contextlib.suppress(ConnectionError):
                        self._between(host, guest, cut)

    def _between(self, host: socket.socket, guest: socket.socket, cut: int | None) -> None:
        while not self._over.is_set():
            ready, _, _ = select.select([host] if self.paused else [host, guest], [], [], 0.05)
            if host in ready:
                said = host.recv(65536)
                if not said:
                    return
                guest.sendall(said)
            if guest in ready:
                said = guest.recv(self.at_once if cut is None else min(self.at_once, cut))
                if not said:
                    return
                host.sendall(said)
                self.passed += len(said)
                if cut is not None:
                    cut -= len(said)
                    if not cut:
                        return
                if self.pause_s:
                    time.sleep(self.pause_s)


@contextlib.contextmanager
def relayed(path: Path, port: Path) -> Iterator[Relay]:
    """A relay, gone afterwards."""
    try:
        with Relay(path, port) as relay:
            yield relay
    finally:
        path.unlink(missing_ok=True)


def new_store(folder: Path) -> Store:
    """An empty store."""
    return open_store(folder)
