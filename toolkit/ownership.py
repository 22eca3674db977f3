"""Whose the files are that the toolkit leaves: private to their owner, and never root's in a user's folder.

``sudo toolkit measure --store ~/store`` must leave a store that its user can read, add to and delete. So what root makes in a
folder of somebody else is made with that owner's rights (the file system's user of the one thread, setfsuid(2)) and not handed over
afterwards: the kernel then refuses whatever the owner could not do himself. A link that he puts in the way leads root nowhere that
he could not go, at whatever moment he does it; and on a network file system that trusts no root, it works at all.

What is written, and when, is its writers' business; scratch folders, which do not outlive a run, are root's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

__all__ = ["FILE_MODE", "FOLDER_MODE", "as_owner_of", "make_folders", "private_process"]

#: What is measured on a machine is its owner's business alone.
FOLDER_MODE = 0o700
FILE_MODE = 0o600

# Where libraries keep settings and caches, beside HOME itself: as root, none of them in another user's folders.
_HOMES = (
    *(f"XDG_{kind}_HOME" for kind in ("CACHE", "CONFIG", "DATA", "STATE")),
    *("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"),
)
# setfsuid(2): no user has this number, so it changes nothing and gives the user of now.
_NOBODY_AT_ALL = 2**32 - 1
# path_resolution(7): as many links as the kernel follows in one path.
_MOST_LINKS = 40


@contextlib.contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """Make what the body makes as the owner of a folder, where this is root and the folder is another user's; else change nothing.

    It is about this thread's system calls on files and nothing else. Keep the body to these: Python itself may lie where that user
    cannot read, so nothing may be imported in it, and a thread that it began would keep his rights.

    Parameters
    ----------
    folder : Path
        There or not: the deepest folder on the way to it that is not root's says whose it is.

    Raises
    ------
    PermissionError
        If the owner may not do what the body does, or this root may not act for others (a container that took CAP_SETUID away).
    """
    owner, group = _owner(folder) if os.geteuid() == 0 else (0, 0)
    if owner == 0:
        yield
        return
    import ctypes

    libc = ctypes.CDLL(None)
    for call in (libc.setfsuid, libc.setfsgid):
        call.argtypes, call.restype = [ctypes.c_uint], ctypes.c_uint
    try:
        libc.setfsgid(group)
        libc.setfsuid(owner)
        # Neither says whether it did as it was told.
        if (libc.setfsuid(_NOBODY_AT_ALL), libc.setfsgid(_NOBODY_AT_ALL)) != (owner, group):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(folder))
        yield
    except PermissionError as error:
        said = f"{os.strerror(error.errno or 0)} (root writes there with the rights of its owner, user {owner})"
        raise PermissionError(error.errno, said, error.filename) from error
    finally:
        libc.setfsuid(os.geteuid())
        libc.setfsgid(os.getegid())


def make_folders(folder: Path) -> None:
    """Make a folder and those above it that are missing, all of them private.

    Raises
    ------
    OSError
        If the system refuses, or something else is in the way.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        make_folders(folder.parent)
        make_folders(folder)
    except FileExistsError:
        if not folder.is_dir():
            raise


def private_process() -> None:
    """Have all that this process and its children make private, and as root touch no other user's home and program.

    For a program that begins: it changes the whole process.
    """
    os.umask(0o777 & ~FOLDER_MODE)
    if os.geteuid() == 0:
        _own_home(os.environ)
        _own_bytecode()


def _own_home(environ: MutableMapping[str, str]) -> None:
    """As sudo -H does: the caches of libraries belong into root's home."""
    if _owner(Path(environ.get("HOME") or "/"))[0] != 0:
        environ["HOME"] = pwd.getpwuid(0).pw_dir
    for name in _HOMES:
        if environ.get(name) and _owner(Path(environ[name]))[0] != 0:
            del environ[name]


def _own_bytecode() -> None:
    """In a checkout or an environment of another user, Python is to keep no compiled modules that this user could not delete."""
    package = Path(__file__).parent
    if _owner(package)[0] == 0:
        return
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # What was loaded until now may have been compiled and kept already.
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in ("toolkit", "__main__")]:
        cached = Path(getattr(module, "__cached__", None) or os.devnull)
        with contextlib.suppress(OSError):
            if cached.is_relative_to(package) and cached.lstat().st_uid == 0:
                cached.unlink()
    with contextlib.suppress(OSError):
        if (package / "__pycache__").lstat().st_uid == 0:
            (package / "__pycache__").rmdir()


def _owner(path: Path) -> tuple[int, int]:
    """The user and group of the deepest of all that a path goes through (folders, links) that is not root's; root where all is.

    Whoever has a folder or a link on the way to root's own folder may lead there what was to go elsewhere, so it is his.
    """
    owner = (0, 0)
    at, left, links = Path("/"), list(reversed(path.absolute().parts[1:])), 0
    while left:
        name = left.pop()
        place = at.parent if name == ".." else at / name
        try:
            found = place.lstat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # Nothing is there. Or not even root may look, on a network file system: the kernel will say so to whoever writes.
            break
        if found.st_uid != 0:
            owner = found.st_uid, found.st_gid
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = place.readlink()
            left += reversed([part for part in target.parts if part != target.root])
            at = Path("/") if target.is_absolute() else at
        else:
            at = place
    return owner
