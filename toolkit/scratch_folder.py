"""A private folder that is certain to be removed, with all that was mounted in it or attached from it.

Three things see to that. Removal goes by what is found (mounts below the folder, loop devices of its files, then the folder), not
by what was noted, so that nothing is missed which was made just before an interruption. SIGINT, SIGTERM and SIGHUP end the work as
an exception, and wait while the removal is under way. And beside the folder lies its owner's mark, locked: after SIGKILL the kernel
lets the lock go, and the next start in the same place removes what is marked and has no owner any more; nothing else is touched.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import time
import warnings
import weakref
from pathlib import Path
from types import TracebackType

from toolkit import mounts
from toolkit.errors import ToolkitWarning, UnavailableError, UsageError
from toolkit.signals import Signals

__all__ = ["ScratchFolder", "remove_leftovers", "scratch_root"]

_ROOT_VARIABLE = "TOOLKIT_SCRATCH"
# Unlike /tmp it is kept on disk, not in memory.
_ROOT = "/var/tmp"  # noqa: S108 - the folder made there has a random name and mode 0700

_MAGIC = "virt-toolkit scratch folder, version 1"
_OWNER = re.compile(r"(virt-toolkit-[0-9a-f]{16})\.owner")
_OWNER_SUFFIX = ".owner"

# How long a mount or a loop device that is in use is waited for.
_PATIENCE_S = 5.0
_PAUSE_S = 0.02


def scratch_root() -> Path:
    """The folder in which scratch folders are made: ``$TOOLKIT_SCRATCH``, else /var/tmp."""
    return Path(os.environ.get(_ROOT_VARIABLE) or _ROOT)


class ScratchFolder:
    """A private, empty folder for the time of a ``with`` block; what an owner that is gone left in the same place is removed first.

    Parameters
    ----------
    root : Path, optional
        The existing folder it is made in; by default :func:`scratch_root`.

    Raises
    ------
    UsageError
        If there is no such folder.
    UnavailableError
        If nothing can be made in it.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = scratch_root() if root is None else root
        self._signals = Signals()
        self._removal: weakref.finalize[..., ScratchFolder] | None = None

    def __enter__(self) -> Path:
        self._signals.begin()
        try:
            root = _existing(self._root)
            self._signals.hold()
            remove_leftovers(root)
            path = self._make(root)
            self._signals.resume()
        except BaseException as error:
            self._remove(type(error))
            raise
        return path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            # The last moment at which a signal may still raise is before this line has run; then the finally clause removes.
            self._signals.hold()
        finally:
            self._remove(kind)

    def _make(self, root: Path) -> Path:
        path = root / f"virt-toolkit-{secrets.token_hex(8)}"
        try:
            lock = _marked(path)
        except OSError as error:
            raise UnavailableError(
                f"Nothing can be made in {str(root)!r}: {os.strerror(error.errno or 0)}",
                f"Set {_ROOT_VARIABLE} to a folder you may write in, or pass another one.",
            ) from error
        # Also runs when the interpreter ends or the object is dropped without __exit__; never in a forked child.
        self._removal = weakref.finalize(self, _dropped, path, lock, os.getpid(), self._signals)
        path.mkdir(mode=0o700)
        return path

    def _remove(self, kind: type[BaseException] | None) -> None:
        self._signals.hold()
        try:
            removal = self._removal.detach() if self._removal is not None else None
            if removal is not None:
                folder, lock, owner, _ = removal[2]
                _remove_if_owner(folder, lock, owner)
        finally:
            self._signals.end(ending=kind is not None and not issubclass(kind, Exception))


def remove_leftovers(root: Path) -> list[Path]:
    """Remove the scratch folders whose owner is gone, and nothing else.

    Removed is what carries a valid mark of this user whose lock can be had and whose process is gone. A folder that only looks
    like one (our name without a mark, another user's, a link, a live owner's) stays.

    Returns
    -------
    list of Path
        The folders that were removed.
    """
    removed = []
    for mark in sorted(root.glob("virt-toolkit-*" + _OWNER_SUFFIX)):
        try:
            lock = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            # A link, another user's, or gone meanwhile: not ours to remove.
            continue
        try:
            if _owner_is_gone(mark, lock):
                folder = mark.with_suffix("")
                _remove_all(folder, mark)
                removed.append(folder)
        finally:
            os.close(lock)
    return removed


def _existing(root: Path) -> Path:
    try:
        there = root.is_dir()
    except OSError as error:
        raise UnavailableError(
            f"{str(root)!r} cannot be looked at: {os.strerror(error.errno or 0)}",
            f"Give another folder, or set {_ROOT_VARIABLE} to one.",
        ) from error
    if not there:
        raise UsageError(f"{str(root)!r} is not a folder", f"Give one that exists, or set {_ROOT_VARIABLE} to one.")
    # As the kernel names it in mountinfo and for loop devices.
    return root.resolve()


def _mark_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _OWNER_SUFFIX)


def _marked(folder: Path) -> int:
    """Put the mark of a folder to be made into place, complete and locked from the first moment; gives the lock.

    The mark comes before the folder and goes after it, so that no SIGKILL leaves a folder without one. The descriptor is closed on
    exec: a mkfs that outlives us does not keep the lock.
    """
    content = {"mark": _MAGIC, "folder": folder.name, "uid": os.geteuid(), "pid": os.getpid()}
    content |= {"start_ticks": _start_ticks(os.getpid()), "boot_id": _boot_id()}
    mark = _mark_of(folder)
    try:
        lock = os.open(folder.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        nameless = True
    except OSError as error:
        # open(2): what a file system without O_TMPFILE says. There the mark is empty for a moment; an empty one is never removed.
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
        lock = os.open(mark, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC, 0o600)
        nameless = False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, json.dumps(content).encode())
        if nameless:
            # With a src_dir_fd Python calls linkat, which follows /proc's link; link(2) would not.
            os.link(f"/proc/self/fd/{lock}", mark, src_dir_fd=lock, follow_symlinks=True)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _owner_is_gone(mark: Path, lock: int) -> bool:
    """Whether this is a valid mark of ours whose owner has ended; if so its lock is held on return."""
    found = os.fstat(lock)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or not _OWNER.fullmatch(mark.name):
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        content = json.loads(os.read(lock, 4096))
        # Whoever held the lock before may have removed the mark, and another may lie there now.
        if not os.path.samestat(mark.lstat(), found) or content["mark"] != _MAGIC or content["folder"] != mark.stem:
            return False
        if content["uid"] != os.geteuid() or not _ours_or_absent(mark.with_suffix("")):
            return False
        gone: bool = content["boot_id"] != _boot_id() or _start_ticks(content["pid"]) != content["start_ticks"]
    except (OSError, ValueError, TypeError, KeyError):
        # Locked by a live owner, gone meanwhile, or not a mark of ours.
        return False
    return gone


def _ours_or_absent(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_ticks(pid: int) -> int | None:
    """When a process began, in ticks since boot (field 22 of /proc/PID/stat); None if it has ended, a zombie or gone."""
    try:
        text = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _dropped(folder: Path, lock: int, owner: int, signals: Signals) -> None:
    signals.hold()
    try:
        _remove_if_owner(folder, lock, owner)
    finally:
        signals.end()


def _remove_if_owner(folder: Path, lock: int, owner: int) -> None:
    """Remove the folder, but not from a forked child: ``owner`` is the process that made it."""
    if os.getpid() != owner:
        return
    try:
        _remove_all(folder, _mark_of(folder))
    finally:
        os.close(lock)


def _remove_all(folder: Path, mark: Path) -> None:
    """Unmount, detach, delete; a warning names what someone keeps in use, and what could not be removed."""
    problems = _unmount_below(folder)
    try:
        problems += _detach_below(folder)
        if not mounts.mounts_below(folder):
            _delete(folder)
            mark.unlink(missing_ok=True)
    except OSError as error:
        # Of its disk, perhaps, which cannot even be read any more.
        problems.append(f"{folder} cannot be removed: {error.strerror}")
    if problems:
        # A warning, not an error: what was measured is still good, and must not be lost over it.
        what = f"Scratch files are left: {'; '.join(problems)}. End what uses them; the next start tries again."
        warnings.warn(ToolkitWarning(what), stacklevel=2)


def _delete(folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            # A child of ours that is just ending may still add a file.
            if error.errno != errno.ENOTEMPTY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)


def _unmount_below(folder: Path) -> list[str]:
    problems: list[str] = []
    deadline = time.monotonic() + _PATIENCE_S
    while found := mounts.mounts_below(folder):
        point = found[0].point
        try:
            mounts.unmount(point)
        except OSError as error:
            if error.errno == errno.EBUSY:
                _let_go_of_mounted(point)
            # EINVAL: somebody else unmounted it first.
            if time.monotonic() < deadline and error.errno in (errno.EBUSY, errno.EINVAL):
                time.sleep(_PAUSE_S)
                continue
            users = _users(point)
            try:
                mounts.unmount(point, detach_busy=True)
            except OSError as stuck:
                return [*problems, f"{point} cannot be unmounted ({stuck.strerror}) and is in use by {users}"]
            problems.append(f"{point} was unmounted, but is in use by {users}")
    return problems


def _let_go_of_mounted(point: Path) -> None:
    """Let go of what we ourselves have open on a file system of ours."""
    with contextlib.suppress(OSError):  # of its disk, whose files cannot be told then
        device = point.stat().st_dev
        # The same: it was unmounted meanwhile.
        if device != point.parent.stat().st_dev:
            mounts.let_go(lambda ours: ours.st_dev == device)


def _let_go_of_device(path: Path) -> None:
    number = path.stat().st_rdev
    mounts.let_go(lambda ours: stat.S_ISBLK(ours.st_mode) and ours.st_rdev == number)


def _users(point: Path) -> str:
    with contextlib.suppress(OSError):
        found = mounts.holders(point.stat().st_dev)
        if found:
            return ", ".join(found)
    return "someone who cannot be seen from here"


def _detach_below(folder: Path) -> list[str]:
    deadline = time.monotonic() + _PATIENCE_S
    while devices := mounts.attached_below(folder):
        # The kernel lets go at the last close; udev may have the device open for a moment.
        busy = [device for device in devices if not mounts.detach(device)]
        if not busy:
            break
        for device in busy:
            _let_go_of_device(device)
        if time.monotonic() > deadline:
            return [f"{device} is in use, and is detached when that ends" for device in busy]
        time.sleep(_PAUSE_S)
    return []
