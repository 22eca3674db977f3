"""The cache of what was fetched for lab guests: a private folder of sets of unpacked packages, each whole or not there.

A set is made beside the others under a name that nobody looks for, and renamed when it is complete. Whoever makes one holds a lock;
after SIGKILL the kernel lets the lock go, and the next who fetches removes what was begun. How packages are got is
:mod:`toolkit.packages`' business, and which ones are worth it that of
:mod:`toolkit.lab_kernels` and :mod:`toolkit.lab_feeders`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.errors import ToolkitError, UnavailableError
from toolkit.ownership import make_folders
from toolkit.progress import Progress, silent

__all__ = ["Package", "PackageSet", "cache_folder", "fetched", "fetched_set", "make_set", "remove_fetched"]

_VARIABLE = "TOOLKIT_CACHE"
_STAMP = "stamp.json"
_TREE = "tree"
_MAKING = "making-"
_LOCK = "lock"
_VERSION = 1

_PAUSE_S = 0.2
#: Another process that fetches is waited for so long; a kernel takes a minute or two.
_PATIENCE_S = 3600.0


@dataclass(frozen=True)
class Package:
    """A package that was unpacked: its name, its version, and how many bytes were downloaded for it."""

    name: str
    version: str
    download_bytes: int


@dataclass(frozen=True)
class PackageSet:
    """Packages unpacked into one folder.

    Attributes
    ----------
    name : str
        Of the set, such as ``kernel-bullseye``.
    suite : str
        The suite of the archive that the packages are from.
    folder : Path
        Where they are unpacked: what is /usr in a package is ``folder / "usr"``.
    packages : tuple of Package
    files, bytes : int
        Regular files in the folder, and their size together.
    """

    name: str
    suite: str
    folder: Path
    packages: tuple[Package, ...]
    files: int
    bytes: int


def cache_folder() -> Path:
    """Where sets are kept: ``$TOOLKIT_CACHE``, else ``virt-toolkit`` in ``$XDG_CACHE_HOME`` or in ~/.cache.

    Examples
    --------
    >>> cache_folder()  # doctest: +SKIP
    PosixPath('/home/ada/.cache/virt-toolkit')
    """
    if chosen := os.environ.get(_VARIABLE):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "virt-toolkit"


def fetched() -> list[PackageSet]:
    """All sets in the cache that are whole, by name. Nothing is made for it.

    Raises
    ------
    UnavailableError
        If the cache is somebody else's, or others may write in it: programs and kernels from it are run.
    """
    cache = cache_folder()
    if not _ours(cache):
        return []
    names = sorted(path.name for path in cache.iterdir() if path.is_dir() and not path.name.startswith(_MAKING))
    return [found for found in map(fetched_set, names) if found is not None]


def fetched_set(name: str) -> PackageSet | None:
    """A set of the cache; None where it was not fetched, or files of it were deleted or changed in size since.

    Raises
    ------
    UnavailableError
        As :func:`fetched`.
    """
    cache = cache_folder()
    if not _ours(cache):
        return None
    try:
        stamp = json.loads((cache / name / _STAMP).read_text(encoding="utf-8"))
        if stamp["version"] != _VERSION:
            return None
        packages = tuple(Package(**package) for package in stamp["packages"])
        found = PackageSet(name, stamp["suite"], cache / name / _TREE, packages, stamp["files"], stamp["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if _measured(found.folder) == (found.files, found.bytes) else None


def make_set(
    name: str,
    suite: str,
    make: Callable[[Path, Path], list[Package]],
    progress: Progress = silent,
    *,
    patience_s: float = _PATIENCE_S,
) -> PackageSet:
    """The set of that name: the one that is there, else one that is made now. It appears whole or not at all.

    Parameters
    ----------
    name, suite : str
        As in :class:`PackageSet`.
    make : callable
        Given two empty folders, one for work and one for the set's tree; gives the packages that it unpacked into the tree.
    progress : Progress
        Told while another process's fetch is waited for.
    patience_s : float
        How long that is done, in seconds.

    Raises
    ------
    UnavailableError
        If the cache cannot be made, is somebody else's, or another process fetches for longer than ``patience_s``.
    ToolkitError
        Whatever ``make`` raises; nothing of the set is left then.
    """
    cache = cache_folder()
    with _refusals(cache):
        make_folders(cache)
    with _locked(cache, progress, patience_s):
        if (there := fetched_set(name)) is not None:
            return there
        with _refusals(cache):
            _remove_begun(cache)
            with tempfile.TemporaryDirectory(dir=cache, prefix=_MAKING, ignore_cleanup_errors=True) as folder:
                work, made = Path(folder) / "work", Path(folder) / "set"
                for each in (work, made, made / _TREE):
                    each.mkdir(mode=0o700)
                packages = make(work, made / _TREE)
                _stamp(made, suite, packages)
                if (cache / name).exists():
                    (cache / name).rename(Path(folder) / "damaged")
                made.rename(cache / name)
    there = fetched_set(name)
    if there is None:
        raise UnavailableError(f"{cache / name} changed while it was made", "Let nothing else write into that folder.")
    return there


def remove_fetched(progress: Progress = silent) -> list[str]:
    """Empty the cache; gives the names of the sets that were in it.

    Raises
    ------
    UnavailableError
        As :func:`make_set`.
    """
    cache = cache_folder()
    if not _ours(cache):
        return []
    with _locked(cache, progress, _PATIENCE_S), _refusals(cache):
        _remove_begun(cache)
        # Nothing is touched that the toolkit did not make: only folders with its stamp.
        names = sorted(path.parent.name for path in cache.glob(f"*/{_STAMP}"))
        for name in names:
            # First out of sight: a set that is removed is not there, rather than damaged.
            gone = cache / f"{_MAKING}removed-{name}"
            (cache / name).rename(gone)
            shutil.rmtree(gone)
    return names


def _ours(cache: Path) -> bool:
    """Whether there is a cache; refuses one in which somebody else could put what is run from it."""
    try:
        found = cache.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UnavailableError(
            f"{cache} cannot be looked at: {error.strerror}", f"Set {_VARIABLE} to a folder of your own."
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise UnavailableError(f"{cache} is no folder", f"Set {_VARIABLE} to a folder of your own.")
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise UnavailableError(
            f"{cache} belongs to another user, or others may write in it, and programs from it are run",
            f"Set {_VARIABLE} to a folder of your own (mode 0700).",
        )
    return True


@contextlib.contextmanager
def _locked(cache: Path, progress: Progress, patience_s: float) -> Iterator[None]:
    _ours(cache)
    with _refusals(cache):
        held = os.open(cache / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            if time.monotonic() > until:
                raise UnavailableError(
                    f"another process has been fetching into {cache} for {patience_s:.0f} s", "Wait until it ends."
                )
            progress(0, 1, "waiting for another process that fetches")
            time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(held)


@contextlib.contextmanager
def _refusals(cache: Path) -> Iterator[None]:
    try:
        yield
    except ToolkitError:
        raise
    except OSError as error:
        said = f"{error.filename or cache}: {error.strerror or error}"
        raise UnavailableError(
            f"Nothing can be kept in {cache}: {said}", f"Make room, or set {_VARIABLE} to another folder."
        ) from error


def _remove_begun(cache: Path) -> None:
    """What somebody began who was killed: with the lock held, nobody is at it any more."""
    for begun in cache.glob(f"{_MAKING}*"):
        shutil.rmtree(begun)


def _stamp(made: Path, suite: str, packages: list[Package]) -> None:
    files, size = _measured(made / _TREE)
    stamp = {"version": _VERSION, "suite": suite, "packages": [asdict(each) for each in packages], "files": files, "bytes": size}
    (made / _STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


def _measured(tree: Path) -> tuple[int, int]:
    """How many regular files there are, and their bytes."""
    files = size = 0
    for folder, _, names in os.walk(tree):
        for name in names:
            found = os.lstat(Path(folder, name))
            if stat.S_ISREG(found.st_mode):
                files, size = files + 1, size + found.st_size
    return files, size
