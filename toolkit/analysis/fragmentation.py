"""In how many pieces allocated files lie, as medians over repeats. How pieces are counted is the extents sensor's business."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from toolkit.analysis.frames import Frame, column_names, gather
from toolkit.analysis.stats import median_interval, table_of

__all__ = ["fragmentation"]


def fragmentation(allocations: Frame, by: str | Sequence[str] = ("host", "filesystem", "method", "size_bytes")) -> pd.DataFrame:
    """Extents and discontinuities, the median of each group with its interval.

    The count of extents is not fragmentation: file systems split what is contiguous on the disk into several. Discontinuities are
    the places where the next byte of the file is not the next byte of the disk.

    Parameters
    ----------
    allocations : DataFrame of pandas or Dask
        ``allocations``; failed ones (with an errno) are counted and left out.
    by : str or sequence of str
        The columns to group by.

    Returns
    -------
    pandas.DataFrame
        A row a group: the columns of ``by``, then ``n`` (files allocated), ``failed``, ``not_listed`` (files whose extents the
        file system could not list), ``not_comparable`` (files whose discontinuities are null, because their extents are
        compressed, shared, inline or not placed), and ``extents``, ``extents_low``, ``extents_high``, ``discontinuities``,
        ``discontinuities_low``, ``discontinuities_high``: medians of the others, 95 % intervals (NaN of fewer than three).

    Raises
    ------
    TableError
        If a column is missing.

    Examples
    --------
    >>> files = pd.DataFrame({"method": "write_4k", "extents": [3, 5, 4], "discontinuities": [2, None, None], "errno": None})
    >>> fragmentation(files, by="method")[["n", "not_comparable", "extents", "extents_low", "extents_high", "discontinuities"]]
       n  not_comparable  extents  extents_low  extents_high  discontinuities
    0  3               2      4.0          3.0           5.0              2.0
    """
    names = column_names(by)
    rows = gather(allocations, [*names, "extents", "discontinuities", "errno"], "fragmentation")

    def measure(group: pd.DataFrame) -> dict[str, object]:
        good = group[group["errno"].isna()]
        found: dict[str, object] = {
            "n": len(good),
            "failed": len(group) - len(good),
            "not_listed": int(good["extents"].isna().sum()),
            "not_comparable": int(good["discontinuities"].isna().sum()),
        }
        for name in ("extents", "discontinuities"):
            middle = median_interval(good[name])
            found |= {name: middle.median, f"{name}_low": middle.low, f"{name}_high": middle.high}
        return found

    counts = ["n", "failed", "not_listed", "not_comparable"]
    measured = [f"{name}{end}" for name in ("extents", "discontinuities") for end in ("", "_low", "_high")]
    return table_of(rows, names, [*counts, *measured], measure)
