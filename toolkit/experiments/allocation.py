"""How long each way to allocate a file takes, and into how many pieces the file falls: on scratch file systems, or in a folder.

In which order is said in :mod:`toolkit.experiments.plan`; where, and how one file is measured there, in
:mod:`toolkit.experiments.places`; how it is allocated and timed, in :mod:`toolkit.sensors.allocation`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import mounts
from toolkit.experiments.company import disturbed
from toolkit.experiments.places import Place, measured, on_filesystem
from toolkit.experiments.plan import Cell, plan, several
from toolkit.filesystems import FILESYSTEMS, can_make, filesystem
from toolkit.images import check_space
from toolkit.progress import Progress, silent
from toolkit.runs import Run, begin
from toolkit.scratch import LeftOut, scratch_filesystems
from toolkit.scratch_folder import ScratchFolder
from toolkit.sensors.write_loop import native_loop
from toolkit.turns import Turn, check_if_busy, turn
from toolkit.units import bytes_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Experiment", "allocate", "allocate_on", "in_directory", "on_scratch"]

_MIB = 1024 * 1024

#: The size of a file where none is said.
SIZE_BYTES = 256 * _MIB

#: The capability that scratch file systems give and a folder cannot.
FRESH_CACHES = "allocation on fresh caches"

#: The capability that a loop of writes in machine code gives.
EXACT_WRITES = "writes timed as in C"

#: Repeats where none are said: the least for which a median's bootstrap interval begins to mean something.
REPEATS = 7


@dataclass
class Experiment:
    """An allocation experiment that is ready to be measured.

    A class of its own so that whoever stores its rows can store each as it comes, and loses nothing when it is interrupted.

    Attributes
    ----------
    cells : list of Cell
        What will be measured, in this order.
    places : dict of Place
        By file system.
    left_out : list of LeftOut
        What was asked for and cannot be measured.
    turn : Turn
        The mark that it holds while it measures.
    """

    cells: list[Cell]
    places: dict[str, Place]
    left_out: list[LeftOut]
    turn: Turn = field(repr=False)
    progress: Progress = field(default=silent, repr=False)

    def disturbed_since(self) -> list[LeftOut]:
        """What is to be said of other experiments that came beside this one later than ``left_out`` was known."""
        known = {each.capability for each in self.left_out}
        return [each for each in disturbed(self.turn) if each.capability not in known]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Measure, one after the other.

        Yields
        ------
        dict
            A row of ``allocations``, without the run's common columns. A measurement that failed has its ``errno``, and null for
            what is not known.
        """
        for position, cell in enumerate(self.cells):
            self.progress(position, len(self.cells), f"{cell.method} of {bytes_text(cell.size_bytes)} on {cell.filesystem}")
            place = self.places[cell.filesystem]
            row = {**cell._asdict(), "position": position, "mkfs_options": place.mkfs_options, "mount_options": place.mount_options}
            try:
                row.update(measured(place, cell))
            except OSError as error:
                row["errno"] = error.errno or errno.EIO
            yield row
        self.progress(len(self.cells), len(self.cells), "all files allocated")


def allocate(
    directory: str | os.PathLike[str],
    methods: Sequence[str] | None = None,
    size_bytes: int | Sequence[int] = SIZE_BYTES,
    repeats: int = REPEATS,
    seed: int | None = None,
    *,
    if_busy: str = "wait",
    run: Run | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Time ways to allocate files in an existing folder; needs no root.

    The files are made in a private folder there, each removed after its measurement. Nothing can be remounted and no caches can be
    dropped: what else happens on that file system is part of what is measured. :func:`allocate_on` does better, as root.

    Parameters
    ----------
    directory : str or path
        An existing folder that one may write in.
    methods : sequence of str, optional
        From :data:`toolkit.sensors.allocation.METHODS`; by default all.
    size_bytes : int or sequence of int
        Sizes of the files.
    repeats : int
        How often each is measured.
    seed : int, optional
        Seed of the random order; by default the run's, or a fresh one.
    if_busy : str
        What to do while another allocation experiment measures on this machine: ``wait`` until it ends, or ``go-on`` beside it,
        to the harm of both experiments' figures.
    run : Run, optional
        The run it belongs to; by default one is begun.
    progress : Progress
        Told between measurements.

    Returns
    -------
    pandas.DataFrame
        Table ``allocations``, a row a file, in the order in which they were made (``position``). ``filesystem`` is what the
        kernel calls the file system that the folder lies on; ``mkfs_options`` is null.

    Warns
    -----
    BusyWarning
        If another experiment is measuring on this machine, before it waits or goes on.
    NotMeasuredWarning
        If another experiment measured at the same time.

    Raises
    ------
    UsageError
        If a method, size, number of repeats or ``if_busy`` cannot be meant, or there is no such folder.
    UnavailableError
        If nothing can be made in the folder.
    ScratchError
        If there is too little space; nothing has been written then.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
    ...     measured = allocate(folder, ["ftruncate", "write_64k"], size_bytes=1_000_000, repeats=2, seed=1)
    >>> measured[["method", "repeat", "position"]].to_dict("list")
    {'method': ['write_64k', 'ftruncate', 'write_64k', 'ftruncate'], 'repeat': [0, 0, 1, 1], 'position': [0, 1, 2, 3]}
    """
    chosen = _seed(seed, run)
    settings = {"directory": os.fspath(directory), "methods": methods, "size_bytes": size_bytes, "repeats": repeats, "seed": chosen}
    begun = run or begin("toolkit.allocate()", settings | {"if_busy": if_busy}, chosen)
    with in_directory(directory, methods, size_bytes, repeats, chosen, if_busy=if_busy, progress=progress) as experiment:
        rows = list(experiment.rows())
        for left_out in disturbed(experiment.turn):
            warnings.warn(left_out.warning(), stacklevel=2)
    return begun.frame("allocations", rows)


def allocate_on(
    filesystems: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    size_bytes: int | Sequence[int] = SIZE_BYTES,
    repeats: int = REPEATS,
    seed: int | None = None,
    *,
    if_busy: str = "wait",
    run: Run | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Time ways to allocate files on scratch file systems made for it; needs root.

    Before each measurement its file system is unmounted, the machine's caches are dropped, and it is mounted again. Each file is
    fresh, and is removed after its measurement. The file systems are gone when it ends, however it ends.

    Parameters
    ----------
    filesystems : sequence of str, optional
        From :data:`toolkit.filesystems.FILESYSTEMS`; by default all.
    methods, size_bytes, repeats, seed, if_busy, run, progress
        As for :func:`allocate`.

    Returns
    -------
    pandas.DataFrame
        Table ``allocations``, a row a file, in the order in which they were made (``position``).

    Warns
    -----
    BusyWarning
        If another experiment is measuring on this machine, before it waits or goes on.
    NotMeasuredWarning
        For each file system that cannot be made here: why, and the remedy. If another experiment measured at the same time.

    Raises
    ------
    UsageError
        If a file system, method, size, number of repeats or ``if_busy`` cannot be meant.
    UnavailableError
        If none of the file systems can be made, as an ordinary user cannot.
    ScratchError
        If there is too little space; nothing has been written then.

    Examples
    --------
    As root:

    >>> measured = allocate_on(["tmpfs", "ext4"], ["fallocate"], size_bytes=2**20, repeats=1, seed=1)
    >>> sorted(measured["filesystem"])
    ['ext4', 'tmpfs']
    """
    chosen = _seed(seed, run)
    settings = {"filesystems": filesystems, "methods": methods, "size_bytes": size_bytes, "repeats": repeats, "seed": chosen}
    begun = run or begin("toolkit.allocate_on()", settings | {"if_busy": if_busy}, chosen)
    with on_scratch(filesystems, methods, size_bytes, repeats, chosen, if_busy=if_busy, progress=progress) as experiment:
        for left_out in experiment.left_out:
            warnings.warn(left_out.warning(), stacklevel=2)
        rows = list(experiment.rows())
        for left_out in experiment.disturbed_since():
            warnings.warn(left_out.warning(), stacklevel=2)
    return begun.frame("allocations", rows)


@contextlib.contextmanager
def on_scratch(
    filesystems: Sequence[str] | None,
    methods: Sequence[str] | None,
    size_bytes: int | Sequence[int],
    repeats: int,
    seed: int,
    *,
    if_busy: str = "wait",
    root: Path | None = None,
    progress: Progress = silent,
) -> Iterator[Experiment]:
    """Make the file systems that :func:`allocate_on` measures on, for the time of a ``with`` block; measure with ``rows()`` in it.

    Making them disturbs others as measuring does, so both are done in this experiment's turn.

    Parameters
    ----------
    filesystems, methods, size_bytes, repeats, seed, if_busy, progress
        As for :func:`allocate_on`; the seed must be said.
    root : Path, optional
        The folder for the images; by default ``$TOOLKIT_SCRATCH``, else /var/tmp.

    Yields
    ------
    Experiment
    """
    names = [filesystem(name).name for name in several(FILESYSTEMS if filesystems is None else filesystems, "file systems")]
    # Refused before anything is made.
    cells = plan(names, methods, size_bytes, repeats, seed)
    check_if_busy(if_busy)
    size = _image_bytes(max(cell.size_bytes for cell in cells))
    # Where nothing can be made there is nothing to wait for: it is refused at once.
    able = any(can_make(name).available for name in names)
    held = turn(if_busy, progress) if able else contextlib.nullcontext(Turn(None))
    with held as mine, scratch_filesystems(names, size, root=root, progress=progress) as scratch:
        places = {name: on_filesystem(made) for name, made in scratch.filesystems.items()}
        possible = [cell for cell in cells if cell.filesystem in places]
        yield Experiment(possible, places, [*scratch.left_out, *_looped(possible), *disturbed(mine)], mine, progress)


@contextlib.contextmanager
def in_directory(
    directory: str | os.PathLike[str],
    methods: Sequence[str] | None,
    size_bytes: int | Sequence[int],
    repeats: int,
    seed: int,
    *,
    if_busy: str = "wait",
    progress: Progress = silent,
) -> Iterator[Experiment]:
    """Prepare what :func:`allocate` measures, for the time of a ``with`` block; measure with ``rows()`` in it.

    Parameters
    ----------
    directory, methods, size_bytes, repeats, seed, if_busy, progress
        As for :func:`allocate`; the seed must be said.

    Yields
    ------
    Experiment
        ``left_out`` says what a folder cannot give that a scratch file system can.
    """
    plan(["a folder"], methods, size_bytes, repeats, seed)
    check_if_busy(if_busy)
    with ScratchFolder(Path(directory)) as folder:
        mounted = mounts.mount_of(folder)
        name = mounted.kernel_type if mounted else "unknown"
        device = folder.stat().st_dev
        place = Place(name, folder, None, mounted.options if mounted else None, lambda: device)
        cells = plan([name], methods, size_bytes, repeats, seed)
        largest = max(cell.size_bytes for cell in cells)
        check_space(folder, largest, f"files of {bytes_text(largest)}")
        left_out = LeftOut(
            FRESH_CACHES,
            f"measured in a folder on {name}: it was not remounted between the files, and no caches were dropped",
            "Run as root without a folder: the toolkit then measures on scratch file systems of its own.",
        )
        # Until here nothing disturbs anybody, and whoever is refused has not waited for it.
        with turn(if_busy, progress) as mine:
            yield Experiment(cells, {name: place}, [left_out, *_looped(cells), *disturbed(mine)], mine, progress)


def _looped(cells: Sequence[Cell]) -> list[LeftOut]:
    """What is to be said where blocks are written by a loop in Python."""
    why_not = native_loop().why_not
    if why_not is None or not any(cell.method.startswith("write_") for cell in cells):
        return []
    return [LeftOut(EXACT_WRITES, f"{why_not}: blocks are written by a loop in Python, and overhead_ns says about what that costs")]


def _seed(seed: int | None, run: Run | None) -> int:
    if seed is not None:
        return seed
    return run.seed if run is not None and run.seed is not None else secrets.randbits(32)


def _image_bytes(largest_bytes: int) -> int:
    """The size of each image: the largest file takes no more than two thirds, and small files do not make a cramped file system."""
    return max(512 * _MIB, 256 * _MIB + largest_bytes * 5 // 4)
