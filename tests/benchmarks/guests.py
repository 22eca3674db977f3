"""The channel to guests: a million damaged frames, ingest from a socket to Parquet on one core, and what an agent costs.

The peer of the ingest is what people write: a line of JSON a sample, read with asyncio, parsed with json, and written through
pandas. Both read from a process of their own on another processor, which has encoded everything before it begins to send.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.figures import Figure, compared, in_turn, within
from toolkit.guests import wire
from toolkit.guests.package import agent_pyz
from toolkit.guests.receiver import Guest, Receiver
from toolkit.guests.wire import HEADER_BYTES, LAYOUTS, MOST_PAYLOAD_BYTES, Decoder, encode
from toolkit.runs import begin
from toolkit.store import open_store

MUTATED = 1_000_000
RECORDS = 4_000_000
LINES = 400_000
A_FILE = 100_000
WANTED_PER_S = 2_000_000
#: Records of a frame: what an agent that has kept samples sends at once.
A_FRAME = 2048
_SESSION = 77
_BOOT_ID = "01234567-89ab-cdef-0123-456789abcdef"
_SAMPLES = LAYOUTS[wire.SAMPLES]


def figures() -> Iterator[Figure]:
    """Damage first, then speed."""
    yield from _mutated()
    yield from _ingest()
    yield from _agent()


# Damage.


def _mutated() -> Iterator[Figure]:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_decode_damaged, args=(theirs,))
    process.start()
    theirs.close()
    unknown, most_held, grown_bytes = ours.recv()
    process.join()
    longest = HEADER_BYTES + MOST_PAYLOAD_BYTES
    yield within(f"{MUTATED:,} damaged frames: accepted though never sent", [unknown], 0.5, "frames")
    yield within(f"{MUTATED:,} damaged frames: most bytes held", [most_held], longest, "bytes")
    yield within(f"{MUTATED:,} damaged frames: memory", [grown_bytes / 2**20], 8.0, "MiB")


def _decode_damaged(told: Connection) -> None:
    """Tell how many frames were accepted that were never sent, the most that was held, and by how much this process grew."""
    chance = random.Random(1)
    frames = []
    for number in range(200):
        layout = chance.choice(list(LAYOUTS.values()))
        # Some of the longest, which wait for most when they are cut.
        records = chance.randint(1, 5) if number else MOST_PAYLOAD_BYTES // layout.struct.size
        payload = chance.randbytes(layout.struct.size) * records
        frames.append(
            encode(layout.kind, payload, session=number, first=number if layout.kind in wire.NUMBERED else wire.NO_NUMBER)
        )
    sent = {frame for one in frames for frame in Decoder().feed(one)}
    decoder = Decoder()
    unknown = most_held = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(MUTATED):
        unknown += sum(frame not in sent for frame in decoder.feed(_damaged(chance, frames)))
        most_held = max(most_held, len(decoder._held))
    told.send((unknown, most_held, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))


def _damaged(chance: random.Random, frames: list[bytes]) -> bytes:
    """A frame that was damaged: bits flipped, cut, doubled in part, spliced with another, or its length set to anything."""
    frame = bytearray(chance.choice(frames))
    at = chance.randrange(len(frame))
    damage = chance.randrange(5)
    if damage == 0:
        for _ in range(chance.randint(1, 8)):
            frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
    elif damage == 1:
        del frame[at:]
    elif damage == 2:
        frame[at:at] = frame[chance.randrange(len(frame)) :]
    elif damage == 3:
        frame[at:] = chance.choice(frames)[chance.randrange(at + 1) :]
    else:
        frame[HEADER_BYTES - 12 : HEADER_BYTES - 8] = chance.randbytes(4)
    return bytes(frame)


# Ingest.


def _ingest() -> Iterator[Figure]:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        try:
            os.sched_setaffinity(0, cores[:1])
            pairs = in_turn([lambda: _ours(folder, cores[-1]), lambda: _json_lines(folder, cores[-1])])
        finally:
            os.sched_setaffinity(0, cores)
    what = "ingest on one core, socket to Parquet: a record"
    yield within(f"{what}, of {RECORDS:,}", [mine.passed_ns for mine, _ in pairs], 1e9 / WANTED_PER_S, "ns")
    peer = "JSON lines through pandas"
    yield compared(what, peer, [(mine.passed_ns, theirs.passed_ns) for mine, theirs in pairs], "ns", goal=0.1)
    # What is left where others take the core meanwhile.
    yield compared(f"{what}, processor time", peer, [(mine.used_ns, theirs.used_ns) for mine, theirs in pairs], "ns", goal=0.1)


class _Record(NamedTuple):
    """What a record took: nanoseconds that passed, and of the processor."""

    passed_ns: float
    used_ns: float


class _Watch:
    """Times a block."""

    def __enter__(self) -> Self:
        self._passed_ns, self._used_ns = time.perf_counter_ns(), time.process_time_ns()
        return self

    def __exit__(self, *_: object) -> None:
        self._passed_ns = time.perf_counter_ns() - self._passed_ns
        self._used_ns = time.process_time_ns() - self._used_ns

    def a_record(self, records: int) -> _Record:
        return _Record(self._passed_ns / records, self._used_ns / records)


def _records(count: int) -> np.ndarray:
    described: object = _SAMPLES.dtype()
    made = np.zeros(count, np.dtype(described))  # type: ignore[call-overload]
    made["t_ns"] = np.arange(1, count + 1) * 1_000_000
    made["utc_ns"] = time.time_ns() - (count - np.arange(count)) * 1_000_000
    made["entropy_avail_bits"] = 256
    made["crng_ready"] = made["random_readable"] = 1
    return made


def _as_agent(line: socket.socket, core: int, ready: Event) -> None:
    """An agent that has everything encoded before it is told that its host is there."""
    os.sched_setaffinity(0, [core])
    payload, size = _records(RECORDS).tobytes(), _SAMPLES.struct.size
    step = A_FRAME * size
    frames = b"".join(
        encode(wire.SAMPLES, payload[at : at + step], session=_SESSION, sequence=number + 1, first=at // size, oldest=0)
        for number, at in enumerate(range(0, len(payload), step))
    )
    ready.set()
    decoder = Decoder()
    nonce = 0
    while not nonce:
        for frame in decoder.feed(line.recv(4096)):
            nonce = next(LAYOUTS[wire.WELCOME].unpack(frame.payload))["nonce"] if frame.kind == wire.WELCOME else nonce
    said = {name: 0 for name, code in LAYOUTS[wire.HELLO].fields if code[-1] != "s"}
    said.update(answers=nonce, made=RECORDS, cpu_count=1)
    texts = {name: "x" for name, code in LAYOUTS[wire.HELLO].fields if code[-1] == "s"}
    line.sendall(encode(wire.HELLO, LAYOUTS[wire.HELLO].pack(**{**said, **texts, "boot_id": _BOOT_ID}), session=_SESSION))
    line.sendall(frames)
    while line.recv(65536):  # what the host acknowledges
        pass


def _as_lines(line: socket.socket, core: int, ready: Event) -> None:
    os.sched_setaffinity(0, [core])
    names = ("t_ns", "utc_ns", "entropy_avail_bits", "crng_ready", "random_readable")
    rows = _records(LINES)[list(names)].tolist()
    lines = b"".join(
        json.dumps(
            {"t_ns": t, "utc_ns": utc, "entropy_avail_bits": bits, "crng_ready": bool(ready), "random_readable": bool(readable)}
        ).encode()
        + b"\n"
        for t, utc, bits, ready, readable in rows
    )
    ready.set()
    line.recv(1)
    line.sendall(lines)
    line.close()


@contextlib.contextmanager
def _sender(work: Callable[[socket.socket, int, Event], None], core: int) -> Iterator[socket.socket]:
    """A process at the other end of a socket pair, ready to send."""
    context = multiprocessing.get_context("fork")
    ours, theirs = socket.socketpair()
    ready = context.Event()
    process = context.Process(target=work, args=(theirs, core, ready), daemon=True)
    process.start()
    theirs.close()
    ready.wait()
    try:
        yield ours
    finally:
        ours.close()
        process.kill()
        process.join()


def _ours(folder: Path, core: int) -> _Record:
    """Until the last one is in the store."""
    store = open_store(folder / "ours")

    async def receive(line: socket.socket) -> _Record:
        receiver = Receiver(store, begin("bench"), bytes_a_second=None)
        receiver.add(Guest("web-1", line))
        done = asyncio.Event()

        def told(statuses: list[object]) -> None:
            if statuses[0].total.records >= RECORDS:  # type: ignore[attr-defined]
                done.set()

        with _Watch() as watch:
            await receiver.run(done.wait(), told)
        total = receiver.status()[0].total
        assert (total.records, total.lost_records, total.refused_records, total.corrupt_frames) == (RECORDS, 0, 0, 0)
        return watch.a_record(RECORDS)

    with _sender(_as_agent, core) as line:
        taken = asyncio.run(receive(line))
    _emptied(store.path)
    return taken


def _json_lines(folder: Path, core: int) -> _Record:
    """The same for lines of JSON."""
    (folder / "lines").mkdir()

    async def receive(line: socket.socket) -> _Record:
        reader, writer = await asyncio.open_unix_connection(sock=line)
        rows: list[dict[str, object]] = []
        files = 0
        with _Watch() as watch:
            writer.write(b"x")
            async for text in reader:
                rows.append(json.loads(text))
                if len(rows) == A_FILE:
                    files, rows = files + 1, _written(folder / "lines" / f"{files}.parquet", rows)
        assert (files * A_FILE, rows) == (LINES, [])
        writer.close()
        return watch.a_record(LINES)

    with _sender(_as_lines, core) as line:
        taken = asyncio.run(receive(line))
    _emptied(folder / "lines")
    return taken


def _written(path: Path, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    frame = pd.DataFrame(rows)
    frame["utc"] = pd.to_datetime(frame.pop("utc_ns"), utc=True)
    frame["guest"] = "web-1"
    with path.open("wb") as file:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)
        os.fsync(file.fileno())
    return []


def _emptied(folder: Path) -> None:
    subprocess.run(["rm", "-rf", "--", folder], check=True)


# The agent.


def _agent() -> Iterator[Figure]:
    """What it takes of a core and of the memory, with a host that reads and acknowledges."""
    with tempfile.TemporaryDirectory() as folder:
        pyz = Path(folder, "agent.pyz")
        pyz.write_bytes(agent_pyz())
        for every_ms, goal in ((100, 1.0), (1, 5.0)):
            taken = [_taken(pyz, every_ms) for _ in range(3)]
            yield within(f"agent, a look every {every_ms} ms: of a core", [100 * cpu for cpu, _, _ in taken], goal, "%")
            yield within(f"agent, a look every {every_ms} ms: a look", [cpu_us for _, cpu_us, _ in taken], 1e6, "µs")
            yield within(f"agent, a look every {every_ms} ms: resident", [mib for _, _, mib in taken], 20.0, "MiB")


def _taken(pyz: Path, every_ms: int, seconds: float = 5.0) -> tuple[float, float, float]:
    """Its share of a core, microseconds of processor a look, and MiB; its beginning not counted."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-S", pyz, "--port", f"fd:{theirs.fileno()}", "--every-ms", str(every_ms)]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process, ours:
        theirs.close()
        ours.sendall(encode(wire.WELCOME, LAYOUTS[wire.WELCOME].pack(nonce=1)))
        _heard(ours, 1.5)
        before = _cpu_s(process.pid)
        begun = time.perf_counter()
        looks = _heard(ours, seconds)
        used_s, passed_s = _cpu_s(process.pid) - before, time.perf_counter() - begun
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.terminate()
    mib = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    return used_s / passed_s, 1e6 * used_s / max(looks, 1), mib


def _heard(line: socket.socket, seconds: float) -> int:
    """How many looks came."""
    decoder = Decoder()
    looks = 0
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        line.settimeout(left)
        with contextlib.suppress(TimeoutError):
            for frame in decoder.feed(line.recv(65536)):
                looks += frame.records if frame.kind == wire.SAMPLES else 0
                if frame.first >= 0:
                    line.sendall(
                        encode(wire.ACK, LAYOUTS[wire.ACK].pack(number=frame.first + frame.records), session=frame.session)
                    )
    return looks


def _cpu_s(pid: int) -> float:
    # Nanoseconds on a processor (Documentation/scheduler/sched-stats.rst); a tick is too coarse.
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
