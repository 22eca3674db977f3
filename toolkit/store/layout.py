"""How the folders and files of a store are named, and how a folder is known to be a store. Names only; no rows.

A host's name comes from a machine and is not trusted: as a folder it is percent-encoded (dots at its beginning too, so that it is
never ``..`` or hidden) and, where that is too long for a file system, cut and told apart by its SHA-256. The true name is in the
rows; the folder only says where to look.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import quote

from toolkit.errors import StoreError
from toolkit.ownership import FILE_MODE, as_owner_of, make_folders

__all__ = [
    "MARKER",
    "check_still_there",
    "date_folder",
    "host_folder",
    "make_store",
    "new_part",
    "newest",
    "revision",
    "store_error",
    "successor",
    "superseded",
    "writing_folder",
]

#: The file at a store's root that says that it is one, and of which layout.
MARKER = "virt-toolkit-store.json"
LAYOUT_VERSION = 1

#: A file that grows: its name, and which revision of it.
_REVISION = re.compile(r"(part-.+)\.r([0-9]{7})\.parquet")

_LONGEST = 180  # of 255 bytes that a name may have on every Linux file system, what is left for "host=" and the SHA-256
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def host_folder(host: str) -> str:
    """The name of a host's folder: safe as one path component, the same each time, and no two hosts the same.

    Examples
    --------
    >>> host_folder("web-1.example"), host_folder("../etc")
    ('host=web-1.example', 'host=%2E%2E%2Fetc')
    """
    shown = host.lstrip(".")
    name = "%2E" * (len(host) - len(shown)) + quote(shown, safe="").replace("~", "%7E")
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 65]}~{hashlib.sha256(host.encode()).hexdigest()}"
    return f"host={name}"


def date_folder(day: date) -> str:
    """The name of a day's folder."""
    return f"date={day.isoformat()}"


def new_part() -> str:
    """The name of a new file: the time, for people, and enough chance that no two writers ever meet."""
    return f"part-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(8)}.parquet"


def revision(part: str, number: int) -> str:
    """The name of a file that grows, as it is for the ``number``-th time.

    Examples
    --------
    >>> revision("part-20260131T120000.000000-00.parquet", 7)
    'part-20260131T120000.000000-00.r0000007.parquet'
    """
    return f"{part.removesuffix('.parquet')}.r{number:07}.parquet"


def successor(path: Path) -> Path | None:
    """The newest revision of a file that grew, and is gone; None where it never did, or has no other."""
    grown = _REVISION.fullmatch(path.name)
    if grown is None:
        return None
    try:
        others = [other.name for other in path.parent.iterdir() if other.name.startswith(f"{grown[1]}.r")]
    except OSError:
        return None
    newest = max((name for name in others if _REVISION.fullmatch(name)), default=path.name)
    return None if newest == path.name else path.with_name(newest)


def superseded(folder: Path) -> list[Path]:
    """Revisions in a folder of which there is a newer one: its writer did not come to remove them."""
    names = sorted(path.name for path in folder.iterdir() if _REVISION.fullmatch(path.name))
    kept = set(newest(names))
    return [folder / name for name in names if name not in kept]


def newest(names: Sequence[str]) -> list[str]:
    """Those of the files' names, sorted, that are not older revisions of another among them.

    Examples
    --------
    >>> newest(["part-1.parquet", "part-2.r0000001.parquet", "part-2.r0000002.parquet"])
    ['part-1.parquet', 'part-2.r0000002.parquet']
    """
    last: dict[str, str] = {}
    for name in names:
        grown = _REVISION.fullmatch(name)
        last[name if grown is None else f"{grown[1]}.r"] = name
    return list(last.values())


def writing_folder(root: Path) -> Path:
    """Where files are while they are written: in the store, so that a rename puts them in place, and never read."""
    return root / ".writing"


def make_store(root: Path, *, create: bool) -> None:
    """See that the folder is a store of a layout that is understood; make it one if it is new or empty, and that is wanted.

    Raises
    ------
    StoreError
        If it is not there and not to be made, holds something else, is of a newer version, or may not be read or made.
    """
    try:
        if create and not root.exists():
            with as_owner_of(root):
                make_folders(root)
        marker = root / MARKER
        if not marker.exists() and _is_to_be_made(root, create=create):
            with as_owner_of(root):
                _write_marker(marker)
        if not marker.is_file() and marker.exists():
            raise ValueError("no file")  # reading a pipe would wait for ever
        said = json.loads(marker.read_text(encoding="utf-8"))
        version = said["layout_version"]
    except OSError as error:
        raise store_error(f"the store {root} cannot be opened", root, error) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{root / MARKER} is damaged, so {root} is not known to be a store", f"Write it anew: {_said()}"
        ) from error
    if version != LAYOUT_VERSION:
        raise StoreError(
            f"{root} is a store of layout {version!r}, and this toolkit knows layout {LAYOUT_VERSION}",
            "Open it with the version of the toolkit that wrote it, or a newer one.",
        )


def check_still_there(root: Path) -> None:
    """See that a store that was opened is still where it was: a disk may go away under it, and what is left is no empty store.

    Raises
    ------
    StoreError
        If it is not.
    """
    try:
        (root / MARKER).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"the store {root} is not there any more: it has no {MARKER}",
            "Look whether its disk is still mounted and its folder where it was, and open it again.",
        ) from error
    except OSError as error:
        raise store_error(f"the store {root} cannot be reached any more", root, error) from error


def _is_to_be_made(root: Path, *, create: bool) -> bool:
    """Whether a folder without a marker is to become a store; not if another has made it one meanwhile."""
    if not root.exists():
        raise StoreError(f"there is no store {root}", "Give the folder of a store, or measure something first.")
    if not root.is_dir():
        raise StoreError(f"{root} is not a folder", "Give the folder of a store, or a new name.")
    with os.scandir(root) as entries:  # what another that makes the store right now is writing is not foreign
        foreign = next((entry.name for entry in entries if not entry.name.startswith(f".{MARKER}")), None)
    # The marker is what a store has first: where there was something to list, it is there by now.
    if (root / MARKER).exists():
        return False
    if foreign is not None:
        raise StoreError(
            f"{root} is not a store: it holds {foreign!r} and no {MARKER}", "Give the folder of a store, or a new or empty one."
        )
    if not create:
        raise StoreError(f"{root} is empty and not a store", "Give the folder of a store, or measure something first.")
    return True


def _write_marker(marker: Path) -> None:
    beside = marker.with_name(f".{marker.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w", encoding="utf-8") as file:
            file.write(_said() + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.rename(marker)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise


def _said() -> str:
    return json.dumps({"format": "virt-toolkit store", "layout_version": LAYOUT_VERSION})


def store_error(what: str, path: Path, error: OSError) -> StoreError:
    """What the system refused, as an error with its remedy."""
    if error.errno in _NO_ROOM:
        remedy = f"There is no room left for {path}: free some, or give another store."
    elif error.errno in _NOT_ALLOWED:
        remedy = f"This user may not write there: give a store of your own, or ask the owner of {path}."
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = "Too many files are open: raise the limit (ulimit -n)."
    else:
        remedy = f"Look after {path}, or give another store."
    return StoreError(f"{what}: {error.strerror if error.errno and error.strerror else error}", remedy)
