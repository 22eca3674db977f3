"""A file seen through the layers below it: its extents in a disk image, the image's in a file system, down to the device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from toolkit.analysis.frames import Frame, gather
from toolkit.errors import UsageError
from toolkit.tables import TABLES

__all__ = ["UNMAPPED", "compose"]

#: The flag of a piece of which the layer below holds nothing. The one name among the flags that is not FIEMAP's.
UNMAPPED = "unmapped"

_LAST = "last"
#: Flags of extents whose bytes do not lie one for one at the physical place they name (include/uapi/linux/fiemap.h).
_NOT_LINEAR = {"unknown", "delalloc", "encoded", "data_inline", "data_tail", "not_aligned", UNMAPPED}

Integers = npt.NDArray[np.int64]


def compose(outer: Frame, inner: Frame) -> pd.DataFrame:
    """The extents of files through one more layer.

    Where ``outer`` are extents of files in a guest, whose physical bytes are offsets in its disk image, and ``inner`` the extents
    of the image on the host, the result says where the guest's files lie on the host's device. An extent that the layer below
    holds in several pieces is split where they meet. Composing is associative: any number of layers, in any order of work.

    Parameters
    ----------
    outer : DataFrame of pandas or Dask
        ``extents`` of one file or several.
    inner : DataFrame of pandas or Dask
        ``extents`` of the one file that they lie in.

    Returns
    -------
    pandas.DataFrame
        ``extents``, by file and logical byte: run_id, host, guest, boot_id and file are the outer's; ``logical_byte`` in the
        file and ``physical_byte`` on the lowest layer; ``layer`` counts the layers gone through (0 and 0 give 1); ``flags`` are
        those of both extents. ``physical_byte`` is null where the layer below has a hole (flag ``unmapped``), or where either
        extent does not hold its bytes one for one (compressed, inline, not placed yet).

    Raises
    ------
    TableError
        If a column is missing.
    UsageError
        If ``inner`` is of several files, or its extents overlap.

    Examples
    --------
    >>> common = {"run_id": "r", "host": "h", "guest": None, "boot_id": "b", "layer": 0, "flags": ""}
    >>> file = pd.DataFrame([{**common, "file": "/data", "logical_byte": 0, "physical_byte": 4096, "length_bytes": 8192}])
    >>> image = pd.DataFrame([
    ...     {**common, "file": "disk.img", "logical_byte": 0, "physical_byte": 1048576, "length_bytes": 8192},
    ...     {**common, "file": "disk.img", "logical_byte": 8192, "physical_byte": 65536, "length_bytes": 8192},
    ... ])
    >>> compose(file, image)[["file", "layer", "logical_byte", "physical_byte", "length_bytes"]]
        file  layer  logical_byte  physical_byte  length_bytes
    0  /data      1             0        1052672          4096
    1  /data      1          4096          65536          4096
    """
    columns = TABLES["extents"].columns
    above = gather(outer, columns, "compose").sort_values(["file", "logical_byte"], kind="stable", ignore_index=True)
    below = gather(inner, columns, "compose").sort_values("logical_byte", kind="stable", ignore_index=True)
    begins, ends = _bounds(below)
    files = below["file"].unique()
    if len(files) > 1:
        raise UsageError(
            f"inner is of {len(files)} files ({files[0]}, {files[1]}, …)", "Give the extents of the one that outer lies in."
        )
    if (begins[1:] < ends[:-1]).any():
        raise UsageError("extents of inner overlap, so a byte of it would be in two places", "Give one reading of one file.")

    linear = above["physical_byte"].notna().to_numpy() & ~_not_linear(above)
    row, offset, length, lower = _split(above, linear, begins, ends)
    return _framed(above, below, row, offset, length, lower)


def _split(
    above: pd.DataFrame, linear: npt.NDArray[np.bool_], begins: Integers, ends: Integers
) -> tuple[Integers, Integers, Integers, Integers]:
    """The pieces of each row: which row, where in it, how long, and the lower extent that holds it (-1: none)."""
    lengths = above["length_bytes"].to_numpy(dtype=np.int64)
    start = above["physical_byte"].to_numpy(dtype=np.int64, na_value=0)
    stop = start + lengths
    # The layer below as a row of spans without gaps: a hole before each extent (perhaps of no length), and one after the last.
    edges = np.stack((begins, ends), axis=1).ravel()
    first = np.searchsorted(edges, start, side="right")
    last = np.searchsorted(edges, stop, side="left")
    count = np.where(linear & (lengths > 0), last - first + 1, 1)
    row = np.repeat(np.arange(len(above)), count)
    span = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count) + first[row]
    whole = ~(linear & (lengths > 0))[row]
    limits = np.concatenate(([np.iinfo(np.int64).min], edges, [np.iinfo(np.int64).max]))
    begin = np.where(whole, start[row], np.maximum(limits[np.minimum(span, edges.size)], start[row]))
    end = np.where(whole, stop[row], np.minimum(limits[np.minimum(span + 1, edges.size + 1)], stop[row]))
    lower = np.where(~whole & (span % 2 == 1), span // 2, -1)
    kept = whole | (end > begin)
    return row[kept], (begin - start[row])[kept], (end - begin)[kept], lower[kept]


def _framed(
    above: pd.DataFrame, below: pd.DataFrame, row: Integers, offset: Integers, length: Integers, lower: Integers
) -> pd.DataFrame:
    held = lower >= 0
    place = np.maximum(lower, 0)
    known = held & (below["physical_byte"].notna().to_numpy() & ~_not_linear(below))[place] if len(below) else held
    physical = np.zeros(row.size, dtype=np.int64)
    if known.any():
        start = above["physical_byte"].to_numpy(dtype=np.int64, na_value=0)[row] + offset
        into = start - below["logical_byte"].to_numpy(dtype=np.int64)[place]
        physical = below["physical_byte"].to_numpy(dtype=np.int64, na_value=0)[place] + into
    final = np.append(row[1:] != row[:-1], [True])[: row.size]
    linear = (above["physical_byte"].notna().to_numpy() & ~_not_linear(above))[row]
    ours, theirs = above["flags"].to_numpy(), below["flags"].to_numpy()
    flags = [
        _flags(ours[i], theirs[j] if holds else UNMAPPED if maps else "", end=end)
        for i, j, holds, maps, end in zip(row, place, held, linear, final, strict=True)
    ]
    depth = int(below["layer"].max()) if len(below) else 0
    taken = above.iloc[row].reset_index(drop=True)
    return TABLES["extents"].frame(
        {
            **{name: taken[name] for name in ("run_id", "host", "guest", "boot_id", "file")},
            "layer": taken["layer"] + depth + 1,
            "logical_byte": taken["logical_byte"] + offset,
            "physical_byte": pd.arrays.IntegerArray(physical, ~known),
            "length_bytes": length,
            "flags": pd.Series(flags, dtype="str"),
        }
    )


def _flags(ours: str, theirs: str, *, end: bool) -> str:
    """The flags of both, each once; the end of the file is the upper's alone, and at its last piece."""
    kept = [name for name in ours.split(",") if name and (end or name != _LAST)]
    return ",".join(dict.fromkeys(kept + [name for name in theirs.split(",") if name and name != _LAST]))


def _bounds(extents: pd.DataFrame) -> tuple[Integers, Integers]:
    begins = extents["logical_byte"].to_numpy(dtype=np.int64)
    return begins, begins + extents["length_bytes"].to_numpy(dtype=np.int64)


def _not_linear(extents: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which extents do not hold their bytes one for one; of equal flags once, as there are few."""
    known = {flags: not _NOT_LINEAR.isdisjoint(flags.split(",")) for flags in extents["flags"].unique()}
    return extents["flags"].map(known).to_numpy(dtype=bool)
