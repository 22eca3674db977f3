"""What looks like something that the toolkit left, and is not: planted where it works, and looked at before and after.

Each has something that would be removed if one condition were forgotten: a mark, whose mark, whose folder, a link, a living owner.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.needs import require_tool
from toolkit import mounts

_MIB = 1024 * 1024

_LIVING = """
import sys
from pathlib import Path
from toolkit.scratch_folder import ScratchFolder
with ScratchFolder(Path(sys.argv[1])) as folder:
    (folder / "ext4.image").write_text("of a living owner")
    print(folder, flush=True)
    sys.stdin.read()
"""


def dead_mark(folder: Path, /, **changed: object) -> Path:
    """A mark as an owner that is gone would have left it, but for what is changed."""
    content = {"mark": "virt-toolkit scratch folder, version 1", "folder": folder.name, "uid": os.geteuid()}
    content |= {"pid": 1, "start_ticks": -1, "boot_id": "another boot"}
    mark = folder.with_name(f"{folder.name}.owner")
    mark.write_text(json.dumps({**content, **changed}))
    return mark


@dataclass
class LookAlikes:
    """What was planted: where, and the processes and loop devices."""

    root: Path
    elsewhere: Path
    processes: list[subprocess.Popen[str]]
    loops: list[str]

    def state(self) -> dict[str, object]:
        """All that could change about them: files to the byte and inode, mounts, loop devices, processes."""
        return {
            "files": _tree(self.root) | _tree(self.elsewhere),
            "mounts": [line for line in _lines("/proc/self/mountinfo") if str(self.root.parent) in line],
            "loop devices": [device for device in loop_devices() if str(self.root.parent) in str(device["back-file"])],
            "processes": [_process(process.pid) for process in self.processes],
        }


@contextlib.contextmanager
def planted(root: Path) -> Iterator[LookAlikes]:
    """Plant them in a folder and in ``elsewhere`` beside it."""
    elsewhere = root.with_name("elsewhere")
    elsewhere.mkdir()
    with contextlib.ExitStack() as stack:
        made = LookAlikes(root, elsewhere, [], [])

        def name(number: int) -> Path:
            return root / f"virt-toolkit-{number:016x}"

        def folder(number: int, text: str) -> Path:
            path = name(number)
            path.mkdir(mode=0o700)
            (path / "precious").write_text(text)
            return path

        def image(path: Path) -> None:
            path.write_bytes(bytes(_MIB))
            attached = subprocess.run(
                [require_tool("losetup"), "--find", "--show", path], capture_output=True, text=True, check=True
            )
            made.loops.append(attached.stdout.strip())
            stack.callback(subprocess.run, [require_tool("losetup"), "--detach", made.loops[-1]], check=True)

        def mount(point: Path) -> None:
            point.mkdir()
            mounts.mount("tmpfs", point, "tmpfs", ["size=1m"])
            stack.callback(mounts.unmount, point)
            (point / "precious").write_text("mounted")

        def keep(process: subprocess.Popen[str]) -> None:
            stack.enter_context(process)
            stack.callback(process.kill)
            made.processes.append(process)

        # One of ours that lives: before all others, since its start sweeps.
        living = [sys.executable, "-c", _LIVING, str(root)]
        keep(subprocess.Popen(living, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert made.processes[0].stdout is not None
        assert made.processes[0].stdout.readline()
        # No mark.
        bare = folder(1, "no mark")
        image(bare / "ext4.image")
        mount(bare / "ext4")
        # A mark that is none of ours: another program's, another user's words, another folder's, empty.
        dead_mark(folder(2, "another's mark"), mark="somebody else's folder")
        dead_mark(folder(3, "says another user"), uid=12345)
        dead_mark(folder(4, "of another folder"), folder=name(5).name)
        dead_mark(folder(5, "empty mark")).write_text("")
        # Another user's mark, another user's folder.
        os.chown(dead_mark(folder(6, "another user's mark")), 65534, 65534)
        others = folder(7, "another user's folder")
        dead_mark(others)
        os.chown(others, 65534, 65534)
        # Marked as it should be, and a link to what is not ours.
        precious = elsewhere / "ours-it-is-not"
        precious.mkdir()
        (precious / "precious").write_text("linked")
        image(precious / "ext4.image")
        mount(precious / "ext4")
        name(8).symlink_to(precious)
        dead_mark(name(8))
        # A mark that is a link to a good one.
        linked = dead_mark(folder(9, "linked mark"))
        linked.rename(elsewhere / "mark")
        linked.symlink_to(elsewhere / "mark")
        # Files with our names, and a folder with nearly one.
        image(root / f"{name(10).name}.image")
        (root / "ext4.image").write_text("an image of somebody")
        nearly = root / "virt-toolkit-of-mine"
        nearly.mkdir()
        dead_mark(nearly)
        # A program that is called like ours and works in such a folder.
        command = ["toolkit allocate --filesystem ext4", "1000"]
        keep(subprocess.Popen(command, executable=require_tool("sleep"), cwd=bare, text=True))
        yield made


def clear_up(folder: Path) -> None:
    """After a test that failed: unmount all below a folder; its loop devices then go by themselves."""
    points = [line.split(" ")[4] for line in _lines("/proc/self/mountinfo") if line.split(" ")[4].startswith(f"{folder}/")]
    for point in reversed(points):
        subprocess.run([require_tool("umount"), "--lazy", point], check=True)


def loop_devices() -> list[dict[str, object]]:
    """As losetup lists them."""
    said = subprocess.run([require_tool("losetup"), "--list", "--json"], capture_output=True, check=True).stdout
    found: list[dict[str, object]] = json.loads(said.decode(errors="surrogateescape"))["loopdevices"] if said.strip() else []
    return found


def _tree(folder: Path) -> dict[str, object]:
    return {str(path): _of_file(path) for path in sorted(folder.rglob("*"))}


def _of_file(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    known = (found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_nlink, found.st_mtime_ns, found.st_ctime_ns)
    content = os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return (*known, content)


def _lines(path: str) -> list[str]:
    return Path(path).read_text(errors="surrogateescape").splitlines()


def _process(pid: int) -> tuple[str, ...]:
    """Its name, state, and when it began."""
    said = Path(f"/proc/{pid}/stat").read_text()
    return (said.rpartition(")")[0], said.rpartition(")")[2].split()[0], said.rpartition(")")[2].split()[19])
