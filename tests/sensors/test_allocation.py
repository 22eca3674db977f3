from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.filesystems_made import MIB, mounted
from toolkit.errors import UsageError
from toolkit.filesystems import FILESYSTEMS
from toolkit.scratch import ScratchFilesystem
from toolkit.sensors import allocation, mapping
from toolkit.sensors.allocation import METHODS, allocate
from toolkit.sensors.write_loop import NativeLoop

_WITHOUT_FALLOCATE = ("ext2", "ext3", "ext4-noextents")
# Whole blocks and a rest, in each of the methods that write.
_SIZE = 3 * MIB + 12_345


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ScratchFilesystem]]:
    with mounted(list(FILESYSTEMS), 300 * MIB, tmp_path_factory.mktemp("allocation")) as filesystems:
        yield filesystems


@pytest.mark.root
@pytest.mark.parametrize("name", FILESYSTEMS)
@pytest.mark.parametrize("method", METHODS)
def test_a_file_is_allocated_in_full_or_says_why_not(made: dict[str, ScratchFilesystem], name: str, method: str) -> None:
    path = made[name].point / method
    done = allocate(str(path), method, _SIZE)
    assert (done.method, done.size_bytes) == (method, _SIZE)
    if method == "fallocate" and name in _WITHOUT_FALLOCATE:
        assert done.errno == errno.EOPNOTSUPP
        assert (done.allocate_ns, done.overhead_ns, done.sync_ns, done.allocated_bytes) == (None, None, None, 0)
    else:
        assert done.errno is None
        assert min(done.allocate_ns, done.overhead_ns, done.sync_ns) >= 0
        assert path.stat().st_size == _SIZE
        assert path.read_bytes() == bytes(_SIZE)
        assert done.allocated_bytes == path.stat().st_blocks * 512
        assert (done.allocated_bytes >= _SIZE) == (method != "ftruncate")
    emulated = name in _WITHOUT_FALLOCATE if method == "posix_fallocate" else None
    assert done.emulated is emulated
    path.unlink()


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "method"),
    [
        (name, method)
        for name in FILESYSTEMS
        for method in METHODS
        if method != "ftruncate" and not (method == "fallocate" and name in _WITHOUT_FALLOCATE)
    ],
)
def test_a_full_file_system_is_an_errno_and_kills_no_one(made: dict[str, ScratchFilesystem], name: str, method: str) -> None:
    path = made[name].point / method
    try:
        with _nearly_full(made[name].point):
            done = allocate(str(path), method, 40 * MIB)
    finally:
        path.unlink()
    # Where space is only reserved at first, it is fsync that finds none.
    assert done.errno == errno.ENOSPC
    assert done.sync_ns is None
    # A file system that is full takes nothing more; now there is room again.
    made[name].remount()
    assert allocate(str(path), method, MIB).errno is None
    path.unlink()


class _nearly_full:  # noqa: N801 - reads as what it does
    """Room for a few MiB only."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def __enter__(self) -> None:
        chunk = bytes(MIB)
        with self._ballast.open("wb", buffering=0) as file:
            while True:
                free = os.statvfs(self._ballast.parent)
                if free.f_bfree * free.f_frsize < 12 * MIB:
                    break
                try:
                    file.write(chunk)
                    os.fsync(file)
                except OSError:
                    break

    def __exit__(self, *_: object) -> None:
        self._ballast.unlink()


@pytest.mark.parametrize("method", METHODS)
def test_a_file_that_is_there_is_not_touched(tmp_path: Path, method: str) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    for taken in (path, link):
        done = allocate(str(taken), method, MIB)
        assert done.errno == errno.EEXIST
        assert done.allocate_ns is None
    assert path.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_that_is_gone_is_an_errno(tmp_path: Path, method: str) -> None:
    done = allocate(str(tmp_path / "missing/file"), method, MIB)
    assert (done.errno, done.allocated_bytes) == (errno.ENOENT, None)


def test_a_path_is_taken_within_the_folder_given(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    assert allocate("file", "ftruncate", 100, dir_fd=folder).errno is None
    os.close(folder)
    assert (tmp_path / "file").stat().st_size == 100
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("method", METHODS)
def test_a_limit_in_the_middle_is_an_errno(tmp_path: Path, method: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB + 100, before[1]))
    try:
        done = allocate(str(tmp_path / "file"), method, 2 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.errno == errno.EFBIG
    if method.startswith("write"):
        # The write that hit the limit was cut short, and what it wrote is there.
        assert (tmp_path / "file").stat().st_size == MIB + 100


@pytest.mark.parametrize("method", ["write_4k", "write_8k", "write_64k"])
@pytest.mark.parametrize("size_bytes", [1, 4095, 4096, 4097, 65536 * 3, 1_000_001])
def test_every_size_is_written_to_the_byte(tmp_path: Path, method: str, size_bytes: int) -> None:
    assert allocate(str(tmp_path / "file"), method, size_bytes).errno is None
    assert (tmp_path / "file").stat().st_size == size_bytes


BLOCKS = {"write_4k": 4096, "write_8k": 8192, "write_64k": 65536}


@pytest.mark.parametrize("method", BLOCKS)
def test_the_kernel_counts_a_system_call_a_block(method: str, tmp_path: Path) -> None:
    def counted() -> int:
        return int(Path("/proc/self/io").read_text().split("syscw: ")[1].split()[0])

    before = counted()
    done = allocate(str(tmp_path / "file"), method, 5 * 65536 + 10)
    assert counted() - before == 5 * 65536 // BLOCKS[method] + 1
    assert (done.errno, (tmp_path / "file").stat().st_size) == (None, 5 * 65536 + 10)


def test_python_writes_are_of_the_size_their_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = os.write

    def counted(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", counted)
    monkeypatch.setattr(allocation, "native_loop", lambda: NativeLoop(None, "not today"))
    monkeypatch.setattr(allocation, "_UNINTERRUPTED", 16 * 1024)
    for method, block in BLOCKS.items():
        sizes.clear()
        allocate(str(tmp_path / method), method, 5 * 65536 + 10)
        assert sizes == [block] * (5 * 65536 // block) + [10]


def test_what_a_short_write_left_out_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(allocation, "native_loop", lambda: NativeLoop(None, "not today"))
    calls = iter(range(10**9))
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:1000] if next(calls) == 3 else data))
    assert allocate(str(tmp_path / "file"), "write_4k", 10 * 4096).errno is None
    assert (tmp_path / "file").stat().st_size == 10 * 4096


def test_the_overhead_of_the_python_loop_grows_with_the_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    monkeypatch.setattr(allocation, "native_loop", lambda: NativeLoop(None, "not today"))
    counts: list[int] = []
    monkeypatch.setattr(allocation, "_lock_ns", lambda: 1e6)
    for position, (method, calls) in enumerate((("write_4k", 16), ("write_64k", 1))):
        done = allocate(str(tmp_path / str(position)), method, 65536)
        # A millisecond a call for the interpreter's lock: 16 of them, or one.
        counts.append(done.overhead_ns // 1_000_000)
        assert calls <= counts[-1] < calls + 15
    assert zlib.crc32(b"", 4096) == 4096  # the call that does nothing gives its number back, as os.write does


def test_sigbus_kills_the_child_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "fake.py"
    fake.write_text("import os, signal; os.kill(os.getpid(), signal.SIGBUS)")
    monkeypatch.setattr(mapping, "__file__", str(fake))
    # Nothing says why here: a write into the hole succeeds.
    assert allocate(str(tmp_path / "file"), "mmap_memset", MIB).errno == errno.EIO


def test_a_killed_child_is_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "fake.py"
    fake.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(mapping, "__file__", str(fake))
    assert allocate(str(tmp_path / "file"), "mmap_memset", MIB).errno == errno.ENOMEM


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    # The parent names itself as the child's parent, starts it on a file too big to be done with soon, and is killed.
    script = f"""
import os, subprocess, sys
from toolkit.sensors import mapping
fd = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT)
command = [sys.executable, "-I", "-S", mapping.__file__, str(fd), str(2**34), str(os.getpid())]
child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(fd,))
child.stdin.write(b"begin")
child.stdin.flush()
while os.fstat(fd).st_size == 0:
    pass
print(child.pid, flush=True)
child.wait()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        handle = os.pidfd_open(child)
        parent.kill()
    import select

    try:
        assert select.select([handle], [], [], 30)[0], "the child outlived its parent"
    finally:
        os.close(handle)


def test_an_interrupt_ends_the_child_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "fake.py"
    fake.write_text(f"import os, signal, time\nos.kill({os.getpid()}, signal.SIGINT)\ntime.sleep(60)")
    monkeypatch.setattr(mapping, "__file__", str(fake))
    before = _children()
    with pytest.raises(KeyboardInterrupt):
        allocate(str(tmp_path / "file"), "mmap_memset", MIB)
    assert _children() == before


def test_a_child_that_its_parent_was_interrupted_before_knowing_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self.pid)
            # As if the signal had come before anything was known of it: what is open is closed when nobody has it any more.
            self._child_created = False
            for pipe in (self.stdin, self.stdout):
                pipe.close()
            raise KeyboardInterrupt

    monkeypatch.setattr(allocation.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        allocate(str(tmp_path / "file"), "mmap_memset", MIB)
    assert os.waitstatus_to_exitcode(os.waitpid(started[0], 0)[1]) == 0
    assert (tmp_path / "file").stat().st_size == 0


def _children() -> set[str]:
    """The children of this process, zombies too; a run of all tests has some of its own."""
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


def test_writes_can_be_interrupted_between_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "_UNINTERRUPTED", 65536)
    parts = iter(range(10**9))

    def interrupting(fd: int, block: bytes, calls: int) -> int:
        if next(parts) == 20:
            signal.raise_signal(signal.SIGINT)
        return calls * os.write(fd, block)

    monkeypatch.setattr(allocation, "native_loop", lambda: NativeLoop(interrupting, None))
    with pytest.raises(KeyboardInterrupt):
        allocate(str(tmp_path / "file"), "write_4k", 10 * MIB)
    assert next(parts) == 21


@pytest.mark.parametrize(("method", "size_bytes"), [("magic", MIB), ("", MIB), ("write_4k", 0), ("write_4k", -1)])
def test_what_cannot_be_meant_is_refused_and_makes_nothing(tmp_path: Path, method: str, size_bytes: int) -> None:
    with pytest.raises(UsageError):
        allocate(str(tmp_path / "file"), method, size_bytes)
    assert list(tmp_path.iterdir()) == []
