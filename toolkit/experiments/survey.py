"""Experiments whose rows go into a store as they come, so that an interruption loses nothing: allocation, and a whole machine.

What each experiment measures is said in its own module; here is only what is asked for, in which order, and its way to the store.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import LabError, ScratchError, UnavailableError, UsageError
from toolkit.experiments.allocation import FRESH_CACHES, Experiment, in_directory, on_scratch
from toolkit.experiments.company import UNDISTURBED, alone
from toolkit.experiments.lab import pair, watch_lab
from toolkit.experiments.plan import plan
from toolkit.experiments.sources import read_sources
from toolkit.experiments.state import rng_state
from toolkit.experiments.watch import watch
from toolkit.filesystems import FILESYSTEMS, can_make, filesystem, may_mount
from toolkit.lab_needs import can_boot
from toolkit.progress import Progress, part, silent
from toolkit.runs import Run
from toolkit.scratch import LeftOut
from toolkit.sensors.sources import BLOCKS_BYTES, SOURCES
from toolkit.turns import check_if_busy

if TYPE_CHECKING:
    import pandas as pd

    from toolkit.store import Store

__all__ = ["Allocations", "Survey"]

# How often rows go to the store: what a machine that goes down takes with it, against how many files there will be.
_BATCH_S = 10.0

# What one measurement of 64 MiB takes, remount and all, in about; only the progress bar's shares depend on it.
_ALLOCATION_S = 0.4
# What it takes to boot two guests without KVM, and to start the agent in them, in about.
_BOOT_S = 25.0


@dataclass(frozen=True)
class Allocations:
    """An allocation experiment as it is asked for.

    Raises
    ------
    UsageError
        When it is made, if a file system, a method, a size, the number of repeats or what to do if busy cannot be meant.
    """

    filesystems: Sequence[str] | None
    methods: Sequence[str] | None
    size_bytes: Sequence[int]
    repeats: int
    directory: Path | None = None
    if_busy: str = "wait"

    def __post_init__(self) -> None:
        if self.directory is not None and self.filesystems:
            raise UsageError(
                "a folder and file systems cannot both be asked for", "A folder is measured on the file system that it lies on."
            )
        check_if_busy(self.if_busy)
        self.count()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a run."""
        return asdict(self)

    def count(self) -> int:
        """How many measurements it asks for."""
        names = ["a folder"] if self.directory else [filesystem(name).name for name in self.filesystems or FILESYSTEMS]
        return len(plan(names, self.methods or None, self.size_bytes, self.repeats, seed=0))

    def record(self, store: Store, run: Run, progress: Progress = silent) -> pd.DataFrame:
        """Measure, storing rows as they come; what had to be left out goes to the table ``capabilities``.

        Returns
        -------
        DataFrame
            Table ``allocations``.
        """
        rows: list[dict[str, Any]] = []
        stored = 0
        with self._experiment(run.seed or 0, progress) as experiment:
            # The doctor has said already, for this run, what cannot be made here.
            known = {f"file system {name}" for name in FILESYSTEMS if not can_make(name).available}
            left_out: list[dict[str, Any]] = [each.row() for each in experiment.left_out if each.capability not in known]
            if self.directory is None:
                detail = "each file system was remounted and the machine's caches dropped before each file"
                left_out.append({"capability": FRESH_CACHES, "available": True, "detail": detail})
            store.append("capabilities", run.frame("capabilities", left_out))
            for each in experiment.left_out:
                warnings.warn(each.warning(), stacklevel=2)
            due = time.monotonic() + _BATCH_S
            try:
                for row in experiment.rows():
                    rows.append(row)
                    if time.monotonic() > due:
                        store.append("allocations", run.frame("allocations", rows[stored:]))
                        stored = len(rows)
                        due = time.monotonic() + _BATCH_S
            finally:
                store.append("allocations", run.frame("allocations", rows[stored:]))
                late = experiment.disturbed_since()
                said = UNDISTURBED in {each.capability for each in experiment.left_out}
                company = [each.row() for each in late] or ([] if said else [alone()])
                store.append("capabilities", run.frame("capabilities", company))
            for each in late:
                warnings.warn(each.warning(), stacklevel=2)
        return run.frame("allocations", rows)

    def _experiment(self, seed: int, progress: Progress) -> AbstractContextManager[Experiment]:
        methods = self.methods or None
        if self.directory is not None:
            return in_directory(
                self.directory, methods, self.size_bytes, self.repeats, seed, if_busy=self.if_busy, progress=progress
            )
        return on_scratch(
            self.filesystems or None, methods, self.size_bytes, self.repeats, seed, if_busy=self.if_busy, progress=progress
        )


@dataclass(frozen=True)
class Survey:
    """All that the toolkit measures of one machine, in one run: the pool, the sources, allocation.

    Attributes
    ----------
    watch_s, interval_s : float
        How long the pool is watched, and how often.
    budget_s : float
        The most that one source with one block size may take.
    allocations : Allocations
        Which files are allocated, where.
    guests_s : float or None
        How long a pair of lab guests is watched, with and without a virtio-rng; None for no guests.
    """

    watch_s: float
    budget_s: float
    allocations: Allocations
    interval_s: float = 0.1
    guests_s: float | None = None

    @classmethod
    def of(
        cls,
        watch_s: float,
        budget_s: float,
        size_bytes: int,
        repeats: int,
        directory: Path | None,
        beside: Path,
        if_busy: str = "wait",
        guests_s: float | None = None,
    ) -> Survey:
        """A survey that allocates in the folder given, else on scratch file systems, else in the folder beside the store."""
        if directory is None and not may_mount().available:
            directory = beside
        allocations = Allocations(None, None, [size_bytes], repeats, directory, if_busy)
        return cls(watch_s, budget_s, allocations, guests_s=guests_s)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a run."""
        return asdict(self)

    def record(self, store: Store, run: Run, progress: Progress = silent) -> pd.DataFrame:
        """Measure all of it, storing rows as they come; what cannot be measured is left out, stored as such and warned of.

        Returns
        -------
        DataFrame
            table, rows: what was stored of each table.
        """
        import pandas as pd

        watched = self.watch_s
        read = watched + self.budget_s * len(SOURCES) * len(BLOCKS_BYTES)
        allocated = read + self.allocations.count() * _ALLOCATION_S
        whole = allocated + (0 if self.guests_s is None else self.guests_s + _BOOT_S)
        store.append("rng_state", rng_state(run=run))
        samples = watch(self.watch_s, self.interval_s, store=store, run=run, progress=part(progress, 0, watched, whole))
        counts = {"entropy_samples": len(samples)}
        with _or_left_out("sources", store, run):
            reads = read_sources(None, None, self.budget_s, run=run, progress=part(progress, watched, read, whole))
            store.append("source_reads", reads)
            counts["source_reads"] = len(reads)
        with _or_left_out("allocation", store, run):
            counts["allocations"] = len(self.allocations.record(store, run, part(progress, read, allocated, whole)))
        # Where they cannot be booted the doctor has said so already, for this run.
        if self.guests_s is not None and can_boot().available:
            with _or_left_out("lab guests", store, run):
                seen = watch_lab(
                    pair(), self.guests_s, self.interval_s, store, run, progress=part(progress, allocated, whole, whole)
                )
                accelerated = {"capability": "how lab guests ran", "available": True, "detail": str(seen.accelerator)}
                store.append("capabilities", run.frame("capabilities", [accelerated]))
                counts["records of lab guests"] = sum(channel.total.records for channel in seen.channels)
        return pd.DataFrame({"table": list(counts), "rows": list(counts.values())})


@contextmanager
def _or_left_out(what: str, store: Store, run: Run) -> Iterator[None]:
    """Go on with the rest of a survey where this machine cannot do one part (too little space, say); the store tells why."""
    try:
        yield
    except (LabError, ScratchError, UnavailableError) as error:
        left_out = LeftOut(what, error.what, error.remedy or None)
        store.append("capabilities", run.frame("capabilities", [left_out.row()]))
        warnings.warn(left_out.warning(), stacklevel=3)
