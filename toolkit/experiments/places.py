"""Where files are allocated, and how one file there is measured: made, mapped and removed, on whatever the place then is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.experiments.plan import Cell
from toolkit.scratch import ScratchFilesystem
from toolkit.sensors.one_file import measured_in

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
        return measured_in(folder, cell.method, cell.size_bytes)
    finally:
        os.close(folder)
