"""What the newest run of each target could measure and what not. Which things a machine can measure is :mod:`toolkit.doctor`'s."""

from __future__ import annotations

import pandas as pd

__all__ = ["newest"]


def newest(capabilities: pd.DataFrame) -> pd.DataFrame:
    """Each capability of each target as its newest run found it: what was missing once and is there now is not missing.

    Parameters
    ----------
    capabilities : DataFrame
        Table ``capabilities``. A run's id sorts by time.

    Returns
    -------
    DataFrame
        Its rows, one a host, guest and capability, in the order they were in.

    Examples
    --------
    >>> rows = pd.DataFrame({
    ...     "run_id": ["2026-2", "2026-1"], "host": "h", "guest": None, "capability": "root", "available": [True, False],
    ... })
    >>> newest(rows)["available"].to_list()
    [True]
    """
    in_time = capabilities.sort_values("run_id", kind="stable")
    return in_time.drop_duplicates(["host", "guest", "capability"], keep="last").sort_index()
