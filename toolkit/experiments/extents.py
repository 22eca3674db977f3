"""Where a file lies on its device, and where free space does, as tables. How a file came to lie so is other experiments' matter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.runs import Run, begin, storable
from toolkit.sensors.extents import FREE, INLINE, UNPLACED, file_extents, flag_names, space_pages

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

__all__ = ["extents", "free_extents"]

# struct fiemap_extent and struct fsmap (include/uapi/linux/fiemap.h, fsmap.h), in the machine's byte order.
_EXTENT = [("logical", "u8"), ("physical", "u8"), ("length", "u8"), ("reserved64", "u8", 2), ("flags", "u4"), ("reserved", "u4", 3)]
_SEGMENT = [
    ("device", "u4"),
    ("flags", "u4"),
    ("physical", "u8"),
    ("owner", "u8"),
    ("offset", "u8"),
    ("length", "u8"),
    ("reserved", "u8", 3),
]


def extents(path: str | os.PathLike[str], *, run: Run | None = None) -> pd.DataFrame:
    """List all extents of a file (FIEMAP), after its data was written out.

    Parameters
    ----------
    path : str or path
        A regular file.
    run : Run, optional
        The run that asks; by default one is begun.

    Returns
    -------
    pandas.DataFrame
        Table ``extents``, a row an extent, in the file's order; ``layer`` is 0. Empty for a file without extents (empty, or all
        hole). ``physical_byte`` is the file system's own: on btrfs it lies in the space its chunks are mapped into, not on a
        device; null where an extent has no place yet, or is kept among metadata. ``flags`` are FIEMAP's by name.

    Raises
    ------
    UnavailableError
        If the file system cannot say (tmpfs, most network file systems), or the file may not be read.
    UsageError
        If there is no such file, or it is a folder, a pipe or a device.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
    ...     file = pathlib.Path(folder, "disk.img")
    ...     _ = file.write_bytes(bytes(65536))
    ...     found = extents(file)
    >>> int(found["length_bytes"].sum())
    65536
    """
    import numpy as np
    import pyarrow as pa

    begun = run or begin("toolkit.extents()", {"path": os.fspath(path)})
    found = np.frombuffer(file_extents(path, sync=True).records, dtype=_EXTENT)
    flags = pa.array(found["flags"]).dictionary_encode()
    names = pa.array([flag_names(value) for value in flags.dictionary.to_pylist()], pa.string())
    nowhere = (found["flags"] & UNPLACED != 0) | ((found["flags"] & INLINE != 0) & (found["physical"] == 0))
    columns = {
        "file": _repeated(storable(str(Path(path).absolute())), len(found)),
        "layer": pa.array(np.zeros(len(found), np.int64)),
        "logical_byte": _bytes(found["logical"]),
        "physical_byte": _bytes(found["physical"], nowhere),
        "length_bytes": _bytes(found["length"]),
        "flags": pa.DictionaryArray.from_arrays(flags.indices, names),
    }
    return _frame("extents", begun, columns, len(found))


def free_extents(path: str | os.PathLike[str], *, run: Run | None = None, ageing: str | None = None) -> pd.DataFrame:
    """List the free extents of the file system that a path lies on (FS_IOC_GETFSMAP).

    Parameters
    ----------
    path : str or path
        Any file or folder on it.
    run : Run, optional
        The run that asks; by default one is begun.
    ageing : str, optional
        How the file system was aged before.

    Returns
    -------
    pandas.DataFrame
        Table ``free_extents``, a row a free extent of the device the data is on, in its order. ``filesystem`` is the kernel's name.

    Raises
    ------
    UnavailableError
        If the file system cannot say: of the common ones only ext2, ext3, ext4 and xfs do.
    UsageError
        If there is no such path.
    """
    import numpy as np

    from toolkit.mounts import mount_of

    begun = run or begin("toolkit.free_extents()", {"path": os.fspath(path), "ageing": ageing})
    pages = [np.empty((2, 0), np.uint64)]
    for device, records in space_pages(path):
        page = np.frombuffer(records, dtype=_SEGMENT)
        free = page[(page["flags"] & FREE[0] != 0) & (page["owner"] == FREE[1]) & (page["device"] == device)]
        pages.append(np.stack([free["physical"], free["length"]]))
    physical, length = np.concatenate(pages, axis=1)
    mounted = mount_of(Path(path))
    columns = {
        "filesystem": _repeated(mounted.kernel_type if mounted else "unknown", len(length)),
        "ageing": _repeated(ageing, len(length)),
        "physical_byte": _bytes(physical),
        "length_bytes": _bytes(length),
    }
    return _frame("free_extents", begun, columns, len(length))


def _frame(name: str, run: Run, columns: Mapping[str, pa.Array], rows: int) -> pd.DataFrame:
    """Through Arrow rather than lists of Python values: a million extents take a moment, not seconds."""
    import pyarrow as pa

    from toolkit.conform import to_pandas

    common = {column: _repeated(value, rows) for column, value in run.common.items()}
    return to_pandas(name, pa.table({**common, **columns}))


def _repeated(value: str | None, rows: int) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    if value is None:
        return pa.nulls(rows, pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([value]))


def _bytes(values: np.ndarray[Any, np.dtype[np.uint64]], nowhere: np.ndarray[Any, np.dtype[np.bool_]] | None = None) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    return pa.array(values.astype(np.int64), mask=nowhere)
