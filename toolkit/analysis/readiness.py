"""How long boots waited until their random number generator was ready. A boot counts once, however many runs looked at it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from toolkit.analysis.frames import Frame, column_names, gather
from toolkit.analysis.stats import median_interval, table_of

__all__ = ["readiness"]

_BOOT = ["host", "guest", "boot_id"]


def readiness(rng_state: Frame, by: str | Sequence[str] = ("regime", "cpu_rdrand", "hwrng_current")) -> pd.DataFrame:
    """The time from boot to a ready CRNG, the median over the boots of each group with its interval.

    Parameters
    ----------
    rng_state : DataFrame of pandas or Dask
        ``rng_state``. Of a boot that several runs looked at, the group is that of the first run (the nearest to the boot), the
        time the earliest that any of them saw, and it is ready if any saw it so.
    by : str or sequence of str
        The columns to group by.

    Returns
    -------
    pandas.DataFrame
        A row a group: the columns of ``by``, then ``boots``, ``n`` (boots whose time is known), ``not_ready`` (boots that no run
        saw ready), ``unknown`` (ready, or not said, and when is not known: the kernel's log no longer told), ``crng_ready_s`` (the
        median of the n, in s; boots not ready are not in it), and its 95 % interval ``low``, ``high`` (NaN of fewer than three).

    Raises
    ------
    TableError
        If a column is missing.

    Examples
    --------
    >>> states = pd.DataFrame({
    ...     "run_id": ["1", "2", "3"], "host": "h", "guest": ["a", "a", "b"], "boot_id": ["x", "x", "y"], "regime": "latched",
    ...     "crng_ready": [False, True, False], "crng_ready_s": [None, 8.6, None],
    ... })
    >>> readiness(states, by="regime")
        regime  boots  n  not_ready  unknown  crng_ready_s  low  high
    0  latched      2  1          1        0           8.6  NaN   NaN
    """
    names = column_names(by)
    rows = gather(rng_state, [*names, "run_id", *_BOOT, "crng_ready", "crng_ready_s"], "readiness")
    rows = rows.sort_values("run_id", kind="stable", ignore_index=True)  # ids of runs sort by time
    boot = rows.groupby(_BOOT, dropna=False, sort=False).ngroup()
    said = rows["crng_ready"].astype("boolean")
    time_s = rows["crng_ready_s"].astype("float64")
    boots = rows.loc[~boot.duplicated(), list(dict.fromkeys(names))].assign(
        time_s=time_s.groupby(boot).min().to_numpy(),
        ready=(said.fillna(False) | time_s.notna()).groupby(boot).any().to_numpy(),
        refused=(~said.fillna(True)).groupby(boot).any().to_numpy(),
    )

    def measure(group: pd.DataFrame) -> dict[str, object]:
        found = median_interval(group["time_s"])
        not_ready = int((group["refused"] & ~group["ready"]).sum())
        return {
            "boots": len(group),
            "n": found.n,
            "not_ready": not_ready,
            "unknown": len(group) - found.n - not_ready,
            "crng_ready_s": found.median,
            "low": found.low,
            "high": found.high,
        }

    return table_of(boots, names, ["boots", "n", "not_ready", "unknown", "crng_ready_s", "low", "high"], measure)
