"""How long boots waited until their random number generator was ready. A boot counts once, however many runs looked at it.

Of boots made for it, with a budget each, :mod:`toolkit.analysis.boots` tells more; the statistics are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from toolkit.analysis.frames import Frame, column_names, gather
from toolkit.analysis.stats import table_of
from toolkit.analysis.survival import Times, time_to_event

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
        median in s, of the n and the not ready together), and its 95 % interval ``low``, ``high`` (NaN of fewer than three).

    Raises
    ------
    TableError
        If a column is missing.

    Notes
    -----
    A boot that was not ready when it was looked at counts as later than every time known: to leave it out would make the group too
    quick. Where half or more of a group were not ready its median is null, and so is an end of the interval that lies beyond.

    Examples
    --------
    >>> states = pd.DataFrame({
    ...     "run_id": ["1", "2", "3"], "host": "h", "guest": ["a", "a", "b"], "boot_id": ["x", "x", "y"], "regime": "latched",
    ...     "crng_ready": [False, True, False], "crng_ready_s": [None, 8.6, None],
    ... })
    >>> readiness(states, by="regime")
        regime  boots  n  not_ready  unknown  crng_ready_s  low  high
    0  latched      2  1          1        0           NaN  NaN   NaN
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
        waiting = group["refused"] & ~group["ready"]
        # When they were looked at is not told, so they are only known to be later than all that is.
        beyond_s = float(group["time_s"].max()) if group["time_s"].notna().any() else 0.0
        found = time_to_event(Times.of(group["time_s"].mask(waiting, beyond_s), ~waiting))
        return {
            "boots": len(group),
            "n": found.n - found.censored,
            "not_ready": found.censored,
            "unknown": len(group) - found.n,
            "crng_ready_s": found.median,
            "low": found.low,
            "high": found.high,
        }

    return table_of(boots, names, ["boots", "n", "not_ready", "unknown", "crng_ready_s", "low", "high"], measure)
