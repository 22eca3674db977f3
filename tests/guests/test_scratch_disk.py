"""The scratch disk of a guest: known for certain before it is written to, and nothing left behind.

virtio-blk is in guests alone: a loop device stands for it, by the one name under which a recorded tree has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.needs import require_root, require_tool
from tests.traces import traces
from toolkit import mounts
from toolkit.errors import UnavailableError
from toolkit.guests.scratch_disk import LABEL, SERIAL, find, make_image

_MIB = 1024 * 1024

# As a job does it, in a process of its own; the disk is where the tree has it.
_MEASURE = """
import functools, json, signal, sys
from pathlib import Path
from toolkit.errors import ToolkitError
from toolkit.guests import scratch_disk

def leave(*_):
    raise SystemExit(143)

signal.signal(signal.SIGTERM, leave)
scratch_disk.find = functools.partial(scratch_disk.find, Path(sys.argv[1]))
try:
    for row in scratch_disk.measured(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), 7):
        print(json.dumps(row), flush=True)
except (ToolkitError, OSError) as error:
    sys.exit(str(error))
"""


def _tree(root: Path, disks: dict[str, tuple[bytes, Path]]) -> Path:
    """A machine's /sys/block and /dev, with disks by their names: each one's serial number, and where it is."""
    (root / "dev").mkdir(parents=True)
    for name, (serial, place) in disks.items():
        (root / "sys/block" / name).mkdir(parents=True)
        (root / "sys/block" / name / "serial").write_bytes(serial)
        (root / "dev" / name).symlink_to(place)
    return root


def _image(path: Path, size_mib: int = 64) -> Path:
    make_image(path, size_mib * _MIB)
    return path


def test_an_image_is_sparse_private_and_labelled_in_its_last_mib(tmp_path: Path) -> None:
    found = _image(tmp_path / "image").stat()
    assert (found.st_size, found.st_mode & 0o777) == (64 * _MIB, 0o600)
    assert found.st_blocks * 512 < _MIB
    content = (tmp_path / "image").read_bytes()
    assert content.index(LABEL) == 63 * _MIB
    with pytest.raises(FileExistsError):
        _image(tmp_path / "image")


@pytest.mark.parametrize("size", [64 * _MIB + 1, 63 * _MIB, 0])
def test_an_image_of_another_size_is_not_made(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="no size of a scratch disk"):
        make_image(tmp_path / "image", size)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("serial", [SERIAL.encode(), SERIAL.encode() + b"\n", SERIAL.encode().ljust(24, b"\0")])
def test_the_disk_with_serial_and_label_is_found(tmp_path: Path, serial: bytes) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(_MIB))
    root = _tree(tmp_path / "root", {"vda": (b"", empty), "vdb": (b"other", empty), "vdc": (serial, _image(tmp_path / "image"))})
    assert find(root) == (root / "dev/vdc", 63 * _MIB)


@pytest.mark.parametrize("name", ["vda", "vdb"])
@pytest.mark.parametrize("damage", ["serial", "label", "place", "other driver", "short"])
def test_a_disk_that_says_only_once_that_it_is_one_is_left_alone(tmp_path: Path, name: str, damage: str) -> None:
    image = _image(tmp_path / "image")
    serial = SERIAL.encode()
    with image.open("r+b") as file:
        if damage == "serial":
            serial = serial[:-1]
        elif damage == "label":
            file.seek(63 * _MIB)
            file.write(LABEL[:10] + b"X")
        elif damage == "place":
            file.truncate(66 * _MIB)
        elif damage == "short":
            file.truncate(1000)
        else:
            name = name.replace("vd", "sd")
    root = _tree(tmp_path / "root", {name: (serial, image)})
    with pytest.raises(UnavailableError, match="has no scratch disk"):
        find(root)


def test_a_machine_without_disks_has_no_scratch_disk(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"has no scratch disk.*--disk"):
        find(tmp_path)


@contextlib.contextmanager
def _disk(folder: Path, size_mib: int = 320) -> Iterator[tuple[Path, Path]]:
    """A block device with a label, and a tree in which it is the scratch disk."""
    require_root()
    with contextlib.ExitStack() as handles:
        device = mounts.attach(_image(folder / "image", size_mib), handles).path
        yield device, _tree(folder / "tree", {"vdb": (SERIAL.encode(), device)})
        for end in (device, folder / "image"):
            with end.open("rb") as disk:
                disk.seek((size_mib - 1) * _MIB)
                assert disk.read(len(LABEL)) == LABEL, "the label is gone"


@contextlib.contextmanager
def _measuring(tree: Path, place: str, repeats: int = 2, size_mib: int = 4) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _MEASURE, str(tree), place, "posix_fallocate", str(size_mib * _MIB), str(repeats)]
    pipe = subprocess.PIPE
    # Where it makes its folders is looked at afterwards.
    environment = {**os.environ, "TMPDIR": str(tree.parent)}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def _rows(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str]:
    out, err = process.communicate(timeout=120)
    return [json.loads(line) for line in out.splitlines()], err


def _left(folder: Path, device: Path) -> list[str]:
    """What a measurement left on the machine, but for what this test made itself."""
    ours = (folder / "image", folder / "tree")
    found = [path for path in folder.iterdir() if path not in ours]
    mounted = [line for line in Path("/proc/mounts").read_text().splitlines() if line.startswith(f"{device} ")]
    # The tree's name for the device is below the folder, and so would be found there.
    return [*map(str, found), *mounted, *(trace for trace in traces(folder) if trace.startswith(("mount", "process")))]


@pytest.mark.root
def test_each_file_system_is_made_before_the_label_and_leaves_nothing(tmp_path: Path) -> None:
    with _disk(tmp_path) as (device, tree):
        for name in ("ext2", "ext4", "ext4-noextents", "xfs", "btrfs"):
            require_tool("mkfs." + name.partition("-")[0])
            with _measuring(tree, "disk:" + name) as process:
                rows, err = _rows(process)
            assert (process.returncode, err) == (0, "")
            assert [(row["filesystem"], row["repeat"], row["position"], row["errno"]) for row in rows] == [
                (name, 0, 7, None),
                (name, 1, 8, None),
            ]
            assert all(row["allocated_bytes"] >= 4 * _MIB and row["mount_options"].startswith("rw") for row in rows)
            assert all(row["mkfs_options"] for row in rows)
            assert _left(tmp_path, device) == []
            with device.open("rb") as disk:
                # It ends where the label's MiB begins.
                disk.seek(319 * _MIB - 512)
                assert disk.read(512) is not None


@pytest.mark.root
def test_a_disk_filled_to_its_end_keeps_its_label(tmp_path: Path) -> None:
    with _disk(tmp_path) as (device, tree):
        for name in ("ext4", "xfs", "btrfs"):
            with _measuring(tree, "disk:" + name, repeats=1, size_mib=1000) as process:
                ((row,), _) = _rows(process)
            assert (process.returncode, row["errno"]) == (0, 28)
            assert _left(tmp_path, device) == []


@pytest.mark.root
def test_a_disk_that_is_mounted_is_not_made_anew(tmp_path: Path) -> None:
    with _disk(tmp_path) as (device, tree), tempfile.TemporaryDirectory() as point:
        subprocess.run([require_tool("mkfs.ext4"), "-q", "-F", str(device), f"{63 * 1024}k"], check=True)
        mounts.mount(str(device), Path(point), "ext4")
        try:
            (Path(point) / "kept").write_text("x")
            with _measuring(tree, "disk:xfs") as process:
                rows, err = _rows(process)
            assert (process.returncode, rows) == (1, [])
            assert "is in use" in err
            assert "Traceback" not in err
            assert (Path(point) / "kept").read_text() == "x"
        finally:
            mounts.unmount(Path(point))


@pytest.mark.root
@pytest.mark.parametrize(
    ("place", "size_mib", "words"),
    [("disk:xfs", 64, "and xfs needs 300"), ("disk:tmpfs", 64, "'tmpfs' can be made"), ("disk:../x", 64, "can be made on a disk")],
)
def test_what_cannot_be_made_on_it_is_said(tmp_path: Path, place: str, size_mib: int, words: str) -> None:
    with _disk(tmp_path, size_mib) as (device, tree):
        with _measuring(tree, place) as process:
            rows, err = _rows(process)
        assert (process.returncode, rows) == (1, [])
        assert words in err
        assert len(err.splitlines()) == 1
        assert _left(tmp_path, device) == []


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_nothing_stays_mounted(tmp_path: Path, number: int) -> None:
    with _disk(tmp_path) as (device, tree):
        with _measuring(tree, "disk:ext4", repeats=200) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            inside = Path(f"/proc/{process.pid}/mounts")
            while str(tree) not in inside.read_text():
                assert process.poll() is None
            process.send_signal(signal.SIGSTOP)
            # Nobody else sees it.
            assert str(tree) not in Path("/proc/mounts").read_text()
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            process.communicate(timeout=60)
        assert process.returncode == (143 if number == signal.SIGTERM else -number)
        assert _left(tmp_path, device) == []
        os.close(os.open(device, os.O_RDWR | os.O_EXCL))
