"""Timed reads of this machine's random number sources, as rows of ``source_reads``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from toolkit.errors import UsageError
from toolkit.progress import Progress, silent
from toolkit.runs import Run, begin
from toolkit.sensors.sources import BLOCKS_BYTES, SOURCES, SourceRead, read_source
from toolkit.tables import TABLES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_sources"]


def read_sources(
    sources: Iterable[str] | None = None,
    block_bytes: Iterable[int] | None = None,
    budget_s: float = 1.0,
    *,
    run: Run | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Time reads of random number sources, each source with each block size, one after the other.

    Parameters
    ----------
    sources : iterable of str, optional
        ``getrandom`` or paths of devices; all that Linux has by default.
    block_bytes : iterable of int, optional
        Bytes asked for in one read; 64, 4096 and 65536 by default.
    budget_s : float
        The most that one source with one block size may take, in seconds. A source that is silent costs it all, never more.
    run : Run, optional
        The run that the reads belong to; without one it begins its own.
    progress : Progress, optional
        Called between the measurements.

    Returns
    -------
    pandas.DataFrame
        ``source_reads``: a row a read, in time. ``read_bytes`` as given, also when short; null with ``errno`` when nothing came:
        ENOENT without such a device, EACCES without permission, ENODEV without a driver, ETIMEDOUT when it was silent until the
        end of the budget. No more than 10,000 reads are made of a source and block size.

    Raises
    ------
    UsageError
        If a source, a block size or the budget cannot be meant.
    UnavailableError
        If the process that reads cannot be run.

    Examples
    --------
    >>> reads = read_sources(["/dev/urandom"], [64], budget_s=0.05)
    >>> reads["read_bytes"].iloc[0]
    np.int64(64)
    """
    if isinstance(sources, str):
        raise UsageError(f"sources is one text, {sources!r}", "Give a list of sources.")
    pairs = [
        (source, size)
        for source in (SOURCES if sources is None else tuple(sources))
        for size in (BLOCKS_BYTES if block_bytes is None else tuple(block_bytes))
    ]
    begun = run or begin("toolkit.read_sources()", {"sources_and_block_bytes": pairs, "budget_s": budget_s})
    reads: list[SourceRead] = []
    for done, (source, size) in enumerate(pairs):
        progress(done, len(pairs), f"{source}, {size} bytes at a time")
        reads += read_source(source, size, budget_s)
    progress(len(pairs), len(pairs), "sources read")
    columns = {name: [getattr(read, name) for read in reads] for name in SourceRead._fields}
    common = {name: [value] * len(reads) for name, value in begun.common.items()}
    return TABLES["source_reads"].frame({**common, **columns})
