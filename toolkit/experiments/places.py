"""Where files are allocated, and how one file there is measured: made, mapped and removed, on whatever the place then is."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from toolkit import mounts
from toolkit.errors import UnavailableError
from toolkit.experiments.plan import Cell
from toolkit.scratch import ScratchFilesystem
from toolkit.sensors import allocation
from toolkit.sensors.extents import CANNOT_SAY, file_extents

__all__ = ["Place", "measured", "on_filesystem"]


class Place(NamedTuple):
    """Where files are allocated: a file system, or a folder on one.

    ``fresh`` brings it into the state that each measurement begins with, and gives the ``st_dev`` that it then has.
    """

    filesystem: str
    folder: Path
    mkfs_options: str | None
    mount_options: str | None
    fresh: Callable[[], int]


def on_filesystem(made: ScratchFilesystem) -> Place:
    """A scratch file system, remounted before each measurement."""

    def fresh() -> int:
        made.remount()
        return made.device

    return Place(made.name, made.point, made.mkfs_options, made.mount_options, fresh)


def measured(place: Place, cell: Cell) -> dict[str, Any]:
    """Allocate one fresh file, and remove it.

    Raises
    ------
    OSError
        If it could not even be made.
    """
    device = place.fresh()
    folder = os.open(place.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(folder).st_dev != device:
            # Unmounted behind our back: what lies below must not be measured in its name.
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), str(place.folder))
        name = f"{secrets.token_hex(8)}.allocation"
        try:
            found = allocation.allocate(name, cell.method, cell.size_bytes, dir_fd=folder)._asdict()
            if found["errno"] is None:  # what a refused file holds says nothing about its method
                found.update(_fragments(name, folder))
        finally:
            gone = _removed(name, folder)
    finally:
        os.close(folder)
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
