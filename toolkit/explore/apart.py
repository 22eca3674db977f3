"""Rows that views and findings must not pool, kept apart by their names: machines, guests, and folders beside scratch file systems.

Every view and finding of allocations and reads takes its rows here, not from the session's tables. One median, one interval and one
mark belong to one name, so whatever has a name of its own is never pooled with anything else. Files in two folders of one machine
whose file systems are of one kind share a name: the tables do not say which folder a row is of.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from toolkit.experiments.allocation import FRESH_CACHES
from toolkit.explore.session import Session

__all__ = ["allocations", "in_folders", "places", "source_reads", "targets"]

_FOLDER = " (folder)"
_TARGET = ["host", "guest"]


def in_folders(session: Session) -> pd.Series:
    """Of each row of ``allocations``, whether its file lay in a folder that was there rather than on a scratch file system.

    Nobody made the folder's file system, so its ``mkfs_options`` are null. A scratch tmpfs is not made by a mkfs either: a tmpfs is
    a folder's only if its run says that it could not drop the caches, which no run on scratch file systems says. (Rows of
    :func:`toolkit.allocate` stored without their run's capabilities therefore count a folder on tmpfs as scratch.)
    """
    rows, said = session.table("allocations"), session.table("capabilities")
    without_fresh_caches = said.loc[(said["capability"] == FRESH_CACHES) & ~said["available"].fillna(value=False), "run_id"]
    found: pd.Series = rows["run_id"].isin(without_fresh_caches) | (rows["mkfs_options"].isna() & (rows["filesystem"] != "tmpfs"))
    return found


def allocations(session: Session) -> pd.DataFrame:
    """``allocations``, its file systems named apart: "ext4 (folder)" of a folder, "web1: ext4" where there are several hosts."""
    rows = session.table("allocations")
    names = rows["filesystem"].where(~in_folders(session), rows["filesystem"] + _FOLDER)
    return rows.assign(filesystem=names if rows["host"].nunique() < 2 else rows["host"] + ": " + names)


def places(session: Session) -> list[tuple[str, pd.DataFrame]]:
    """``allocations`` of each host on scratch file systems, and in folders, under their plain names; each with what it is."""
    rows, folders = session.table("allocations"), in_folders(session)
    several = rows["host"].nunique() > 1
    found = []
    for (host, folder), part in rows.groupby(["host", folders.rename("folder")], sort=True):
        kind = "in a folder" if folder else "on scratch file systems"
        found.append((f"{kind} of {host}" if several else kind, part))
    return found


def source_reads(session: Session) -> pd.DataFrame:
    """``source_reads`` of machines, its sources named apart where several targets were read: "web1: getrandom"."""
    rows = session.table("source_reads")
    rows = rows[~rows["boot_id"].isin(session.lab_boots())]
    return rows if len(rows[_TARGET].drop_duplicates()) < 2 else rows.assign(source=_target_of(rows) + ": " + rows["source"])


def targets(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each host and guest, with its name; without a name where there is but one."""
    names = _target_of(rows)
    several = names.nunique() > 1
    for name, part in rows.groupby(names, sort=True):
        yield (str(name) if several else "", part)


def _target_of(rows: pd.DataFrame) -> pd.Series:
    """Guest on host; the host itself by its name alone."""
    found: pd.Series = rows["host"].where(rows["guest"].isna(), rows["guest"] + " on " + rows["host"])
    return found
