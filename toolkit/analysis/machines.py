"""Which machines measured: the runs of a store by the host and the processor they ran on."""

from __future__ import annotations

import pandas as pd

__all__ = ["machines"]


def machines(runs: pd.DataFrame) -> pd.DataFrame:
    """Each machine as its newest run found it; hosts of one name on two processors are two machines.

    A name is no proof: clones share one, and a fleet's hosts may all be called ``localhost``. A new kernel or more memory does not
    make another machine of it.

    Parameters
    ----------
    runs : DataFrame
        Table ``runs``. A guest's runs tell of the guest; they stand for its host only where nothing else does.

    Returns
    -------
    DataFrame
        The newest row of each machine, newest machine first, with ``machine_runs``, how many rows are of it.

    Examples
    --------
    >>> rows = pd.DataFrame({
    ...     "host": "vm", "guest": None, "cpu_model": ["EPYC", "Xeon", "EPYC"],
    ...     "started_utc": pd.to_datetime(["2026-11-21", "2026-11-23", "2026-11-22"]),
    ... })
    >>> machines(rows)[["cpu_model", "machine_runs"]].to_numpy().tolist()
    [['Xeon', 1], ['EPYC', 2]]
    """
    own = runs[runs["guest"].isna() | ~runs["host"].isin(runs.loc[runs["guest"].isna(), "host"])]
    newest_first = own.sort_values("started_utc", ascending=False, kind="stable")
    # An unknown processor is one of its own: whose it is cannot be told.
    counts = newest_first.groupby(["host", "cpu_model"], dropna=False)["started_utc"].transform("size")
    return newest_first.assign(machine_runs=counts).drop_duplicates(["host", "cpu_model"])
