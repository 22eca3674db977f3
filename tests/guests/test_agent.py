"""The agent on every Python of this machine: what it says, what it keeps, what it refuses, and what it costs."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import select
import subprocess
import sys
import time
import tty
from itertools import pairwise
from pathlib import Path

import pytest

from tests.guests.agents import PATIENCE_S, Hosted, drained, on_every_python, record, resident_bytes, threads, used, with_memory
from tests.sensors.interpreters import interpreters
from toolkit._version import __version__
from toolkit.guests import wire
from toolkit.guests.package import agent_pyz
from toolkit.guests.wire import LAYOUTS, NUMBERED, Decoder, Frame, encode

_MS = 1_000_000
_MIB = 1024 * 1024
_NONCE = 0x1234


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "agent.pyz"
    path.write_bytes(agent_pyz())
    return path


def _numbered(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.kind in NUMBERED]


def _follow_one_another(frames: list[Frame]) -> bool:
    ends = [frame.first + frame.records for frame in frames]
    return ends[:-1] == [frame.first for frame in frames[1:]]


def _until_records(hosted: Hosted, at_least: int, most_bytes: int = 65536) -> list[Frame]:
    """Frames until so many records have come."""
    frames: list[Frame] = []
    came = 0
    while came < at_least:
        frames += _numbered([hosted.next(most_bytes)])
        came = frames[-1].first + frames[-1].records - frames[0].first if frames else 0
    return frames


def test_a_host_that_says_welcome_is_told_who_speaks_its_state_and_samples(pyz: Path) -> None:
    with on_every_python(pyz, "--every-ms", "20") as agents:
        for hosted in agents:
            first, before = hosted.until(wire.HELLO)
            assert (first["answers"], before) == (0, [])
            hello = hosted.welcome(_NONCE)
            assert hello["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            assert (hello["kernel"], hello["host_name"]) == (os.uname().release, os.uname().nodename)
            assert (hello["agent_version"], hello["interval_ns"]) == (__version__, 20 * _MS)
            assert (hello["allows"], hello["acknowledged"], hello["dropped"]) == ("", 0, 0)
            assert hello["cpu_count"] == os.cpu_count()
            # What there is to tell comes first: an emulated guest takes seconds to read its state.
            state, before = hosted.until(wire.STATE)
            assert state["crng_ready"] == 1
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            frames = _numbered(before) + _until_records(hosted, 30)
            assert frames[0].first == 0
            assert _follow_one_another(frames)
            assert {frame.kind for frame in frames} == {wire.SAMPLES, wire.SYSTEM}
            samples = [each for frame in frames if frame.kind == wire.SAMPLES for each in LAYOUTS[frame.kind].unpack(frame.payload)]
            times = [sample["t_ns"] for sample in samples]
            assert times == sorted(set(times))
            assert abs(times[0] - now_ns) < PATIENCE_S * 1e9
            assert all(sample["crng_ready"] == 1 and sample["entropy_avail_bits"] > 0 for sample in samples)
            assert threads(hosted.process.pid) == 1
        assert sorted(record["python"] for record in [one.welcome(_NONCE + 1) for one in agents]) == sorted(
            subprocess.run(
                [python, "-c", "import platform; print(platform.python_version())"], capture_output=True, text=True
            ).stdout.strip()
            for python in interpreters()
        )


def test_what_is_not_acknowledged_is_said_again_to_a_host_that_says_welcome_again(pyz: Path) -> None:
    with on_every_python(pyz, "--every-ms", "10") as agents:
        for hosted in agents:
            hosted.welcome(_NONCE)
            frames = _until_records(hosted, 100)
            stored = frames[0].first + frames[0].records
            hosted.say(wire.ACK, number=stored)
            again = hosted.welcome(_NONCE + 1)
            assert again["acknowledged"] in (0, stored)  # of what was said together, the welcome may be heard first
            repeated = _until_records(hosted, 100)
            assert repeated[0].first == again["acknowledged"] == stored
            assert _follow_one_another(repeated)
            sent = {frame.first: frame.payload for frame in frames}
            assert all(sent[frame.first] == frame.payload for frame in repeated if frame.first in sent)
            # What a host says to another agent is not for this one.
            hosted.session ^= 1
            hosted.say(wire.ACK, number=stored + 50)
            assert hosted.welcome(_NONCE + 2)["acknowledged"] == stored


def test_what_does_not_fit_its_memory_is_dropped_and_counted_exactly(pyz: Path) -> None:
    with with_memory(pyz, _MS, 40_000, buffer_bytes=1) as agents:
        acknowledged = []
        for hosted in agents:
            hosted.welcome(_NONCE)
            frame = _until_records(hosted, 1)[0]
            acknowledged.append(frame.first + frame.records)
            hosted.say(wire.ACK, number=acknowledged[-1])
        time.sleep(4.0)  # in which no host reads
        for hosted, stored in zip(agents, acknowledged, strict=True):
            for nonce in range(_NONCE + 1, _NONCE + 11):
                hello = hosted.welcome(nonce)
                assert hello["acknowledged"] == stored
                frames = _until_records(hosted, 1000)
                held = hello["made"] - frames[0].first
                assert hello["dropped"] > 0
                assert frames[0].first == frames[0].oldest
                exact = hello["made"] == hello["acknowledged"] + hello["dropped"] + held
                if exact and _follow_one_another(frames):
                    break
                # Where we were slow to read, more was dropped after that hello; where we are not, all of it is exact.
                assert hello["made"] >= hello["acknowledged"] + hello["dropped"] + held
                gaps = [after for before, after in pairwise(frames) if before.first + before.records != after.first]
                assert [frame.first for frame in gaps] == [frame.oldest for frame in gaps]
            else:
                pytest.fail("the count was never exact")


def test_a_host_that_reads_slowly_loses_nothing_that_is_held(pyz: Path) -> None:
    with with_memory(pyz, 100 * _MS, 10**6, batches=50, records=100, buffer_bytes=1) as agents:
        for hosted in agents:
            hosted.welcome(_NONCE)
            frames = _until_records(hosted, 5000, most_bytes=700)
            assert frames[0].first == 0
            assert _follow_one_another(frames)


def _asked_for_sources(request: int, source: str = "getrandom") -> dict[str, object]:
    return {"request": request, "source": source, "block_bytes": 64, "budget_ns": 10**9, "most_reads": 5}


def _asked_for_files(request: int, place: str, repeats: int = 2) -> dict[str, object]:
    size = {"method": "posix_fallocate", "size_bytes": _MIB, "repeats": repeats, "position": 3}
    return {"request": request, "place": place, **size}


def test_what_is_not_allowed_is_refused(pyz: Path) -> None:
    with on_every_python(pyz) as agents:
        for hosted in agents:
            hosted.welcome(_NONCE)
            hosted.say(wire.READ_SOURCES, **_asked_for_sources(7))
            hosted.say(wire.ALLOCATE, **_asked_for_files(8, "/tmp"))
            for request, what in ((7, "reading sources"), (8, "allocating files")):
                done, before = hosted.until(wire.DONE)
                assert (done["request"], done["records"]) == (request, 0)
                assert done["words"].startswith(f"refused: {what} is not allowed")
                assert not any(frame.kind in (wire.SOURCE_READS, wire.ALLOCATIONS) for frame in before)


def test_what_is_allowed_is_done(pyz: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    config = tmp_path / "agent.toml"
    config.write_text(f'every_ms = 50\nallow = ["sources", "allocation"]\n[allocation]\ndirectories = ["{folder}"]\nfiles = 2\n')
    config.chmod(0o600)
    with on_every_python(pyz, "--config", str(config)) as agents:
        for hosted in agents:
            hello = hosted.welcome(_NONCE)
            assert (hello["allows"], hello["interval_ns"]) == ("sources allocation", 50 * _MS)
            hosted.say(wire.READ_SOURCES, **_asked_for_sources(1))
            hosted.say(wire.ALLOCATE, **_asked_for_files(2, str(folder)))
            hosted.say(wire.ALLOCATE, **_asked_for_files(3, str(folder), repeats=3))
            hosted.say(wire.READ_SOURCES, **_asked_for_sources(4, "/dev/sda"))
        for hosted in agents:
            done = {}
            came: dict[int, list[dict[str, object]]] = {wire.SOURCE_READS: [], wire.ALLOCATIONS: []}
            while len(done) < 4:
                frame = hosted.next()
                rows = list(LAYOUTS[frame.kind].unpack(frame.payload))
                if frame.kind == wire.DONE:
                    done.update({row["request"]: row for row in rows})
                came.get(frame.kind, []).extend(rows)
            assert [(done[request]["records"], done[request]["words"]) for request in (1, 2)] == [(5, None), (2, None)]
            assert done[3]["words"] == "refused: 3 files are beyond the 2 that are allowed"
            assert done[4]["words"].startswith("refused: /dev/sda is not among the devices")
            assert [(row["request"], row["read_bytes"], row["errno"]) for row in came[wire.SOURCE_READS]] == [(1, 64, None)] * 5
            rows = came[wire.ALLOCATIONS]
            assert [(row["request"], row["repeat"], row["position"], row["size_bytes"]) for row in rows] == [
                (2, 0, 3, _MIB),
                (2, 1, 4, _MIB),
            ]
            assert threads(hosted.process.pid) == 1
    assert list(folder.iterdir()) == []


def test_a_hostile_host_is_survived(pyz: Path) -> None:
    chance = random.Random(4)
    asked = encode(wire.READ_SOURCES, LAYOUTS[wire.READ_SOURCES].pack(**_asked_for_sources(1)))
    null = dict.fromkeys((name for name, _ in LAYOUTS[wire.ALLOCATE].fields if name != "request"), None)
    welcomes = 3000
    with on_every_python(pyz, "--every-ms", "100", buffer_bytes=1) as agents:
        for hosted in agents:
            hosted.until(wire.HELLO)
            hosted.line.sendall(chance.randbytes(100_000))
            hosted.line.sendall(asked[:70])
            for kind, layout in LAYOUTS.items():
                first = 0 if kind in NUMBERED else wire.NO_NUMBER
                hosted.line.sendall(encode(kind, bytes(layout.struct.size), session=hosted.session, first=first))
            hosted.say(wire.ACK, number=2**60)
            hosted.say(wire.ACK, number=-(2**60))
            hosted.say(wire.ALLOCATE, request=9, **null)
        for nonce in range(1, welcomes + 1):
            for hosted in agents:  # which reads nothing, and says welcome as fast as it can
                hosted.say(wire.WELCOME, nonce=nonce)
        for hosted in agents:
            hellos = 1
            while hosted.until(wire.HELLO)[0]["answers"] != welcomes:
                hellos += 1
            # What it was told before there was no room for its answer is answered once.
            assert hellos < 20
            hello = hosted.welcome(_NONCE)
            assert 0 <= hello["acknowledged"] <= hello["made"]
            assert _follow_one_another(_until_records(hosted, 10))
            assert hosted.process.poll() is None


def test_it_ends_when_it_is_told_and_says_so(pyz: Path) -> None:
    with on_every_python(pyz, "--every-ms", "10") as agents:
        for hosted in agents:
            hosted.welcome(_NONCE)
            _until_records(hosted, 20)
            hosted.terminate()
        for hosted in agents:
            frames = hosted.rest()
            assert frames[-1].kind == wire.ENDED
            last = _numbered(frames)[-1]
            said = record(frames[-1])
            assert said == {"made": last.first + last.records, "acknowledged": 0, "dropped": 0}
            assert hosted.words() == ""
            assert hosted.process.returncode == 0


def test_it_ends_when_it_is_told_while_nobody_listens_and_when_its_host_goes(pyz: Path) -> None:
    with on_every_python(pyz) as agents:
        for hosted in agents:
            hosted.until(wire.HELLO)
            hosted.terminate()
        assert [(hosted.process.wait(PATIENCE_S), hosted.words()) for hosted in agents] == [(0, "")] * len(agents)
    with on_every_python(pyz) as agents:
        for hosted in agents:
            hosted.welcome(_NONCE)
            hosted.line.close()
        assert [(hosted.process.wait(PATIENCE_S), hosted.words()) for hosted in agents] == [(0, "")] * len(agents)


@pytest.mark.parametrize(
    ("options", "config", "status", "words"),
    [
        (["--config", "agent.toml"], 'alow = ["sources"]', 2, "line 1: there is no such key"),
        (["--config", "agent.toml"], "every_ms = 0.1", 2, "cannot look every 0.1 ms"),
        (["--config", "missing.toml"], "", 1, "cannot be read: No such file"),
        (["--every-ms", "nan"], "", 2, "cannot look every nan ms"),
        (["--port", "fd:99"], "", 2, "fd:99 is no open descriptor"),
        (["--port", "fd:" + "9" * 30], "", 2, "is no open descriptor"),
    ],
)
def test_what_cannot_be_meant_ends_with_one_line(
    pyz: Path, tmp_path: Path, options: list[str], config: str, status: int, words: str
) -> None:
    (tmp_path / "agent.toml").write_text(config)
    (tmp_path / "agent.toml").chmod(0o600)
    commands = [[python, "-S", "-W", "error", pyz, *options] for python in interpreters()]
    with contextlib.ExitStack() as stack:
        pipe = subprocess.PIPE
        ended = [stack.enter_context(subprocess.Popen(command, cwd=tmp_path, stderr=pipe, text=True)) for command in commands]
        for process in ended:
            (line,) = process.communicate(timeout=PATIENCE_S)[1].splitlines()
            assert process.returncode == status
            assert line.startswith("error: ")
            assert words in line


def test_a_port_that_is_not_there_yet_is_opened_once_it_is(pyz: Path, tmp_path: Path) -> None:
    port = tmp_path / "port"
    command = [sys.executable, "-S", "-W", "error", pyz, "--port", port, "--every-ms", "10"]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE))
        stack.callback(process.kill)
        while process.poll() is None and used(process.pid)[1] < 20:  # it goes on without a port
            time.sleep(0.05)
        ours, theirs = pty.openpty()
        stack.callback(os.close, ours)
        stack.callback(os.close, theirs)
        tty.setraw(theirs)
        os.write(ours, encode(wire.WELCOME, LAYOUTS[wire.WELCOME].pack(nonce=_NONCE)))
        port.symlink_to(os.ttyname(theirs))
        decoder = Decoder()
        frames: list[Frame] = []
        while not (_numbered(frames) and any(record(each)["answers"] == _NONCE for each in frames if each.kind == wire.HELLO)):
            assert select.select([ours], [], [], PATIENCE_S)[0]
            frames += decoder.feed(os.read(ours, 4096))
        # What was seen before there was a port is there.
        hello = next(record(each) for each in frames if each.kind == wire.HELLO)
        assert hello["made"] > 0
        assert _numbered(frames)[0].first == 0
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_it_takes_little_memory_also_when_that_is_full(pyz: Path) -> None:
    with with_memory(pyz, 100 * _MS, 2 * _MIB, batches=20_000, records=5) as agents:
        for hosted in agents:
            hello = hosted.welcome(_NONCE)
            assert hello["dropped"] > 0
            frames = _until_records(hosted, hello["made"] - hello["dropped"])
            assert sum(len(frame.payload) for frame in frames) > _MIB // 2
            assert resident_bytes(hosted.process.pid) < 20 * _MIB


def test_it_takes_little_of_a_processor_whether_its_host_reads_or_not_or_is_away(pyz: Path, tmp_path: Path) -> None:
    with (
        on_every_python(pyz, "--every-ms", "100") as read,
        with_memory(pyz, 100 * _MS, 2 * _MIB, batches=5000, records=100) as unread,
        subprocess.Popen([sys.executable, "-S", pyz, "--port", tmp_path / "missing"]) as absent,
    ):
        try:
            for hosted in [*read, *unread]:
                hosted.welcome(_NONCE)
            drained(read, 1.0)
            cases = {"read": [one.process.pid for one in read], "unread": [one.process.pid for one in unread], "away": [absent.pid]}
            before = {pid: used(pid) for each in cases.values() for pid in each}
            begun = time.monotonic()
            drained(read, 4.0)
            elapsed_s = time.monotonic() - begun
            for case, each in cases.items():
                for pid in each:
                    cpu_s, waits = (now - then for now, then in zip(used(pid), before[pid], strict=True))
                    # One that spins takes all of it, or wakes thousands of times; ten looks a second take half a percent.
                    assert cpu_s < 0.03 * elapsed_s, case
                    assert waits < 100 * elapsed_s, case
        finally:
            absent.kill()
