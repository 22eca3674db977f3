"""Kept processes end with their owner, whatever ends that."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.errors import LabError
from toolkit.guests.keeper import MOST_LOG_BYTES
from toolkit.guests.kept import Kept, Process

_OWNER = """
import os, sys, time
from pathlib import Path
from toolkit.guests.kept import Kept
folder = Path(sys.argv[1])
with Kept([["sleep", "1000"], ["sleep", "1000"]], [folder / "a", folder / "b"], folder) as kept:
    print(*[process.pid for process in kept], flush=True)
    if "raise" in sys.argv:
        sys.stdin.readline()
        raise RuntimeError("as told")
    if "fork" in sys.argv and os.fork() == 0:
        print(os.getpid(), flush=True)
        sys.exit()
    if "hold" in sys.argv and os.fork() == 0:
        print(os.getpid(), flush=True)
        os.closerange(1, 3)
        time.sleep(1000)
    time.sleep(1000)
"""


@contextlib.contextmanager
def _owner(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    folder.mkdir()
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", _OWNER, str(folder), *words]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        handles = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()]
        assert len(handles) == 2
        try:
            yield process, handles
        finally:
            process.kill()
            for handle in handles:
                os.close(handle)


def _end(handles: list[int]) -> bool:
    return all(select.select([handle], [], [], 30)[0] for handle in handles)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_is_kept_ends_with_an_owner_that_a_signal_ends(tmp_path: Path, number: int) -> None:
    with _owner(tmp_path / "folder") as (owner, handles):
        assert not select.select(handles, [], [], 0)[0]
        owner.send_signal(number)
        assert owner.wait() != 0
        assert _end(handles)
    deadline = time.monotonic() + 30
    while number == signal.SIGKILL and (tmp_path / "folder").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    # Where the owner could, the folder's own context removes it.
    assert (tmp_path / "folder").exists() is (number != signal.SIGKILL)


def test_what_is_kept_ends_when_the_body_raises(tmp_path: Path) -> None:
    with _owner(tmp_path / "folder", "raise") as (owner, handles):
        assert owner.stdin is not None
        # Not before both are held by their handles: of what has ended there is none.
        owner.stdin.write("\n")
        owner.stdin.flush()
        assert owner.wait() == 1
        assert _end(handles)


def _keeper_of(process: Process) -> int:
    parent = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    return parent


def test_what_is_kept_ends_with_a_killed_keeper(tmp_path: Path) -> None:
    with Kept([["sleep", "1000"]], [tmp_path / "log"], tmp_path) as (process,):
        os.kill(_keeper_of(process), signal.SIGKILL)
        assert process.ended(30)


def test_a_forked_child_that_holds_all_descriptors_does_not_keep_them_alive(tmp_path: Path) -> None:
    with _owner(tmp_path / "folder", "hold") as (owner, handles):
        assert owner.stdout is not None
        holder = int(owner.stdout.readline())
        try:
            owner.kill()
            assert _end(handles)
        finally:
            os.kill(holder, signal.SIGKILL)


def test_a_forked_child_that_leaves_the_block_ends_nothing(tmp_path: Path) -> None:
    with _owner(tmp_path / "folder", "fork") as (owner, handles):
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.02)
        assert not select.select(handles, [], [], 0.2)[0]


def test_the_log_holds_the_end_of_what_was_printed_and_never_grows_beyond_its_bound(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"print('first'); print('x' * {5 * MOST_LOG_BYTES}); print('last')"]
    with Kept([command], [tmp_path / "log"], tmp_path) as (process,):
        assert process.ended(30)
        deadline = time.monotonic() + 30
        while not process.log.read_bytes().endswith(b"last\n") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.log.read_bytes().endswith(b"x\nlast\n")
        assert process.log.stat().st_size <= MOST_LOG_BYTES


def test_what_it_printed_last_is_there_when_its_keeper_was_late(tmp_path: Path) -> None:
    with Kept(
        [["sh", "-c", "until [ -e $0 ]; do sleep 0.05; done; echo last", str(tmp_path / "go")]], [tmp_path / "log"], tmp_path
    ) as (process,):
        keeper = _keeper_of(process)
        os.kill(keeper, signal.SIGSTOP)
        later = threading.Timer(0.5, os.kill, (keeper, signal.SIGCONT))
        (tmp_path / "go").touch()
        assert process.ended(30)
        assert process.log.read_bytes() == b""
        later.start()
        process.let_finish()
        later.join()
        assert process.log.read_bytes() == b"last\n"


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"/no/such/program.*No such file"), Kept([["/no/such/program"]], [tmp_path / "l"], tmp_path):
        pass
