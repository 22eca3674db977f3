"""Writers that append to a store and are killed all the time, and a reader that watches. Run as a process of its own.

``python -m tests.faults.storm STORE SEED APPENDS`` forks the writers from itself, warm, so that a replacement is there in a
millisecond. A writer says over a pipe which append it begins, and, after ``append`` has returned, that it is there. It is killed at
a random moment of an append, and its replacement goes on with the next number: no append is ever tried twice. Prints JSON.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from toolkit.store import Store, open_store
from toolkit.tables import TABLES

WRITERS = 4
ROWS = 40
#: A writer lives for so many appends at the most, half as many on average.
LONGEST_LIFE = 12

_RECORD = struct.Struct("<cI")
_BEGUN, _THERE = b"b", b"t"


def hosts_of(number: int) -> list[str]:
    """The hosts of an append: of each fifth there are two."""
    return ["a", "b"] if number % 5 == 0 else ["a"]


def frame(number: int) -> pd.DataFrame:
    """The rows of an append: from ``t_ns`` its number can be told, from the bits that no row is another's."""
    parts = []
    for host in hosts_of(number):
        t_ns = number * 1000 + np.arange(ROWS)
        ids = {name: pd.Series([value] * ROWS, dtype="str") for name, value in (("host", host), ("boot_id", "b"))}
        columns = {"run_id": pd.Series([f"r{number}"] * ROWS, dtype="str"), "guest": pd.Series([None] * ROWS, dtype="str"), **ids}
        utc = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(t_ns, unit="ns")
        parts.append(TABLES["entropy_samples"].frame({**columns, "t_ns": t_ns, "utc": utc, "entropy_avail_bits": t_ns % 257}))
    return pd.concat(parts, ignore_index=True)


def whole_appends(rows: pd.DataFrame) -> set[tuple[int, str]]:
    """Which appends of which host are in the rows; each once and whole, or this says which is not."""
    t_ns, on_b = rows["t_ns"].to_numpy(), (rows["host"] == "b").to_numpy(dtype=bool)
    assert (rows["entropy_avail_bits"].to_numpy(dtype=np.int64) == t_ns % 257).all()
    found, counts = np.unique(t_ns // 1000 * 2 + on_b, return_counts=True)
    assert (counts == ROWS).all(), f"not whole, or not once: {found[counts != ROWS][:5] // 2}, of {counts[counts != ROWS][:5]} rows"
    assert len(np.unique(t_ns * 2 + on_b)) == len(t_ns), "a row is there twice"
    return {(int(key) // 2, "b" if key % 2 else "a") for key in found}


@dataclass
class _Writer:
    """One of the four: it takes every fourth number."""

    next: int
    pid: int = 0
    life: int = 0
    due: float | None = None


@dataclass
class _Storm:
    """What is going on, and what the writers said."""

    store: Store
    appends: int
    chance: random.Random
    acknowledged: mmap.mmap
    heard: int = 0
    said: int = 0
    kills: int = 0
    left_behind: int = 0
    begun: set[int] = field(default_factory=set)
    took_s: list[float] = field(default_factory=lambda: [0.01])
    since: dict[int, float] = field(default_factory=dict)

    def begin(self, writer: _Writer) -> None:
        writer.life, writer.due = self.chance.randint(1, LONGEST_LIFE), None
        writer.pid = os.fork()
        if writer.pid == 0:
            os.close(self.heard)  # so that it ends, should the storm end before it
            with _leaving():
                for number in range(writer.next, self.appends, WRITERS):
                    os.write(self.said, _RECORD.pack(_BEGUN, number))
                    self.store.append("entropy_samples", frame(number))
                    os.write(self.said, _RECORD.pack(_THERE, number))

    def listen(self, writers: list[_Writer], patience_s: float) -> None:
        """Take in what the writers said; wait for a word so long at the most."""
        while select.select([self.heard], [], [], patience_s)[0]:
            patience_s = 0
            said = os.read(self.heard, _RECORD.size * 512)  # what is written in one piece is read in whole ones
            now = time.monotonic()
            for word, number in _RECORD.iter_unpack(said):
                if word == _THERE:
                    self.acknowledged[number] = 1
                    self.took_s.append(now - self.since[number])
                    continue
                self.begun.add(number)
                self.since[number] = now
                writer = writers[number % WRITERS]
                writer.next = number + WRITERS
                writer.life -= 1
                if writer.life == 0:
                    writer.due = now + self.chance.uniform(0, 1.2 * float(np.median(self.took_s[-50:])))

    def rage(self) -> None:
        writers = [_Writer(place) for place in range(WRITERS)]
        try:
            self._rage(writers)
        finally:
            for writer in writers:
                if writer.pid:
                    os.kill(writer.pid, signal.SIGKILL)
                    os.waitpid(writer.pid, 0)

    def _rage(self, writers: list[_Writer]) -> None:
        for writer in writers:
            self.begin(writer)
        while any(writer.pid for writer in writers):
            dues = [writer.due - time.monotonic() for writer in writers if writer.pid and writer.due is not None]
            self.listen(writers, max(0.0, min([0.1, *dues])))
            for writer in writers:
                if not writer.pid:
                    continue
                if writer.due is not None and writer.due <= time.monotonic():
                    held = _open_files(writer.pid)
                    os.kill(writer.pid, signal.SIGKILL)
                    _, status = os.waitpid(writer.pid, 0)
                    self.kills += os.WIFSIGNALED(status)
                    self.left_behind += any(os.path.lexists(path) for path in held if path.endswith(".partial"))
                    self.listen(writers, 0)  # all that it ever said is in the pipe by now
                    writer.pid = 0
                    if writer.next < self.appends:
                        self.begin(writer)
                elif (ended := os.waitpid(writer.pid, os.WNOHANG)) != (0, 0):
                    writer.pid = 0
                    assert ended[1] == 0, "a writer failed by itself"
                    self.listen(writers, 0)


def _open_files(pid: int) -> list[str]:
    paths = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                paths.append(os.readlink(entry.path))
    return paths


@contextlib.contextmanager
def _leaving() -> Iterator[None]:
    """The life of a child: it never comes back into its parent's code."""
    status = 1
    try:
        yield
        status = 0
    finally:
        if status:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)


def _watch(store: Store, acknowledged: mmap.mmap, over: mmap.mmap, tell: int, storm: int) -> None:
    """Read all the time: what was acknowledged before is there, what was there once stays, and no warning ever."""
    warnings.simplefilter("error")
    seen: set[tuple[int, str]] = set()
    reads = 0
    last = False
    while not last:
        last = bool(over[0]) or os.getppid() != storm
        before = np.flatnonzero(np.frombuffer(bytes(acknowledged), dtype=np.uint8))
        columns = ["host", "t_ns", "entropy_avail_bits"]
        if reads % 7 == 3 and len(before) < 300:
            rows = store.scan("entropy_samples", columns=columns).compute(scheduler="synchronous")
        else:
            rows = store.read("entropy_samples", columns=columns)
        now = whole_appends(rows)
        missing = {(int(number), host) for number in before for host in hosts_of(int(number))} - now
        assert not missing, f"acknowledged and not there: {sorted(missing)[:5]}"
        assert seen <= now, f"seen before and gone: {sorted(seen - now)[:5]}"
        seen = now
        reads += 1
    os.write(tell, struct.pack("<I", reads))


def main() -> None:
    """Let the storm rage, and say what it did."""
    path, seed, appends = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    store = open_store(path)
    store.append("system_samples", TABLES["system_samples"].frame(  # warms what the writers need
        {"run_id": ["w"], "host": ["a"], "boot_id": ["b"], "t_ns": [0], "utc": [pd.Timestamp(0, tz="UTC")]}
    ))  # fmt: skip
    acknowledged, over = mmap.mmap(-1, appends), mmap.mmap(-1, 1)
    heard, said = os.pipe()
    told, tell = os.pipe()
    storm_pid = os.getpid()
    reader = os.fork()
    if reader == 0:
        with _leaving():
            _watch(store, acknowledged, over, tell, storm_pid)
    storm = _Storm(store, appends, random.Random(seed), acknowledged, heard, said)
    try:
        storm.rage()
    finally:
        over[0] = 1
        _, status = os.waitpid(reader, 0)
    print(json.dumps({
        "begun": sorted(storm.begun), "acknowledged": np.flatnonzero(np.frombuffer(acknowledged, dtype=np.uint8)).tolist(),
        "kills": storm.kills, "kills_that_left_a_file": storm.left_behind, "reader_failed": status != 0,
        "reads": struct.unpack("<I", os.read(told, 4))[0] if status == 0 else 0,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
