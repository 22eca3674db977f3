"""What a notebook shows: which store was chosen and why, its tables read once, and a block that says so."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from toolkit import share
from toolkit.errors import ToolkitWarning, UsageError
from toolkit.explore import findings
from toolkit.explore.tables import library
from toolkit.explore.view import display_html
from toolkit.markup import Fragment, bullets, paragraph, sentence
from toolkit.store import open_store
from toolkit.tables import TABLES

if TYPE_CHECKING:
    from toolkit.store import Store

__all__ = ["COMMANDS", "MEASURE", "Session", "open"]

#: The command that fills a table, for the sentence that says that it is empty.
COMMANDS = {
    "entropy_samples": "toolkit watch",
    "system_samples": "toolkit watch",
    "source_reads": "toolkit sources",
    "allocations": "toolkit allocate",
    "extents": "toolkit extents FILE",
    "boots": "toolkit lab readiness",
    "drain_reads": "toolkit lab drain",
    "audits": "toolkit guests audit",
}
#: The command that measures everything.
MEASURE = "make report"


# How runs begin whose guests were made for a measurement.
_LAB = "toolkit lab "


@dataclass
class Session:
    """A store, which of its rows are meant, and why this store.

    Why a class: every cell of a notebook shows the same rows, read once.

    Attributes
    ----------
    store : Store
        The store.
    path : Path
        Its folder.
    why : str
        Why this one was chosen.
    host, run : str or None
        The rows meant; None for all.
    """

    store: Store
    path: Path
    why: str
    host: str | None = None
    run: str | None = None
    _read: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)

    @property
    def is_reference(self) -> bool:
        """Whether the store is the one that comes with the toolkit."""
        return share.is_reference_store(self.path)

    def table(self, name: str) -> pd.DataFrame:
        """Rows of a table that are meant, read once; warnings about damaged files are shown where they occur."""
        if name not in self._read:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ToolkitWarning)
                self._read[name] = self.store.read(name, host=self.host, run=self.run)
            if caught:
                display_html(bullets(str(each.message) for each in caught))
        return self._read[name]

    def lab_boots(self) -> frozenset[str]:
        """Boots of guests made to measure limits and readers at once: views of machines leave them to views of their own."""
        runs, reads = self.table("runs"), self.table("source_reads")
        lab = runs.loc[runs["command"].str.startswith(_LAB).fillna(value=False).astype(bool), "run_id"]
        of_lab = reads["guest"].notna() & reads["run_id"].isin(lab)
        return frozenset({*self.table("drain_reads")["boot_id"], *reads.loc[of_lab, "boot_id"]})

    def lacks(self, name: str) -> Fragment | None:
        """The sentence that says that a table is not there and what fills it; None if it is there."""
        if len(self.table(name)):
            return None
        command = COMMANDS.get(name, MEASURE)
        some = " for the host and run chosen" if self.host or self.run else ""
        return paragraph(sentence("Table <code>{}</code> is not in this store{}: run <code>{}</code>.", name, some, command))

    def about(self) -> None:
        """Show which store this is, and which machines and runs are in it."""
        display_html(self.description())

    def description(self) -> Fragment:
        """What :meth:`about` shows."""
        warning = (
            sentence(
                "<strong>These are the figures of another machine</strong>, recorded when the toolkit was made. "
                "To measure this machine run <code>{}</code>, or one of the commands below.",
                MEASURE,
            )
            if self.is_reference
            else sentence("")
        )
        rows = [sentence("{}: {} rows", name, f"{len(self.table(name)):,}") for name in TABLES if name in self.store.tables()]
        tables = bullets(rows) if rows else paragraph("There is no table in this store yet.")
        return Fragment(
            paragraph(sentence("Store shown: <code>{}</code> ({}).", _short(self.path), self.why), warning)
            + paragraph(*findings.machines(self.table("runs"), self.host, self.run))
            + f"<details><summary>Tables in this store</summary>{tables}</details>"
        )


def open(store: str | Path | None = None, host: str | None = None, run: str | None = None) -> Session:  # noqa: A001
    """Open the store that a notebook shows.

    Parameters
    ----------
    store : str or Path, optional
        The store's folder. Without it: the one that ``TOOLKIT_STORE`` names, else ``store`` here or one folder up, else the
        reference store.
    host, run : str, optional
        Show this host or run alone.

    Raises
    ------
    UsageError
        If the host or the run is not in the store; the message lists those there are.
    StoreError
        If the store cannot be opened.
    """
    path, why = _choose(store)
    session = Session(open_store(path, create=False), path, why, host, run)
    _check(session, "host", host)
    _check(session, "run_id", run)
    display_html(library())
    return session


def _choose(store: str | Path | None) -> tuple[Path, str]:
    if store is not None:
        return Path(store), "as given"
    if os.environ.get("TOOLKIT_STORE"):
        return Path(os.environ["TOOLKIT_STORE"]), "named by TOOLKIT_STORE"
    for folder, why in ((Path("store"), "the store in this folder"), (Path("..") / "store", "the store beside this folder")):
        if folder.is_dir():
            return folder.resolve(), why
    return share.reference_store(), "the reference store that comes with the toolkit"


def _check(session: Session, column: str, wanted: str | None) -> None:
    if wanted is None:
        return
    there = sorted(session.store.read("runs", columns=[column])[column].unique())
    if there and wanted not in there:
        listed = ", ".join(there[-10:])
        raise UsageError(f"there is no {column.removesuffix('_id')} {wanted!r} in this store", f"There are: {listed}.")


def _short(path: Path) -> str:
    """The path as its reader knows it: below the working folder without what leads there."""
    whole, here = path.resolve(), Path.cwd().resolve()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)
