"""One file of an experiment, whole: allocated in an open folder by one method, mapped, and removed."""

from __future__ import annotations

import os
import secrets
from typing import Any

from toolkit import mounts
from toolkit.errors import UnavailableError
from toolkit.sensors import allocation
from toolkit.sensors.extents import CANNOT_SAY, file_extents

__all__ = ["measured_in"]


def measured_in(folder: int, method: str, size_bytes: int) -> dict[str, Any]:
    """Allocate one fresh file, map it, and remove it.

    Parameters
    ----------
    folder : int
        A folder's descriptor.
    method : str
        One of :data:`toolkit.sensors.allocation.METHODS`.
    size_bytes : int
        How much.

    Returns
    -------
    dict
        The fields of :class:`toolkit.sensors.allocation.Allocation`, and ``extents`` and ``discontinuities``: null where the file
        system does not say, or they cannot be compared.

    Raises
    ------
    OSError
        If it could not even be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as path:
    ...     folder = os.open(path, os.O_RDONLY)
    ...     found = measured_in(folder, "write_4k", 10_000)
    ...     os.close(folder)
    >>> found["errno"] is None, found["size_bytes"]
    (True, 10000)
    """
    name = f"{secrets.token_hex(8)}.allocation"
    gone: int | None = None
    try:
        found: dict[str, Any] = allocation.allocate(name, method, size_bytes, dir_fd=folder)._asdict()
        if found["errno"] is None:  # what a refused file holds says nothing about its method
            found.update(_fragments(name, folder))
    finally:
        gone = _removed(name, folder)
    found["errno"] = found["errno"] or gone
    return found


def _fragments(name: str, folder: int) -> dict[str, int | None]:
    """The file's extents and discontinuities, each null where the file system does not say or they cannot be compared.

    An error of the disk on the way is no such null: it is the measurement's ``errno``.
    """
    nothing: dict[str, int | None] = {"extents": None, "discontinuities": None}
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        # Its errno is known: the file could not be made, or the file system is gone.
        return nothing
    try:
        extents = file_extents(fd)
    except UnavailableError as error:
        refused = error.__cause__
        if isinstance(refused, OSError) and refused.errno not in CANNOT_SAY:
            return {**nothing, "errno": refused.errno}
        return nothing
    finally:
        os.close(fd)
    return {"extents": len(extents), "discontinuities": extents.discontinuities() if extents.comparable() else None}


def _removed(name: str, folder: int) -> int | None:
    """Unlink the file and write that out; gives the error's number if the file system is past that."""
    try:
        os.unlink(name, dir_fd=folder)
        mounts.sync_filesystem(folder)
    except OSError as error:
        return error.errno
    return None
